// weight_gather.cpp: in which order buckets begin, and how far a reader waits.
#include "models/training/weight_gather.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace minibert {

WeightGather::WeightGather(ProcessGroup& group, const Arena& arena,
                           const std::vector<std::vector<ElementRange>>& shards, int64_t bucket)
    : group_(group),
      arena_(arena),
      shards_(shards),
      elements_(bucket),
      masters_(shards[0].size()),
      under_way_(shards[0].size()),
      there_(shards[0].size()),
      clock_(arena.device()) {
  if (arena.compute() != DType::f32) find_masters();
}

/// LayerNorm's vectors, which layers read in f32: cut at the borders of shards.
void WeightGather::find_masters() {
  for (const ParameterSlice& slice : arena_.table().slices()) {
    if (!slice.master) continue;
    const int64_t end = slice.offset + slice.used();
    for (size_t bucket = 0; bucket < masters_.size(); ++bucket) {
      for (int rank = 0; rank < group_.world(); ++rank) {
        const ElementRange& shard = shards_[static_cast<size_t>(rank)][bucket];
        const int64_t first = std::max(slice.offset, shard.offset);
        const int64_t count = std::min(end, shard.offset + shard.count) - first;
        if (count > 0) masters_[bucket].push_back({{first, count}, rank});
      }
    }
  }
}

void WeightGather::outdate() {
  finish();
  outdated_ = true;
}

void WeightGather::start() {
  MB_ASSERT(outdated_, "weight gather: nothing is new");
  for (size_t bucket = 0; bucket < under_way_.size(); ++bucket) {
    under_way_[bucket] = gather_bucket(group_, shards_, bucket, arena_.working());
    for (const auto& [elements, rank] : masters_[bucket])
      under_way_[bucket].push_back(
          group_.broadcast(Elements(arena_.masters()).part(elements.offset, elements.count), rank));
  }
  outdated_ = false;
  there_ = 0;
}

void WeightGather::wait_for(const ElementRange& elements) {
  MB_ASSERT(!outdated_, "weights are read before they are shared (TrainStep::share_weights)");
  const int64_t last = elements.offset + elements.count - 1;
  for (; there_ < under_way_.size() && static_cast<int64_t>(there_) * elements_ <= last; ++there_)
    for (Handle& handle : under_way_[there_]) clock_.wait(handle);
}

CommunicationClock WeightGather::take_clock() {
  return std::exchange(clock_, CommunicationClock(arena_.device()));
}

}  // namespace minibert
