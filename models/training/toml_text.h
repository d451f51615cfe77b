// toml_text.h: TOML by toml++, with its assertions made errors. The one file that includes it; called by config.cpp,
// cluster.cpp and models/curves. Easy to break: toml++ 3.3 asserts some of what a user may write, as in "[=]", and an
// assertion would end the program; so TOML_ASSERT must be defined before each include, alike everywhere.
// Test: ctest -R training_config.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace minibert {

/// Thrown where toml++ would assert.
struct TomlFault : std::logic_error {
  using std::logic_error::logic_error;
};

}  // namespace minibert

#define TOML_ASSERT(expr)                               \
  do {                                                  \
    if (!(expr)) throw ::minibert::TomlFault("toml++"); \
  } while (false)
#include <fmt/format.h>
#include <toml++/toml.h>

namespace minibert {

/// Parses a text; `origin` names it in messages. Errors: UsageError with origin and line.
toml::table parse_toml(std::string_view text, const std::string& origin);

/// "run.toml:3": where a key or a value stands.
inline std::string toml_place(const std::string& origin, const toml::node& node) {
  return fmt::format("{}:{}", origin, node.source().begin.line);
}

}  // namespace minibert
