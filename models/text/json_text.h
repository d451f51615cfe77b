// json_text.h: writes JSON that may hold user input: paths, expressions, lines of text.
// Called by the writers of manifests and run.json and by the verbs' --json. Easy to break: dump()
// by itself throws at a byte that is not UTF-8, as in a Latin-1 file name, and a finished build
// would be lost. Test: ctest -R shard_build.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace minibert {

/// Bytes that are not UTF-8 become U+FFFD. indent: blanks per level; -1 writes one line.
template <typename Json>
std::string json_text(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', /* ensure_ascii= */ false, Json::error_handler_t::replace);
}

}  // namespace minibert
