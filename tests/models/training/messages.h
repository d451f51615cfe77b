// messages.h: what the tests of this folder ask of errors, and damage to files.
#pragma once

#include <filesystem>
#include <string>

#include "tests/models/text/shard_fixture.h"

namespace minibert::testing {

inline void flip_bit(const std::filesystem::path& path, size_t byte) {
  std::string text = read_bytes(path);
  text[byte] = static_cast<char>(text[byte] ^ 4);
  write_bytes(path, text);
}

/// The message of the error of type E that `body` throws; "" if it throws none.
template <typename E, typename Body>
std::string message_of(Body body) {
  try {
    body();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace minibert::testing
