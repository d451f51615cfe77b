// shell_word.cpp: single quotes, in which the shell changes nothing. See shell_word.h.
#include "core/shell_word.h"

#include <algorithm>
#include <cctype>
#include <string_view>

namespace minibert {

std::string shell_word(const std::string& text) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("_-./=:,+@%").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::ranges::all_of(text, plain)) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace minibert
