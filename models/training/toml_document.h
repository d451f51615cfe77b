// toml_document.h: TOML text parsed, with a syntax error in minibert's manner. Called by config.cpp and
// cluster.cpp, which read the tables. Test: ctest -R "training_config|training_cluster".
#pragma once

#include <string>
#include <string_view>

#include <toml++/toml.h>

#include "core/error.h"

namespace minibert {

/// Errors: UsageError naming `origin` and the line.
inline toml::table parse_toml(std::string_view text, const std::string& origin) {
  try {
    return toml::parse(text, origin);
  } catch (const toml::parse_error& error) {
    fail<UsageError>("{}:{}: {}. Mend that line.", origin, error.source().begin.line,
                     error.description());
  }
}

/// "run.toml:3": where a key or a value stands.
inline std::string toml_place(const std::string& origin, const toml::node& node) {
  return fmt::format("{}:{}", origin, node.source().begin.line);
}

}  // namespace minibert
