// unicode_test.cpp: UTF-8 decoding against Python's, malformed sequences included.
#include "models/text/unicode.h"

#include <gtest/gtest.h>

#include "tests/models/text/tokenizer_golden.h"

namespace minibert {
namespace {

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

std::string decode_and_encode(const std::string& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size();) {
    const DecodedCharacter c = decode_utf8(bytes, i);
    append_utf8(c.code_point, text);
    i += c.length;
  }
  return text;
}

TEST(Unicode, MalformedBytesAreReplacedAsPythonDoes) {
  const auto& damaged = testing::tokenizer_golden()["damaged_utf8"];
  ASSERT_GE(damaged.size(), 80u);
  for (const auto& entry : damaged) {
    const std::string bytes = from_hex(entry["hex"]);
    EXPECT_EQ(decode_and_encode(bytes), entry["decoded"].get<std::string>()) << entry["hex"];
    EXPECT_EQ(count_invalid_utf8(bytes), entry["replaced"].get<size_t>()) << entry["hex"];
  }
}

TEST(Unicode, EveryCodePointSurvivesEncodingAndDecoding) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(c, text);
    const DecodedCharacter decoded = decode_utf8(text, 0);
    ASSERT_TRUE(decoded.valid && decoded.code_point == c && decoded.length == text.size()) << c;
    ASSERT_EQ(count_characters(text), 1u) << c;
    ASSERT_EQ(count_invalid_utf8(text), 0u) << c;
  }
}

TEST(Unicode, DecodingNeverReadsPastTheEnd) {
  const std::string text = "\xF0\x9F\x98\x80";
  for (size_t length = 1; length < text.size(); ++length) {
    const std::vector<char> exact(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(length));
    // ASan watches the end.
    const DecodedCharacter c = decode_utf8({exact.data(), exact.size()}, 0);
    EXPECT_FALSE(c.valid);
    EXPECT_EQ(c.length, length);
  }
}

}  // namespace
}  // namespace minibert
