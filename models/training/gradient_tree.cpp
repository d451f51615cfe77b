// gradient_tree.cpp: a binary counter of partial sums, then the same tree over ranks.
#include "models/training/gradient_tree.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "core/kernels/cast.h"

namespace minibert {
namespace {

constexpr int64_t kPiece = 1 << 20;  // elements of a rank that are gathered at once

}  // namespace

TreeLeaves tree_leaves(int64_t leaves, int rank, int world) {
  const auto padded =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(leaves, world))));
  const int64_t each = padded / world;
  return {std::min(leaves, rank * each), std::min(leaves, (rank + 1) * each)};
}

GradientTree::GradientTree(ProcessGroup* ranks, Tensor gradients)
    : ranks_(ranks), gradients_(std::move(gradients)) {
  if (!ranks_) return;
  const int world = ranks_->world();
  MB_CHECK(std::has_single_bit(static_cast<unsigned>(world)),
           "train.deterministic: there are {} ranks, expected 1, 2, 4, 8 or another power of two "
           "(gradients are summed in a binary tree). Start {} ranks, or use --no-deterministic.",
           world, std::bit_floor(static_cast<unsigned>(world)));
  gathered_ = Tensor::empty({world, std::min(kPiece, gradients_.numel())}, DType::f32,
                            MemoryCategory::gradients, gradients_.device());
}

/// As a binary counter counts up: two sums of the same level become one of the next.
void GradientTree::add() {
  size_t level = 0;
  for (; added_ >> level & 1; ++level)
    cast(level == 0 ? gradients_ : levels_[level - 1], levels_[level], /* accumulate= */ true);
  while (levels_.size() <= level)
    levels_.push_back(Tensor::empty(gradients_.shape(), DType::f32, MemoryCategory::gradients,
                                    gradients_.device()));
  if (level == 0) {
    cast(gradients_, levels_[0], /* accumulate= */ false);
  } else {
    std::swap(levels_[level - 1], levels_[level]);
  }
  ++added_;
}

/// The rank's sum, from the lowest level up: missing leaves on the right are empty.
void GradientTree::fold() {
  const auto levels = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(added_)));
  const Tensor* sum = nullptr;
  for (size_t level = 0; level < levels; ++level) {
    if (!(added_ >> level & 1)) continue;
    if (sum) cast(*sum, levels_[level], /* accumulate= */ true);
    sum = &levels_[level];
  }
  if (sum) cast(*sum, gradients_, /* accumulate= */ false);
  added_ = 0;
}

CommunicationClock GradientTree::finish(int64_t leaves) {
  fold();
  return ranks_ ? add_up_ranks(leaves) : CommunicationClock();
}

CommunicationClock GradientTree::add_up_ranks(int64_t leaves) {
  const int world = ranks_->world();
  const int64_t total = gradients_.numel();
  CommunicationClock clock(gradients_.device());  // no part is final before the last one
  const auto has_leaves = [&](int rank) { return tree_leaves(leaves, rank, world).count() > 0; };
  for (int64_t begin = 0; begin < total; begin += gathered_.dim(1)) {
    const int64_t n = std::min(gathered_.dim(1), total - begin);
    const auto part = [&](int rank) { return gathered_.slice(rank * n, {n}); };
    cast(gradients_.slice(begin, {n}), part(ranks_->rank()), /* accumulate= */ false);
    Handle gather = ranks_->all_gather(Elements(gathered_.slice(0, {world * n})));
    clock.wait(gather);
    for (int distance = 1; distance < world; distance *= 2)
      for (int left = 0; left + distance < world; left += 2 * distance)
        if (has_leaves(left + distance))
          cast(part(left + distance), part(left), /* accumulate= */ true);
    cast(part(0), gradients_.slice(begin, {n}), /* accumulate= */ false);
  }
  return clock;
}

}  // namespace minibert
