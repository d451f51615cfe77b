// wordpiece_cutter.h: a word into its longest pieces, greedily, in time linear in the word: no byte is
// read twice. Called by wordpiece.cpp. Where the trie ends, a failure link says which pieces the bytes
// so far surely begin with, and in which state the rest of them leaves the trie. Built once from the
// vocabulary, then only read. Easy to break: a state's pieces are a chain from the last to the first,
// shared with other states, so memory stays linear in the vocabulary. Test: ctest -R text_wordpiece.
// Source: Song et al., "Fast WordPiece Tokenization", 2021, arXiv 2012.15524, algorithms 1 and 2.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/text/wordpiece_trie.h"

namespace minibert {

class WordPieceCutter {
 public:
  /// As WordPieceTrie.
  WordPieceCutter(std::span<const std::pair<std::string, int32_t>> pieces, size_t longest);

  /// Appends the ids of a word's pieces. False, and nothing is appended, if they do not cover it.
  bool cut(std::string_view word, std::vector<int32_t>& out) const;

 private:
  static constexpr int32_t kUnknown = -2, kNone = -1;

  struct Piece {
    int32_t id;
    int32_t previous;  // index into pieces_, or kNone
  };
  struct Failure {
    int32_t state = kUnknown;  // kNone: the word has no pieces
    int32_t last_piece = kNone;
    int32_t count = 0;
  };

  Failure failure_of(int32_t state);
  void append(const Failure& from, Failure& to);
  /// Follows the failure link of `state`; false if there is none.
  bool fail(int32_t& state, std::vector<int32_t>& out) const;

  WordPieceTrie trie_;
  std::vector<Failure> failures_;  // by state
  std::vector<Piece> pieces_;
};

}  // namespace minibert
