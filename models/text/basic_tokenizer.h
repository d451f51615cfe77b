// basic_tokenizer.h: text into normalised words, as BERT's BasicTokenizer and `tokenizers`'
// BertNormalizer + BertPreTokenizer do it: clean, space out CJK, NFD and strip accents, lower case,
// split at spaces and punctuation. Called by wordpiece.cpp for ids and by wordpiece_trainer.cpp for
// counts. ASCII goes by blocks of 64 bytes (ascii_block.h), a word with anything else byte by byte, and
// no word costs an allocation. Easy to break: characters that cleaning drops disappear before NFD, so
// marks on both sides of such a character still reorder. Source: google-research/bert @ eedf571
// tokenization.py; ids follow `tokenizers`. Test: ctest -R text_basic_tokenizer.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/ascii_block.h"
#include "models/text/unicode.h"

namespace minibert {

struct TokenizerOptions {
  bool lowercase = true;
  bool strip_accents = true;              // Transformers' default: as lowercase
  bool split_chinese = true;              // each CJK ideograph is a word
  bool recognise_special_tokens = true;   // [UNK] [SEP] [PAD] [CLS] [MASK] in a text are tokens
  bool clean_text = true;                 // control characters are dropped; false: they are letters
  int32_t max_characters_per_word = 100;  // longer words are [UNK]

  /// The options of a cased (false, false) or an uncased (true, true) model.
  static TokenizerOptions cased() { return {.lowercase = false, .strip_accents = false}; }
  bool operator==(const TokenizerOptions&) const = default;
};

class BasicTokenizer {
 public:
  static constexpr size_t kReadable = AsciiBlock::kReadable;

  explicit BasicTokenizer(const TokenizerOptions& options);

  /// Calls `on_word(std::string_view)` for each word, in order; the view lives until `on_word`
  /// returns, and kReadable bytes may be read from its beginning, however short it is. Malformed
  /// UTF-8 counts as U+FFFD, which cleaning drops. `recognise_special_tokens` has no effect here.
  template <typename OnWord>
  void split(std::string_view text, OnWord&& on_word) const;

  std::vector<std::string> split(std::string_view text) const;

  /// The text before it is split into words: BertNormalizer's output, blank for blank. Splitting it
  /// gives the words of the text.
  std::string normalize(std::string_view text) const;

 private:
  enum class AsciiKind : uint8_t { letter, space, punctuation, drop, beyond };

  /// Marks of one run, waiting for the next starter so that NFD can order them by combining class.
  struct PendingMark {
    uint32_t code_point;
    uint8_t combining_class;
  };

  /// Words that were read byte by byte, one after the other; behind the last end, an unfinished one.
  struct State {
    std::string bytes;
    std::vector<size_t> ends;
    std::vector<PendingMark> pending;
  };

  /// Takes the characters from `at` to an ASCII blank, or up to punctuation; returns where it stopped.
  /// The words are finished.
  size_t take_any(std::string_view text, size_t at, State& state) const;
  /// Takes the characters from `at` up to the next ASCII character that is not dropped; returns
  /// where it stopped.
  size_t take_non_ascii(std::string_view text, size_t at, State& state) const;
  void append_final(uint32_t code_point, State& state) const;
  static void finish_word(State& state);
  /// As the options see it: without cleaning, nothing is dropped.
  CharacterProperties properties_of(uint32_t code_point) const;

  /// Gives the characters that become of one to `put(uint32_t)`: NFD without accents, lower case, as
  /// the options say. Marks wait in `pending` until the next starter, or flush().
  template <typename Put>
  void take(uint32_t code_point, std::vector<PendingMark>& pending, const Put& put) const;
  template <typename Put>
  void flush(std::vector<PendingMark>& pending, const Put& put) const;
  template <typename Put>
  void put_lower(uint32_t code_point, const Put& put) const;

  TokenizerOptions options_;
  const CharacterTable& table_;
  void (*read_block_)(const char*, size_t, bool, AsciiBlock&);  // of this CPU
  std::array<AsciiKind, 256> kind_;
  std::array<char, 128> ascii_;  // lower case if the options say so
};

template <typename OnWord>
void BasicTokenizer::split(std::string_view text, OnWord&& on_word) const {
  State state;
  AsciiBlock block;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min(text.size() - at, AsciiBlock::kBytes);
    read_block_(text.data() + at, size, options_.lowercase, block);
    const size_t done = block.for_each_word(on_word);
    at += done;
    if (block.other == 0 && done > 0) continue;
    at = take_any(text, at, state);
    for (size_t i = 0, begin = 0; i < state.ends.size(); begin = state.ends[i++])
      on_word(std::string_view(state.bytes).substr(begin, state.ends[i] - begin));
    state.bytes.clear();
    state.ends.clear();
  }
}

}  // namespace minibert
