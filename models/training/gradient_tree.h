// gradient_tree.h: the sum of gradients over a step's micro-batches and over ranks, in an order that
// depends on neither. For `--deterministic`: 1, 2 and 4 ranks give the same bits.
//
// The leaves of a binary tree are the step's micro-batches, padded to a power of two, W at least:
//
//   rank      0         1         2         3          W = 4
//   leaf    0   1     2   3     4   5     6   -        7 micro-batches, the last leaf is empty
//            \ /       \ /       \ /       /
//           0..1      2..3      4..5      6            on the rank: one buffer for each level
//              \      /            \     /
//               0..3                4..6               over ranks: each rank adds up all four
//                    \            /
//                        0..6
//
// A node is left + right, or left alone where right is empty. With half as many ranks, one rank has
// two of the subtrees: the same additions. Memory: ceil(log2(leaves of a rank)) + 1 more gradients.
// Bytes received by a rank: (W - 1) n, gathered in pieces, where a ring needs 2 n (W - 1) / W: the
// same for 2 ranks, twice as much for 4. Owned by train_step.h. Easy to break: a rank without a leaf
// must not add zeros, since -0 + 0 is +0. Test: ctest -R gradient_tree.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "dist/process_group.h"
#include "models/training/communication.h"

namespace minibert {

/// Leaves [first, end) of a rank.
struct TreeLeaves {
  int64_t first = 0, end = 0;
  int64_t count() const { return end - first; }
};
/// Of `leaves` in all. `world` is a power of two.
TreeLeaves tree_leaves(int64_t leaves, int rank, int world);

class GradientTree {
 public:
  /// `gradients` [n] f32: where each micro-batch leaves its gradients, and where the sum will be.
  /// `ranks` null: there are no others. Errors: UsageError unless their number is a power of two.
  GradientTree(ProcessGroup* ranks, Tensor gradients);

  /// Takes in the gradients of the rank's next leaf; the next micro-batch may overwrite them.
  void add();
  /// Drops what was added since the last sum.
  void forget() { added_ = 0; }
  /// `gradients` becomes the sum over all `leaves` micro-batches.
  /// Errors: CommError, naming the collective.
  CommunicationClock finish(int64_t leaves);

 private:
  void fold();
  CommunicationClock add_up_ranks(int64_t leaves);

  ProcessGroup* ranks_;
  const Tensor gradients_;
  int64_t added_ = 0;           // leaves of this rank so far
  std::vector<Tensor> levels_;  // [n] each: bit i of added_ says whether levels_[i] holds a sum
  Tensor gathered_;             // [W, piece]
};

}  // namespace minibert
