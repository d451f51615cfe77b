// whole_words_test.cpp: words that are pieces, against the vocabulary's own search.
#include "models/text/whole_words.h"

#include <random>

#include <gtest/gtest.h>

#include "tests/models/text/tokenizer_golden.h"

namespace minibert {
namespace {

/// With bytes behind the word that are none of it.
int32_t find(const WholeWords& words, const std::string& word) {
  const std::string text = word + std::string(WholeWords::kReadable, 'x');
  return words.find(std::string_view(text).substr(0, word.size()));
}

TEST(WholeWords, HoldEveryPieceThatBeginsAWordAndIsShort) {
  for (const Vocab& vocab : {testing::uncased_vocab(), testing::cased_vocab()}) {
    const WholeWords words(vocab.pieces(), 100);
    for (int32_t id = 0; id < vocab.size(); ++id) {
      const std::string token(vocab.token(id));
      const bool is_held = token.size() <= WholeWords::kLongest && !token.starts_with("##");
      ASSERT_EQ(find(words, token), is_held ? id : -1) << token;
    }
  }
}

TEST(WholeWords, HoldNothingElse) {
  const Vocab vocab = testing::cased_vocab();
  const WholeWords words(vocab.pieces(), 100);
  std::mt19937 random(3);
  for (int i = 0; i < 200'000; ++i) {
    std::string word;
    for (size_t n = random() % 17 + 1; n > 0; --n) word += "aeinrstdE\xC3"[random() % 10];
    ASSERT_EQ(find(words, word), word.size() <= WholeWords::kLongest ? vocab.id(word) : -1) << word;
  }
}

TEST(WholeWords, TellZeroBytesAtTheEndFromNone) {
  using namespace std::string_literals;
  const std::vector<Vocab::Entry> pieces = {{"a", 5}, {"a\0"s, 6}, {"\0"s, 7}};
  const WholeWords words(pieces, 100);
  EXPECT_EQ(find(words, "a"), 5);
  EXPECT_EQ(find(words, "a\0"s), 6);
  EXPECT_EQ(find(words, "\0"s), 7);
  EXPECT_EQ(find(words, "a\0\0"s), -1);
}

TEST(WholeWords, LeaveOutWordsOfTooManyCharacters) {
  const std::vector<Vocab::Entry> pieces = {
      {"abc", 0}, {"abcd", 1}, {"\xC3\xA9\xC3\xA9\xC3\xA9", 2}};
  const WholeWords words(pieces, 3);
  EXPECT_EQ(find(words, "abc"), 0);
  EXPECT_EQ(find(words, "abcd"), -1);
  EXPECT_EQ(find(words, "\xC3\xA9\xC3\xA9\xC3\xA9"), 2);
  EXPECT_EQ(find(WholeWords({}, 3), "abc"), -1);
}

}  // namespace
}  // namespace minibert
