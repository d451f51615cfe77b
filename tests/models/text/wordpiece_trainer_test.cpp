// wordpiece_trainer_test.cpp: trained vocabularies against those of `tokenizers`, byte for byte.
#include "models/text/wordpiece_trainer.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/parallel.h"
#include "models/text/text_reader.h"
#include "models/text/wordpiece.h"
#include "tests/models/text/tokenizer_golden.h"

namespace minibert {
namespace {

std::vector<WordCount> count_lines(const std::vector<std::string>& lines,
                                   const TokenizerOptions& options) {
  WordCounter counter(options);
  counter.add(lines);
  return counter.sorted();
}

std::vector<WordCount> count_novels(const TokenizerOptions& options) {
  WordCounter counter(options);
  for (const char* novel : {"emma", "mansfieldpark", "northangerabbey", "persuasion",
                            "prideprejudice", "sensesensibility"}) {
    LineReader reader(
        (testing::source_folder() / "data/austen" / (std::string(novel) + ".txt.gz")).string());
    std::vector<std::string> lines(1);
    while (reader.next(lines.back())) lines.emplace_back();
    counter.add(lines);
  }
  return counter.sorted();
}

std::vector<std::string> small_lines() {
  return testing::tokenizer_golden()["trained"]["small_lines"].get<std::vector<std::string>>();
}

std::vector<std::string> train_small(const WordPieceTrainerOptions& options) {
  return train_wordpiece(count_lines(small_lines(), {}), options).vocab.tokens();
}

TEST(WordPieceTrainer, CasedVocabularyOfTheNovelsEqualsTheLibrary) {
  const auto training =
      train_wordpiece(count_novels(TokenizerOptions::cased()), {.vocab_size = 4000});
  EXPECT_EQ(training.vocab.tokens(), testing::cased_vocab().tokens());
}

TEST(WordPieceTrainer, UncasedVocabularyOfTheNovelsEqualsTheLibrary) {
  const auto training = train_wordpiece(count_novels({}), {.vocab_size = 6000});
  EXPECT_EQ(training.vocab.size(), 6000);
  EXPECT_EQ(fmt::format("{:016x}", training.vocab.hash()),
            testing::tokenizer_golden()["trained"]["austen_uncased_6000_hash"].get<std::string>());
}

TEST(WordPieceTrainer, VocabularyOfManyScriptsEqualsTheLibrary) {
  EXPECT_EQ(
      train_small({.vocab_size = 700, .min_frequency = 1}),
      testing::tokenizer_golden()["trained"]["small_uncased"].get<std::vector<std::string>>());
}

TEST(WordPieceTrainer, LimitedAlphabetEqualsTheLibrary) {
  EXPECT_EQ(train_small({.vocab_size = 200, .min_frequency = 3, .limit_alphabet = 38}),
            testing::tokenizer_golden()["trained"]["small_limit"].get<std::vector<std::string>>());
}

TEST(WordPieceTrainer, ThreadsDoNotChangeTheCounts) {
  std::vector<std::vector<WordCount>> results;
  const int before = num_threads();
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    results.push_back(count_lines(small_lines(), {}));
  }
  set_num_threads(before);
  for (const auto& result : results) {
    ASSERT_EQ(result.size(), results[0].size());
    for (size_t i = 0; i < result.size(); ++i) {
      EXPECT_EQ(result[i].word, results[0][i].word);
      EXPECT_EQ(result[i].count, results[0][i].count);
    }
  }
}

TEST(WordPieceTrainer, CountsAreThoseOfTheText) {
  const std::vector<std::string> lines = {"B a", "a,b A", "", std::string(10'001, 'x')};
  const auto words = count_lines(lines, {});
  ASSERT_EQ(words.size(), 3u);  // the long run of letters is left out
  EXPECT_EQ(words[0].word, ",");
  EXPECT_EQ(words[0].count, 1);
  EXPECT_EQ(words[1].word, "a");
  EXPECT_EQ(words[1].count, 3);
  EXPECT_EQ(words[2].word, "b");
  EXPECT_EQ(words[2].count, 2);
}

TEST(WordPieceTrainer, EveryWordOfTheTextIsKnownToTheVocabulary) {
  const WordPieceTokenizer tokenizer(
      train_wordpiece(count_lines(small_lines(), {}), {.vocab_size = 600}).vocab, {});
  for (const WordCount& entry : count_lines(small_lines(), {})) {
    if (count_characters(entry.word) > 100) continue;
    for (const int32_t id : tokenizer.encode(entry.word))
      EXPECT_NE(id, tokenizer.vocab().unk_id()) << entry.word;
  }
}

TEST(WordPieceTrainer, StopsWhereNoPairIsFrequentEnough) {
  const std::vector<WordCount> words = {{"ab", 2}, {"cd", 1}};
  const auto training = train_wordpiece(words, {.vocab_size = 100});
  EXPECT_EQ(training.merges, 1);
  EXPECT_EQ(training.last_merge_count, 2);
  EXPECT_EQ(training.vocab.tokens(),
            (std::vector<std::string>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c",
                                      "d", "##b", "##d", "ab"}));
}

TEST(WordPieceTrainer, RejectsOptionsOutOfRange) {
  const std::vector<WordCount> words = {{"ab", 2}};
  EXPECT_THROW(train_wordpiece(words, {.vocab_size = 7}),
               UsageError);  // 5 special tokens, a, b, ##b are 8
  EXPECT_NO_THROW(train_wordpiece(words, {.vocab_size = 8}));
  EXPECT_THROW(train_wordpiece(words, {.min_frequency = 0}), UsageError);
  EXPECT_THROW(train_wordpiece(words, {.limit_alphabet = 0}), UsageError);
  EXPECT_THROW(train_wordpiece({}, {}), DataError);
}

TEST(WordPieceTrainer, AHugeWordOfOneLetterEndsInTime) {
  const std::vector<WordCount> words = {{std::string(10'000, 'a'), 3}};
  EXPECT_EQ(train_wordpiece(words, {.vocab_size = 20}).vocab.size(), 20);
}

}  // namespace
}  // namespace minibert
