// added_tokens.h: tokens that are found in a text as a whole, before it is split into words: [MASK],
// and what a model's makers added to its vocabulary. Called by wordpiece.cpp. Easy to break: of the
// matches that begin first the longest is taken, and one that single_word discards has used up its
// characters all the same; the blanks that rstrip takes do not hide the next match.
// Test: ctest -R text_added_tokens. Source: `tokenizers` 0.23.3, AddedVocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/wordpiece_trie.h"

namespace minibert {

/// Fields have the names of `tokenizers`' AddedToken.
struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool single_word = false;  // found only where no letter, digit or _ is beside it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = true;    // found in the text after BertNormalizer, else in the text as it is
  bool special = false;      // [MASK] and its like
  bool operator==(const AddedToken&) const = default;
};

/// Cuts texts at added tokens. All methods are const and thread-safe.
class AddedTokenMatcher {
 public:
  /// Longest token in bytes.
  static constexpr size_t kLongest = 4096;

  /// Of tokens with equal contents the first is found; one without content is not. Errors: DataError
  /// for a token of more than kLongest bytes.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  /// Calls `on_text(std::string_view)` for each part between tokens that is not empty, and
  /// `on_token(int32_t id)` for each token, in order.
  template <typename OnText, typename OnToken>
  void split(std::string_view text, const OnText& on_text, const OnToken& on_token) const {
    size_t done = 0;  // bytes that have been handed on
    for (size_t from = 0; const std::optional<Match> match = find(text, from, done);) {
      if (done < match->begin) on_text(text.substr(done, match->begin - done));
      if (match->begin < match->end) on_token(match->id);
      done = match->end;
      from = match->next;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Match {
    size_t begin, end;  // bytes, with the white space it takes; equal if others took all
    size_t next;        // where the search goes on
    int32_t id;
  };
  /// The first match from `from` on that counts; it takes no white space before `done`.
  std::optional<Match> find(std::string_view text, size_t from, size_t done) const;
  size_t next_candidate(std::string_view text, size_t from) const;

  std::vector<AddedToken> tokens_;
  WordPieceTrie trie_;                // a token's number in tokens_ by its content
  std::array<bool, 256> first_ = {};  // bytes with which a token begins
  std::optional<char> only_first_;    // if there is just one
};

}  // namespace minibert
