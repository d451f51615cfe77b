// json_text.h: JSON to text where it may hold what users typed: paths, expressions, lines of text.
// Called by the manifest's and the run folder's writers and by the verbs' --json. Easy to break:
// dump() by itself throws at a byte that is no UTF-8, as in the name of a Latin-1 file, and a
// finished build would be lost for it. Test: ctest -R shard_build.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace minibert {

/// Bytes that are no UTF-8 become U+FFFD. indent: blanks a level; -1 is one line.
template <typename Json>
std::string json_text(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', /* ensure_ascii= */ false, Json::error_handler_t::replace);
}

}  // namespace minibert
