// wordpiece.h: text to ids and back, equal to `tokenizers` 0.23.3 and Transformers' BertTokenizer.
// Called by the data builder and the verbs. Added tokens are cut out first (added_tokens.h); words
// come from basic_tokenizer.h; one that is a piece is found by hash (whole_words.h), and any other is
// cut greedily into its longest pieces (wordpiece_cutter.h), or is [UNK] as a whole. Easy to break:
// `[MASK]` in the text is the token only if the options say so; training data treat it as
// characters. Speed: tools/bench/compare_tokenizer. Test: ctest -R text_wordpiece,
// tools/goldens/tokenizer_parity.py. Source: google-research/bert @ eedf571 tokenization.py (its
// limit of 200 characters is 100 in `tokenizers`, which we follow).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/added_tokens.h"
#include "models/text/basic_tokenizer.h"
#include "models/text/vocab.h"
#include "models/text/whole_words.h"
#include "models/text/wordpiece_cutter.h"

namespace minibert {

/// All methods are const and thread-safe.
class WordPieceTokenizer {
 public:
  /// Added tokens are the five special ones, as far as the vocabulary has them.
  WordPieceTokenizer(Vocab vocab, const TokenizerOptions& options);

  /// Ids of `added` are those of the vocabulary. Without options.recognise_special_tokens, tokens
  /// that are special are not looked for. Errors: DataError for a token that can't be found.
  WordPieceTokenizer(Vocab vocab, const TokenizerOptions& options,
                     const std::vector<AddedToken>& added);

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
  const std::vector<AddedToken>& added() const { return added_; }

 private:
  void encode_between(std::string_view text, std::vector<int32_t>& out) const;
  void encode_plain(std::string_view text, std::vector<int32_t>& out) const;
  void encode_pieces(std::string_view word, std::vector<int32_t>& out) const;

  Vocab vocab_;
  TokenizerOptions options_;
  BasicTokenizer words_;
  WholeWords whole_words_;
  WordPieceCutter cutter_;
  std::vector<AddedToken> added_;
  AddedTokenMatcher raw_, normalized_;  // tokens of texts as they are, and of normalized ones
};

}  // namespace minibert
