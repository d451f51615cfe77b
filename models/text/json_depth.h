// json_depth.h: parses JSON, but refuses what is nested too deeply or would take too much memory. Called
// by every reader of JSON that others may have written. Easy to break: nlohmann's parser and destructor
// take any depth, but its dump(), copies and comparisons recurse: a file of 100,000 brackets would end
// the program. Test: ctest -R json_depth.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace minibert {

/// Levels of [ and {. Files of models, data and runs have less than ten.
inline constexpr int kDeepestJson = 200;
/// Values that a line, a header or a file of settings may hold. A parsed value takes 16 to 180
/// bytes, so that 64 MiB of `1,` or `{},` would take 1 to 2 GB.
inline constexpr size_t kMostJsonValues = size_t{1} << 21;

/// Whether `stop(char)` is true of a character outside of strings. What is not JSON is the parser's
/// business: up to its first fault both see the same brackets.
template <typename Stop>
bool any_outside_strings(std::string_view text, const Stop& stop) {
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (stop(c)) {
      return true;
    }
  }
  return false;
}

/// Whether brackets outside of strings are nested more than kDeepestJson deep.
inline bool json_too_deep(std::string_view text) {
  int depth = 0;
  return any_outside_strings(text, [&](char c) {
    depth += (c == '[' || c == '{') - (c == ']' || c == '}');
    return depth > kDeepestJson;
  });
}

/// Whether a text has more than kMostJsonValues: one for each comma and bracket outside of strings.
inline bool json_too_large(std::string_view text) {
  if (text.size() <= kMostJsonValues) return false;
  size_t values = 1;
  return any_outside_strings(text, [&](char c) {
    values += c == ',' || c == '[' || c == '{';
    return values > kMostJsonValues;
  });
}

/// What is wrong with a line of JSON before it is parsed, or "".
inline std::string json_excess(std::string_view line) {
  if (json_too_deep(line)) return fmt::format("nested more than {} levels deep", kDeepestJson);
  if (json_too_large(line)) return fmt::format("made of more than {} values", kMostJsonValues);
  return "";
}

/// What the parser says, without its own name and number.
inline std::string_view parser_detail(const nlohmann::json::exception& error) {
  const std::string_view what = error.what();
  const size_t detail = what.find("] ");
  return detail == std::string_view::npos ? what : what.substr(detail + 2);
}

/// Errors: DataError, or the given one, naming `source`.
template <typename E = DataError>
void check_json_size(std::string_view text, std::string_view source) {
  MB_CHECK_AS(E, !json_too_large(text),
              "{}: its JSON holds more than {} values, expected fewer: the file is damaged or of "
              "another kind. Copy it again from where it came from",
              source, kMostJsonValues);
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

/// The value of a text; is_discarded() if it is no JSON, nested too deeply or too large.
template <typename Json = nlohmann::json>
Json parse_json(std::string_view text) {
  const bool fits = !json_too_deep(text) && !json_too_large(text);
  return Json::parse(fits ? text : std::string_view(), nullptr,
                     /* allow_exceptions= */ false);
}

/// The same, but with the errors of check_json_depth() and check_json_size().
template <typename E = DataError, typename Json = nlohmann::json>
Json parse_shallow_json(std::string_view text, std::string_view source) {
  check_json_depth<E>(text, source);
  check_json_size<E>(text, source);
  return Json::parse(text, nullptr, /* allow_exceptions= */ false);
}

}  // namespace minibert
