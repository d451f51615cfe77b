// size_flag.h: the rule of all flags that take a size (core/byte_size.h). Test: ctest -R
// core_byte_size.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "core/byte_size.h"

namespace minibert {

/// Turns 64MB or 16GiB into bytes, for option->transform(). Errors: UsageError naming the flag.
inline CLI::Validator as_bytes(const std::string& flag, BareSize bare = BareSize::bytes) {
  return CLI::Validator(
      [flag, bare](std::string& text) {
        text = std::to_string(parse_byte_size(text, flag, bare));
        return std::string();
      },
      "SIZE");
}

}  // namespace minibert
