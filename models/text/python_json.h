// python_json.h: parses what Python's json.dumps writes, which is more than JSON: NaN, Infinity and
// -Infinity where a value is missing or no number, and half of a surrogate pair (\ud83d) where a
// character was cut in two. Called by the readers of labelled texts, questions and JSON lines. Easy to break:
// both are found outside and inside of strings, and a backslash may be escaped itself. Test: ctest -R python_json.
#pragma once

#include <array>
#include <charconv>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "models/text/json_depth.h"

namespace minibert {

/// The code unit of an escape, \uXXXX, that begins at `at`; -1 if none does.
inline int escaped_unit(std::string_view text, size_t at) {
  constexpr size_t kLength = 6;
  if (text.size() < at + kLength || text[at] != '\\' || text[at + 1] != 'u') return -1;
  const char* const end = text.data() + at + kLength;
  int unit = -1;
  const auto [stop, error] = std::from_chars(end - 4, end, unit, 16);
  return error == std::errc() && stop == end && unit >= 0 ? unit : -1;
}

/// JSON of what json.dumps wrote: NaN and infinities are null, half of a pair is U+FFFD. What is
/// wrong otherwise stays so.
inline std::string strict_json(std::string_view text) {
  constexpr std::array<std::string_view, 3> kNoNumbers = {"NaN", "Infinity", "-Infinity"};
  const auto is_high = [](int unit) { return unit >= 0xD800 && unit < 0xDC00; };
  const auto is_low = [](int unit) { return unit >= 0xDC00 && unit < 0xE000; };
  std::string strict;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    size_t taken = 1;
    std::string_view instead;
    if (text[i] == '"') {
      in_string = !in_string;
    } else if (in_string && text[i] == '\\') {
      const int unit = escaped_unit(text, i);
      taken = unit < 0 ? 2 : 6;
      if (is_high(unit) && is_low(escaped_unit(text, i + taken)))
        taken += 6;
      else if (is_high(unit) || is_low(unit))
        instead = "\\uFFFD";
    } else if (!in_string) {
      for (const std::string_view word : kNoNumbers) {
        if (!text.substr(i).starts_with(word)) continue;
        taken = word.size();
        instead = "null";
      }
    }
    strict += instead.empty() ? text.substr(i, taken) : instead;
    i += taken;
  }
  return strict;
}

/// The value of a text whose depth and size the caller has checked (json_excess); is_discarded() if even
/// Python would not read it.
inline nlohmann::json parse_python_json(std::string_view text) {
  nlohmann::json value = nlohmann::json::parse(text, nullptr, /* allow_exceptions= */ false);
  if (!value.is_discarded()) return value;
  return nlohmann::json::parse(strict_json(text), nullptr, /* allow_exceptions= */ false);
}

/// What the parser says of a text that it does not read; "" if it does. Columns are those of strict_json().
inline std::string python_json_fault(std::string_view text) {
  try {
    static_cast<void>(nlohmann::json::parse(strict_json(text)));
  } catch (const nlohmann::json::exception& error) {
    return std::string(parser_detail(error));
  }
  return "";
}

}  // namespace minibert
