// toml_text.cpp: parses, and finds the line where toml++ names none.
#include "models/training/toml_text.h"

#include "core/error.h"

namespace minibert {
namespace {

bool is_fault(std::string_view text) {
  try {
    toml::parse(text);
    return false;
  } catch (const TomlFault&) {
    return true;
  } catch (const toml::parse_error&) {  // of a text that is cut
    return false;
  }
}

/// The first `count` lines.
std::string_view head(std::string_view text, size_t count) {
  size_t end = 0;
  while (count-- > 0 && end != text.npos) {
    end = text.find('\n', end);
    if (end != text.npos) ++end;
  }
  return text.substr(0, end);
}

/// The last line of the shortest head with the fault. The parser reads from front to back: all
/// longer ones have it.
size_t line_of_fault(std::string_view text) {
  size_t without = 0, with = 1;
  while (head(text, with).size() < text.size()) with *= 2;
  while (with - without > 1) {
    const size_t middle = without + (with - without) / 2;
    (is_fault(head(text, middle)) ? with : without) = middle;
  }
  return with;
}

}  // namespace

toml::table parse_toml(std::string_view text, const std::string& origin) {
  try {
    return toml::parse(text, origin);
  } catch (const toml::parse_error& error) {
    fail<UsageError>("{}:{}: {}. Mend that line.", origin, error.source().begin.line,
                     error.description());
  } catch (const TomlFault&) {
    fail<UsageError>(
        "{}:{}: a key or the name of a table is malformed, expected letters, digits, - and _, or a "
        "text in quotes. Mend that line.",
        origin, line_of_fault(text));
  }
}

}  // namespace minibert
