// basic_tokenizer_test.cpp: words of every code point, in every combination of options, against
// `tokenizers`.
#include "models/text/basic_tokenizer.h"

#include <map>

#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/models/text/tokenizer_golden.h"

namespace minibert {
namespace {

constexpr uint32_t kBlock = 4096;  // code points a checksum, as in tools/goldens/tokenizer.py

uint32_t checksum(const BasicTokenizer& tokenizer, uint32_t first) {
  std::string block;
  for (uint32_t c = first; c < first + kBlock; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string x;
    append_utf8(c, x);
    const std::string text =
        "a" + x + "b \xF0\x9D\x85\xAD" + x + "\xF0\x9D\x85\xA5";  // U+1D16D X U+1D165
    tokenizer.split(text, [&](std::string_view word) { (block += word) += '\0'; });
    block += '\n';
  }
  return static_cast<uint32_t>(
      ::crc32(0, reinterpret_cast<const Bytef*>(block.data()), static_cast<uInt>(block.size())));
}

class AllCodePoints : public ::testing::TestWithParam<std::pair<std::string, TokenizerOptions>> {};

TEST_P(AllCodePoints, HaveTheWordsOfTheLibrary) {
  const auto& [name, options] = GetParam();
  const BasicTokenizer tokenizer(options);
  const auto expected =
      testing::tokenizer_golden()["code_points"][name].get<std::vector<uint32_t>>();
  ASSERT_EQ(expected.size(), 0x110000 / kBlock);
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto first = static_cast<uint32_t>(i) * kBlock;
    EXPECT_EQ(checksum(tokenizer, first), expected[i]) << std::hex << "in the block of U+" << first;
  }
}

INSTANTIATE_TEST_SUITE_P(
    BasicTokenizer, AllCodePoints,
    ::testing::Values(std::pair{"uncased", TokenizerOptions{}},
                      std::pair{"cased", TokenizerOptions::cased()},
                      std::pair{"lower_only", TokenizerOptions{.strip_accents = false}},
                      std::pair{"strip_only", TokenizerOptions{.lowercase = false}},
                      std::pair{"no_chinese", TokenizerOptions{.split_chinese = false}}),
    [](const auto& info) { return info.param.first; });

TEST(BasicTokenizer, EmptyTextAndBlanksHaveNoWords) {
  const BasicTokenizer tokenizer{TokenizerOptions{}};
  for (const char* text :
       {"", " ", "\t\n\r ", "\x01\x7f", "\xC2\xA0", "\xCC\x81", "\xEF\xBF\xBD"}) {
    EXPECT_TRUE(tokenizer.split(std::string_view(text)).empty()) << text;
  }
}

TEST(BasicTokenizer, MalformedBytesVanishWithinAWord) {
  const BasicTokenizer tokenizer{TokenizerOptions{}};
  EXPECT_EQ(tokenizer.split(std::string_view("ab\xFF"
                                             "cd \xE2\x82 e")),
            (std::vector<std::string>{"abcd", "e"}));
}

TEST(BasicTokenizer, WithoutCleaningAsciiControlsAreLettersOrBlanks) {
  const BasicTokenizer tokenizer{{.clean_text = false}};  // words by `tokenizers`
  EXPECT_EQ(tokenizer.split(std::string_view("\x0B"
                                             "a\x0B"
                                             "b\x01"
                                             "c\x0C\x0C"
                                             "D\x7F.\x0B")),
            (std::vector<std::string>{"a",
                                      "b\x01"
                                      "c",
                                      "d\x7F", "."}));
}

TEST(BasicTokenizer, AMillionMarksOnOneLetterEndInTime) {
  std::string text = "a";
  for (int i = 0; i < 500'000; ++i) text += i % 2 == 0 ? "\xF0\x9D\x85\xAD" : "\xF0\x9D\x85\xA5";
  EXPECT_EQ(BasicTokenizer{TokenizerOptions{}}.split(text).size(), 1u);
}

}  // namespace
}  // namespace minibert
