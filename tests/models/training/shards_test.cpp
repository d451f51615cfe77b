// shards_test.cpp: every element has one owner; borders lie at chunks; weights come from their owners.
#include "models/training/shards.h"

#include "core/kernels/optimizer.h"
#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

constexpr int64_t kChunk = kOptimizerChunk;

TEST(Shards, HoldEveryElementOnce) {
  for (const int world : {2, 3, 4, 8}) {
    for (const int64_t elements : {int64_t{64}, kChunk, 5 * kChunk + 64, 100 * kChunk - 64}) {
      const int64_t bucket = bucket_elements(10 * kChunk * 4, world);
      EXPECT_EQ(bucket % (world * kChunk), 0);
      const auto shards = shard_ranges(elements, bucket, world);
      ASSERT_EQ(shards.size(), static_cast<size_t>(world));
      int64_t next = 0;
      for (size_t b = 0; b < shards[0].size(); ++b) {
        for (const auto& rank : shards) {
          EXPECT_EQ(rank[b].offset, next);
          if (rank[b].count > 0 && rank[b].offset > 0) EXPECT_EQ(rank[b].offset % kChunk, 0);
          next += rank[b].count;
        }
      }
      EXPECT_EQ(next, elements);
    }
  }
}

TEST(Shards, OfWholeBucketsAreTheBlocksOfCollectives) {
  const auto shards = shard_ranges(9 * kChunk, 6 * kChunk, 3);
  EXPECT_TRUE(is_even(shards, 0));
  EXPECT_TRUE(is_even(shards, 1));  // one chunk each
  EXPECT_FALSE(is_even(shard_ranges(8 * kChunk, 6 * kChunk, 3), 1));
  std::vector<float> values(static_cast<size_t>(6 * kChunk));
  for (int rank = 0; rank < 3; ++rank) {
    const Elements block = Elements(std::span(values)).block(rank, 3);
    EXPECT_EQ(reinterpret_cast<float*>(block.data) - values.data(),
              shards[static_cast<size_t>(rank)][0].offset);
    EXPECT_EQ(block.count, shards[static_cast<size_t>(rank)][0].count);
  }
}

TEST(Shards, ABucketHasWholeChunksForEachRank) {
  EXPECT_EQ(bucket_elements(1, 4), 4 * kChunk);
  EXPECT_EQ(bucket_elements(4 * 9 * kChunk, 4), 8 * kChunk);
}

TEST(Shards, GatherBringsEachElementFromItsOwner) {
  for (const int world : {2, 3}) {
    const int64_t elements = 8 * kChunk + 128;
    const auto shards = shard_ranges(elements, 2 * world * kChunk, world);
    auto transports = memory_transports(world, /* timeout= */ 30);
    const auto errors = testing::run_ranks(world, [&](int rank) {
      RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
      const Tensor flat = Tensor::zeros({elements}, DType::f32);
      for (const ElementRange& range : shards[static_cast<size_t>(rank)])
        for (int64_t i = 0; i < range.count; ++i)
          flat.data<float>()[range.offset + i] = static_cast<float>(range.offset + i);
      gather_shards(group, shards, flat);
      for (int64_t i = 0; i < elements; ++i)
        ASSERT_EQ(flat.data<float>()[i], static_cast<float>(i)) << "rank " << rank;
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
  }
}

}  // namespace
}  // namespace minibert
