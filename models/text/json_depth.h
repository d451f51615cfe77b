// json_depth.h: parses JSON, and refuses before what is nested too deeply. Called by every reader of JSON files
// that others may have written. Easy to break: nlohmann's parser and destructor take any depth, but its dump(),
// copies and comparisons recurse, so that a file of 100,000 brackets would end the program. Test: ctest -R json_depth.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace minibert {

/// Levels of [ and {. Files of models, data and runs have less than ten.
inline constexpr int kDeepestJson = 200;

/// Whether brackets outside of strings are nested more than kDeepestJson deep. What is not JSON is the parser's
/// business: up to its first fault both see the same brackets.
inline bool json_too_deep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

/// Errors: DataError, or the given one, naming `source`.
template <typename E = DataError>
void check_json_depth(std::string_view text, std::string_view source) {
  MB_CHECK_AS(E, !json_too_deep(text),
              "{}: its JSON is nested more than {} levels deep, expected a few: the file is "
              "damaged or of another "
              "kind. Copy it again from where it came from",
              source, kDeepestJson);
}

/// The value of a text; is_discarded() if it is no JSON, or nested too deeply.
template <typename Json = nlohmann::json>
Json parse_json(std::string_view text) {
  return Json::parse(json_too_deep(text) ? std::string_view() : text, nullptr,
                     /* allow_exceptions= */ false);
}

/// The same, but with check_json_depth()'s error for what is nested too deeply.
template <typename E = DataError, typename Json = nlohmann::json>
Json parse_shallow_json(std::string_view text, std::string_view source) {
  check_json_depth<E>(text, source);
  return Json::parse(text, nullptr, /* allow_exceptions= */ false);
}

}  // namespace minibert
