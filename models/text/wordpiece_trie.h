// wordpiece_trie.h: longest-prefix matching of word pieces by a double-array trie: one load and one
// compare per byte. Called by wordpiece_cutter.cpp and added_tokens.cpp. Two roots: pieces that begin a
// word, and pieces that continue one (written `##x` in vocab.txt, stored here without the `##`).
// Built once from the whole vocabulary, then only read. Easy to break: a cell is a state's child only
// where its check names the state. Test: ctest -R text_wordpiece. Source: J. Aoe, "An efficient digital
// search algorithm by using a double-array structure" (1989).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace minibert {

class WordPieceTrie {
 public:
  struct Match {
    int32_t id;     // -1 if no piece matches
    size_t length;  // bytes of the longest piece
  };

  /// Pieces with their ids, each once; an empty piece, a bare "##" and a piece of more than `longest`
  /// bytes match nothing. The depth of recursion while building is `longest`.
  WordPieceTrie(std::span<const std::pair<std::string, int32_t>> pieces, size_t longest);

  /// The longest piece that is a prefix of `text`. O(length of the match), not of the text.
  Match longest_initial(std::string_view text) const { return longest(kInitialRoot, text); }
  Match longest_continuation(std::string_view text) const {
    return longest(kContinuationRoot, text);
  }

  // ---- States, for who walks by himself: 0 to states() - 1, those without a parent and no root free
  static constexpr int32_t kInitialRoot = 0, kContinuationRoot = 1;

  size_t states() const { return cells_.size(); }
  /// The state that a byte leads to, or -1.
  int32_t child(int32_t state, uint8_t byte) const {
    const int32_t next = cells_[state].base + byte;
    return cells_[next].check == state ? next : -1;
  }
  /// Negative for a root or a free state.
  int32_t parent(int32_t state) const { return cells_[state].check; }
  /// The byte that leads from the parent to `state`.
  uint8_t label(int32_t state) const {
    return static_cast<uint8_t>(state - cells_[parent(state)].base);
  }
  /// Of the piece that ends in a state, or -1.
  int32_t id(int32_t state) const { return ids_[state]; }

 private:
  struct Cell {
    int32_t base = 0;    // children of this state lie at base + byte
    int32_t check = -1;  // parent state; -1 is a free cell
  };

  struct Key {
    std::string_view text;
    int32_t id;
  };

  Match longest(int32_t state, std::string_view text) const {
    Match best{-1, 0};
    for (size_t i = 0; i < text.size(); ++i) {
      state = child(state, static_cast<uint8_t>(text[i]));
      if (state < 0) break;
      if (ids_[state] >= 0) best = {ids_[state], i + 1};
    }
    return best;
  }

  void build(int32_t root, std::vector<Key> keys);
  void add_children(int32_t state, const Key* begin, const Key* end, size_t depth);
  int32_t find_base(const std::vector<uint8_t>& labels);
  void reserve_cells(size_t size);

  std::vector<Cell> cells_;
  std::vector<int32_t> ids_;  // id of the piece that ends in a state, or -1
  /// No free cell before it; far enough right that no base + byte reaches the roots.
  size_t first_free_ = 2 + 256;
  size_t used_ = 2 + 256;  // all cells from here on are free
};

}  // namespace minibert
