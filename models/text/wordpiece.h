// wordpiece.h: text to ids and back, equal to `tokenizers` 0.23.3 and Transformers' BertTokenizer.
// Called by the data builder and the verbs. Words come from basic_tokenizer.h, pieces from
// wordpiece_trie.h: each word is cut greedily into its longest pieces, or is [UNK] as a whole. Easy
// to break: `[MASK]` in the text is the token only if the options say so; training data treat it as
// characters. Test: ctest -R text_wordpiece,
// tools/goldens/tokenizer_parity.py. Source: google-research/bert @ eedf571 tokenization.py (its
// limit of 200 characters is 100 in `tokenizers`, which we follow).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/basic_tokenizer.h"
#include "models/text/vocab.h"
#include "models/text/wordpiece_trie.h"

namespace minibert {

/// Longer words are [UNK].
inline constexpr size_t kMaxCharactersPerWord = 100;

/// All methods are const and thread-safe.
class WordPieceTokenizer {
 public:
  WordPieceTokenizer(Vocab vocab, const TokenizerOptions& options);

  /// Ids of a text, without [CLS] and [SEP]. Malformed UTF-8 counts as U+FFFD, which BERT drops
  /// (count_invalid_utf8 counts it).
  std::vector<int32_t> encode(std::string_view text) const;

  /// [CLS] ids [SEP].
  std::vector<int32_t> encode_with_special_tokens(std::string_view text) const;

  /// Appends the ids of a text to `out`.
  void encode_into(std::string_view text, std::vector<int32_t>& out) const;

  /// Text of ids, as Transformers' decode: pieces joined, blanks between words, but none before
  /// . , ! ? or inside it's and don't. Special tokens are kept. Errors: UsageError for an id
  /// outside the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;

  const Vocab& vocab() const { return vocab_; }
  const TokenizerOptions& options() const { return options_; }

 private:
  struct SpecialToken {
    std::string_view text;
    int32_t id;
  };
  struct SpecialMatch {
    size_t begin, length;  // length 0: none
    int32_t id;
  };

  SpecialMatch find_special(std::string_view text, size_t from) const;
  void encode_plain(std::string_view text, std::vector<int32_t>& out) const;
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;

  Vocab vocab_;
  TokenizerOptions options_;
  BasicTokenizer words_;
  WordPieceTrie trie_;
  std::vector<SpecialToken> special_tokens_;
};

}  // namespace minibert
