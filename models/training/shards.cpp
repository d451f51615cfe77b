// shards.cpp: the borders of shards, and how weights come from their owners.
#include "models/training/shards.h"

#include <algorithm>

#include "core/kernels/optimizer.h"

namespace minibert {

int64_t bucket_elements(int64_t bytes, int world) {
  const int64_t step = world * kOptimizerChunk;
  return std::max<int64_t>(1, bytes / static_cast<int64_t>(sizeof(float)) / step) * step;
}

std::vector<std::vector<ElementRange>> shard_ranges(int64_t elements, int64_t bucket, int world) {
  std::vector<std::vector<ElementRange>> shards(static_cast<size_t>(world));
  for (int64_t begin = 0; begin < elements; begin += bucket) {
    const int64_t end = std::min(elements, begin + bucket);
    const int64_t chunks = (end - begin + kOptimizerChunk - 1) / kOptimizerChunk;
    const int64_t block = (chunks + world - 1) / world * kOptimizerChunk;
    for (int rank = 0; rank < world; ++rank) {
      const int64_t first = std::min(end, begin + rank * block);
      shards[static_cast<size_t>(rank)].push_back({first, std::min(end, first + block) - first});
    }
  }
  return shards;
}

bool is_even(const std::vector<std::vector<ElementRange>>& shards, size_t bucket) {
  return std::ranges::all_of(shards, [&](const std::vector<ElementRange>& rank) {
    return rank[bucket].count == shards[0][bucket].count;
  });
}

std::vector<Handle> gather_bucket(ProcessGroup& ranks,
                                  const std::vector<std::vector<ElementRange>>& shards,
                                  size_t bucket, const Tensor& flat) {
  const Elements all(flat);
  std::vector<Handle> under_way;
  if (is_even(shards, bucket)) {
    const ElementRange first = shards.front()[bucket], last = shards.back()[bucket];
    under_way.push_back(
        ranks.all_gather(all.part(first.offset, last.offset + last.count - first.offset)));
    return under_way;
  }
  for (int owner = 0; owner < ranks.world(); ++owner) {
    const ElementRange range = shards[static_cast<size_t>(owner)][bucket];
    if (range.count > 0)
      under_way.push_back(ranks.broadcast(all.part(range.offset, range.count), owner));
  }
  return under_way;
}

void gather_shards(ProcessGroup& ranks, const std::vector<std::vector<ElementRange>>& shards,
                   const Tensor& flat) {
  std::vector<std::vector<Handle>> under_way;
  for (size_t bucket = 0; bucket < shards[0].size(); ++bucket)
    under_way.push_back(gather_bucket(ranks, shards, bucket, flat));
  for (std::vector<Handle>& handles : under_way)
    for (Handle& handle : handles) handle.wait();
}

}  // namespace minibert
