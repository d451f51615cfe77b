// wordpiece_trainer.h: a WordPiece vocabulary from text: count words, then merge the most frequent
// pair of pieces until the vocabulary is full, as `tokenizers`' BertWordPieceTokenizer.train does.
// Called by `minibert tokenizer train`. Words come from basic_tokenizer.h, so they are split as the
// tokenizer will split them. Order of ids: special tokens, characters, characters after `##` (both
// by code point), merges. Easy to break: ties between pairs go to the smaller ids, so the order of
// the alphabet decides them. In `tokenizers` the order of the `##` characters differs from run to
// run; ours is fixed. With its order pinned to ours the vocabularies are equal. Source: Sennrich et
// al., arXiv 1508.07909, algorithm 1. Test: ctest -R text_wordpiece_trainer.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "models/text/basic_tokenizer.h"
#include "models/text/vocab.h"

namespace minibert {

struct WordPieceTrainerOptions {
  int32_t vocab_size = 30000;     // tokens, special ones included
  int64_t min_frequency = 2;      // a pair seen less often is not merged
  int32_t limit_alphabet = 1000;  // characters kept, the most frequent ones
};

struct WordCount {
  std::string word;
  int64_t count;
};

/// Counts normalised words. Text is dealt to a fixed number of tables and sums don't depend on
/// order, so the result depends only on the text, not on the thread count.
class WordCounter {
 public:
  /// `recognise_special_tokens` has no effect: `[MASK]` in training text is plain characters.
  explicit WordCounter(const TokenizerOptions& options);

  /// Words of more than 10,000 bytes (encoded data, not prose) are skipped.
  void add(std::span<const std::string> lines);

  /// All words in the order of their text, each once.
  std::vector<WordCount> sorted() const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Table = std::unordered_map<std::string, int64_t, Hash, std::equal_to<>>;

  BasicTokenizer words_;
  std::vector<Table> tables_;
};

struct WordPieceTraining {
  Vocab vocab;
  int64_t characters_dropped = 0;  // beyond limit_alphabet: removed from words
  int64_t merges = 0;              // tokens added by merging
  int64_t last_merge_count = 0;    // count of the rarest merged pair
};

/// Trains on counted words, each word once. The vocabulary is smaller than requested if no pair
/// reaches min_frequency. Errors: DataError if there are no words; UsageError if vocab_size is too
/// small for special tokens and alphabet, or an option is out of range.
WordPieceTraining train_wordpiece(std::span<const WordCount> words,
                                  const WordPieceTrainerOptions& options);

}  // namespace minibert
