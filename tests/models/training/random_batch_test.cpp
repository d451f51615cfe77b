// random_batch_test.cpp: random micro-batches have the sizes that were asked for.
#include "models/training/random_batch.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

constexpr BatchLimits kLimits{.vocab_size = 100, .max_positions = 64, .segments = 2};

TEST(RandomBatch, HasTheSizesAskedFor) {
  const std::vector<int64_t> lengths = {10, 64, 3};
  const PackedBatch batch = random_batch(lengths, 100, kLimits, /* nsp= */ true, {1, 2});
  EXPECT_EQ(batch.tokens(), 77);
  EXPECT_EQ(batch.sequences(), 3);
  EXPECT_EQ(batch.masked_rows(), 2 + 10 + 1);  // 1.5, 9.6 and 0.45, rounded; one at least
  for (const int32_t id : batch.ids.span<int32_t>()) EXPECT_TRUE(id >= 5 && id < 100) << id;
  EXPECT_EQ(random_batch(lengths, 100, kLimits, true, {1, 2}, 5).masked_rows(), 5 + 5 + 3);
}

TEST(RandomBatch, DependsOnItsNameAlone) {
  const std::vector<int64_t> lengths = {40, 40};
  const auto ids = [&](const RandomBatchName& name) {
    const PackedBatch batch = random_batch(lengths, 100, kLimits, true, name);
    const auto span = batch.ids.span<int32_t>();
    return std::vector<int32_t>(span.begin(), span.end());
  };
  EXPECT_EQ(ids({1, 2}), ids({1, 2}));
  EXPECT_NE(ids({1, 2}), ids({1, 3}));
  EXPECT_NE(ids({1, 2}), ids({2, 2}));
}

}  // namespace
}  // namespace minibert
