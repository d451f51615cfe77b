// shards.h: who owns which weights under --shard-optimizer (ZeRO-1, arXiv 1910.02054): each rank
// keeps the moments of its own elements alone, updates these, and gets the other weights from their
// owners. Called by train_step.h, gradient_buckets.h and weight_gather.h. The flat buffers are cut into
// buckets from the front, and each bucket into one range for each rank:
//
//   bucket          0                1                2 (the rest)
//   elements   0 ........ B    B ........ 2B    2B ...... n
//   rank       0  1  2  3       0  1  2  3       0  1  2      each cut at a chunk of the optimizer
//
// so that a bucket's reduce-scatter leaves each rank the sums of its own range. Easy to break: all
// borders are multiples of kOptimizerChunk, so a tensor's pieces and their sums are those of one rank.
// Test: ctest -R training_shards.
#pragma once

#include <cstdint>
#include <vector>

#include "dist/process_group.h"
#include "optim/optimizer.h"

namespace minibert {

/// Elements of a bucket: about `bytes` of f32, as many whole chunks for each rank. Also without shards,
/// so that each element's sum has the same order with and without them.
int64_t bucket_elements(int64_t bytes, int world);

/// Ranges by rank, then by bucket; the last bucket leaves empty ones to the last ranks.
std::vector<std::vector<ElementRange>> shard_ranges(int64_t elements, int64_t bucket, int world);

/// Whether a bucket has whole blocks for all ranks: collectives on blocks then do what is needed.
bool is_even(const std::vector<std::vector<ElementRange>>& shards, size_t bucket);

/// Begins to bring each element of the bucket in `flat` from its owner.
std::vector<Handle> gather_bucket(ProcessGroup& ranks,
                                  const std::vector<std::vector<ElementRange>>& shards,
                                  size_t bucket, const Tensor& flat);

/// Each element of `flat` becomes that of its owner. Errors: CommError.
void gather_shards(ProcessGroup& ranks, const std::vector<std::vector<ElementRange>>& shards,
                   const Tensor& flat);

}  // namespace minibert
