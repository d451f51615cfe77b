// masking.cpp: candidates, choice and replacement of masked tokens. The order of the draws is in
// masking.h.
#include "models/text/masking.h"

#include <algorithm>
#include <cmath>

#include "models/text/vocab.h"

namespace minibert {
namespace {

/// The positions that may be masked, and which of them are masked together. One array for all: a vector for
/// each group would be most of a build's allocations.
struct Candidates {
  struct Group {
    uint32_t first, size;  // in `positions`
  };
  std::vector<int32_t> positions;
  std::vector<Group> groups;

  std::span<const int32_t> of(const Group& group) const {
    return std::span(positions).subspan(group.first, group.size);
  }
};

/// The pieces of a word are neighbours, except across a [CLS] or [SEP], which Google's script skips without
/// ending a group.
Candidates candidates_of(std::span<const int32_t> ids, const TokenTable& table, bool whole_word) {
  Candidates found;
  found.positions.reserve(ids.size());
  found.groups.reserve(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] == table.cls || ids[i] == table.sep) continue;
    const bool continues =
        whole_word && !found.groups.empty() && table.continues_word[static_cast<size_t>(ids[i])];
    if (!continues) found.groups.push_back({static_cast<uint32_t>(found.positions.size()), 0});
    ++found.groups.back().size;
    found.positions.push_back(static_cast<int32_t>(i));
  }
  return found;
}

int32_t replacement(int32_t id, const TokenTable& table, DrawSource& draws) {
  if (draws.random() < 0.8) return table.mask;
  if (draws.random() < 0.5) return id;
  return static_cast<int32_t>(draws.randint(0, table.vocab_size - 1));
}

}  // namespace

TokenTable token_table(const Vocab& vocab) {
  TokenTable table{vocab.size(),    vocab.cls_id(), vocab.sep_id(),
                   vocab.mask_id(), vocab.unk_id(), {}};
  for (int32_t id = 0; id < vocab.size(); ++id)
    table.continues_word.push_back(vocab.token(id).starts_with("##"));
  return table;
}

int masked_count(int64_t length, const MaskingOptions& options) {
  const double wanted = std::nearbyint(static_cast<double>(length) *
                                       options.masked_lm_prob);  // half to even, as Python
  return std::min(options.max_predictions, std::max(1, static_cast<int>(wanted)));
}

MaskedTokens mask_tokens(std::span<const int32_t> ids, const TokenTable& table,
                         const MaskingOptions& options, DrawSource& draws) {
  Candidates candidates = candidates_of(ids, table, options.whole_word);
  draws.shuffle(candidates.groups);
  const size_t wanted =
      static_cast<size_t>(masked_count(static_cast<int64_t>(ids.size()), options));
  MaskedTokens result;
  result.ids.assign(ids.begin(), ids.end());
  for (const Candidates::Group& group : candidates.groups) {
    if (result.positions.size() >= wanted) break;
    if (result.positions.size() + group.size > wanted) continue;
    for (const int32_t position : candidates.of(group)) {
      const size_t at = static_cast<size_t>(position);
      result.ids[at] = replacement(ids[at], table, draws);
      result.positions.push_back(position);
    }
  }
  std::sort(result.positions.begin(), result.positions.end());
  for (const int32_t position : result.positions)
    result.labels.push_back(ids[static_cast<size_t>(position)]);
  return result;
}

}  // namespace minibert
