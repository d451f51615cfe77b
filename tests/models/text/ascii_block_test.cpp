// ascii_block_test.cpp: kinds of bytes, lower case and words of blocks, on every instruction set,
// against the definitions, a byte at a time.
#include "models/text/ascii_block.h"

#include <cctype>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace minibert {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
bool is_letter(char c) {
  return static_cast<signed char>(c) >= 0 && std::isalnum(c) != 0;
}
bool is_punctuation(char c) {
  return static_cast<signed char>(c) >= 0 && std::ispunct(c) != 0;
}
bool is_other(char c) {
  return !is_blank(c) && !is_letter(c) && !is_punctuation(c);
}

struct Words {
  std::vector<std::string> whole;  // up to the first that has other characters or may go on
  size_t done;
};

Words words_of(const std::string& block, bool lowercase) {
  Words words;
  size_t at = 0;
  while (at < block.size()) {
    if (is_blank(block[at])) {
      ++at;
      continue;
    }
    size_t end = at + 1;
    if (!is_punctuation(block[at])) {
      while (end < block.size() && !is_blank(block[end]) && !is_punctuation(block[end])) ++end;
      bool is_whole = end < AsciiBlock::kBytes;
      for (size_t i = at; i < end; ++i) is_whole = is_whole && !is_other(block[i]);
      if (!is_whole) break;
    }
    std::string word = block.substr(at, end - at);
    for (char& c : word) c = lowercase ? static_cast<char>(std::tolower(c)) : c;
    words.whole.push_back(word);
    at = end;
  }
  words.done = at < block.size() ? at : AsciiBlock::kBytes;
  return words;
}

/// Calls `test` on each instruction set that this CPU has.
template <typename Test>
void on_each_level(const Test& test) {
  const SimdLevel before = simd_level();
  for (const SimdLevel level : {SimdLevel::v2, SimdLevel::v3, SimdLevel::v4}) {
    if (!simd_level_supported(level)) continue;
    SCOPED_TRACE(name_of(level));
    set_simd_level(level);
    test();
  }
  set_simd_level(before);
}

void expect_as_defined(const std::string& text, bool lowercase) {
  AsciiBlock block;
  MB_SIMD(read_ascii_block)(text.data(), text.size(), lowercase, block);
  for (size_t i = 0; i < AsciiBlock::kBytes; ++i) {
    const char c = i < text.size() ? text[i] : ' ';
    ASSERT_EQ(block.letters >> i & 1, is_letter(c)) << int{c};
    ASSERT_EQ(block.punctuation >> i & 1, is_punctuation(c)) << int{c};
    ASSERT_EQ(block.other >> i & 1, is_other(c)) << int{c};
  }
  std::string padded = text;
  padded.resize(AsciiBlock::kBytes, ' ');
  const Words expected = words_of(padded, lowercase);
  std::vector<std::string> words;
  EXPECT_EQ(block.for_each_word([&](std::string_view word) { words.emplace_back(word); }),
            expected.done)
      << text;
  EXPECT_EQ(words, expected.whole) << text;
}

TEST(AsciiBlock, KnowsEveryByte) {
  on_each_level([] {
    for (int first = 0; first < 256; first += 64) {
      std::string text;
      for (int c = first; c < first + 64; ++c) text += static_cast<char>(c);
      expect_as_defined(text, true);
      expect_as_defined(text, false);
    }
  });
}

TEST(AsciiBlock, OfAnySizeHasTheWordsOfAPlainLoop) {
  const std::string bytes = "abcXYZ09 .-\t\n\r\x01\x7f\xC3\xA9";
  on_each_level([&] {
    std::mt19937 random(7);
    for (int i = 0; i < 20'000; ++i) {
      const size_t size = i % 3 == 0 ? AsciiBlock::kBytes : random() % (AsciiBlock::kBytes + 1);
      const size_t kinds = i % 5 == 0 ? 6 : i % 2 == 0 ? 11 : bytes.size();
      std::string text;
      while (text.size() < size) text += bytes[random() % kinds];
      expect_as_defined(text, i % 4 < 2);
    }
  });
}

}  // namespace
}  // namespace minibert
