// example_shuffle.h: a random order of all examples of a build, in bounded memory: each example has a
// random 64-bit key, goes to the bucket of its key's range, and buckets are sorted one after the other.
// Called by example_stage.cpp for --shuffle. Easy to break: the order is that of the keys, whatever the
// number of buckets; a key comes from the stream (seed, shuffle, 1 + example number), since number
// 0 names the loader's order. Test: ctest -R example_shuffle.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "models/text/shard.h"
#include "models/text/spill_array.h"

namespace minibert {

class ExampleShuffle {
 public:
  /// bytes: what the examples will take, about (kBytesPerToken a token). memory: bytes that a bucket
  /// may take while it is sorted; small buckets stay in memory, others go to files in `folder`.
  ExampleShuffle(const std::filesystem::path& folder, uint64_t seed, int64_t bytes, int64_t memory);
  static constexpr int64_t kBytesPerToken = 8;

  /// Examples in the order of their numbers 0, 1, 2, ...
  void add(const StoredExample& example);
  /// Calls `sink` for each example in the order of the keys. Once, after the last add().
  void drain(const std::function<void(const StoredExample&)>& sink);

  size_t buckets() const { return buckets_.size(); }

 private:
  const uint64_t seed_;
  int64_t added_ = 0;
  std::vector<SpillArray<int32_t>> buckets_;
  std::vector<int32_t> record_;
};

}  // namespace minibert
