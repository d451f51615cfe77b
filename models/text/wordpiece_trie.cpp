// wordpiece_trie.cpp: builds the double array by first fit, the children of a state together.
// Called once per tokenizer; 30,000 pieces take a few milliseconds. Test: ctest -R text_wordpiece.
#include "models/text/wordpiece_trie.h"

#include <algorithm>
#include <utility>

namespace minibert {
namespace {

constexpr size_t kBytes = 256;
constexpr int kHolesTried = 64;

}  // namespace

WordPieceTrie::WordPieceTrie(std::span<const std::pair<std::string, int32_t>> pieces,
                             size_t longest) {
  std::vector<Key> initial, continuation;
  for (const auto& [token, id] : pieces) {
    const bool continues = token.starts_with("##");
    const std::string_view text = continues ? std::string_view(token).substr(2) : token;
    if (text.empty() || text.size() > longest) continue;
    (continues ? continuation : initial).push_back({text, id});
  }
  reserve_cells(2 * kBytes + 2);
  cells_[kInitialRoot].check = cells_[kContinuationRoot].check = -2;  // taken, and no state's child
  build(kInitialRoot, std::move(initial));
  build(kContinuationRoot, std::move(continuation));
}

void WordPieceTrie::build(int32_t root, std::vector<Key> keys) {
  std::sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) { return a.text < b.text; });
  add_children(root, keys.data(), keys.data() + keys.size(), 0);
}

/// Adds keys begin..end, which share their first `depth` bytes, lead to `state` and are longer.
void WordPieceTrie::add_children(int32_t state, const Key* begin, const Key* end, size_t depth) {
  const auto label_of = [depth](const Key& key) { return static_cast<uint8_t>(key.text[depth]); };
  std::vector<uint8_t> labels;
  for (const Key* key = begin; key != end; ++key) {
    if (labels.empty() || labels.back() != label_of(*key)) labels.push_back(label_of(*key));
  }
  if (labels.empty()) return;
  const int32_t base = find_base(labels);
  cells_[state].base = base;
  for (const uint8_t label : labels) cells_[base + label].check = state;

  while (begin != end) {
    const uint8_t label = label_of(*begin);
    const Key* group_end =
        std::find_if(begin, end, [&](const Key& k) { return label_of(k) != label; });
    const int32_t child = base + label;
    if (begin->text.size() == depth + 1) ids_[child] = begin++->id;
    add_children(child, begin, group_end, depth + 1);
    begin = group_end;
  }
}

/// First fit among the first holes, else after all cells in use, so that building stays linear.
int32_t WordPieceTrie::find_base(const std::vector<uint8_t>& labels) {
  while (cells_[first_free_].check != -1) reserve_cells(++first_free_ + 1);
  int misses = 0;
  for (size_t at = first_free_;; ++at) {
    if (misses == kHolesTried) at = used_;
    reserve_cells(at + kBytes);
    if (cells_[at].check != -1) continue;
    const size_t base = at - labels.front();
    const bool fits = std::all_of(labels.begin(), labels.end(),
                                  [&](uint8_t label) { return cells_[base + label].check == -1; });
    if (fits) {
      used_ = std::max(used_, base + labels.back() + 1);
      return static_cast<int32_t>(base);
    }
    ++misses;
  }
}

void WordPieceTrie::reserve_cells(size_t size) {
  if (cells_.size() >= size) return;
  const size_t grown = std::max(size, cells_.size() * 2);
  cells_.resize(grown);
  ids_.resize(grown, -1);
}

}  // namespace minibert
