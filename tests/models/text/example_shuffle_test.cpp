// example_shuffle_test.cpp: every example comes back once and whole, in an order that depends on
// the seed alone and not on memory, and that has nothing to do with the order of its coming.
// Expected: the bound of a rank correlation of independent orders, and the order that the keys
// define.
#include "models/text/example_shuffle.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

using testing::TemporaryFolder;

constexpr int kExamples = 20000;

StoredExample example(int number) {
  StoredExample stored;
  stored.example.ids.assign(static_cast<size_t>(3 + number % 11), number);
  stored.example.first_segment = number % 3;
  stored.example.nsp_label = static_cast<int8_t>(number % 3 - 1);
  for (int i = 0; i < number % 4; ++i) {
    stored.masked_positions.push_back(i);
    stored.masked_labels.push_back(number + i);
  }
  return stored;
}

struct Shuffled {
  std::vector<int> order;
  size_t buckets = 0;
};

Shuffled shuffled(uint64_t seed, int64_t memory) {
  TemporaryFolder folder;
  ExampleShuffle shuffle(folder.path(), seed, /* bytes= */ 1 << 20, memory);
  for (int i = 0; i < kExamples; ++i) shuffle.add(example(i));
  Shuffled result{{}, shuffle.buckets()};
  shuffle.drain([&](const StoredExample& stored) {
    const int number = stored.example.ids[0];
    const StoredExample expected = example(number);
    ASSERT_EQ(stored.example.ids, expected.example.ids);
    ASSERT_EQ(stored.example.first_segment, expected.example.first_segment);
    ASSERT_EQ(stored.example.nsp_label, expected.example.nsp_label);
    ASSERT_EQ(stored.masked_positions, expected.masked_positions);
    ASSERT_EQ(stored.masked_labels, expected.masked_labels);
    result.order.push_back(number);
  });
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  return result;
}

TEST(ExampleShuffle, IsAPermutationByTheSeedAlone) {
  const Shuffled one = shuffled(7, 1 << 30), many = shuffled(7, 1 << 14);
  EXPECT_EQ(one.buckets, 1u);
  EXPECT_GT(many.buckets, 60u);
  EXPECT_EQ(one.order, many.order);
  EXPECT_NE(one.order, shuffled(8, 1 << 30).order);
  std::vector<int> sorted = one.order;
  std::sort(sorted.begin(), sorted.end());
  for (int i = 0; i < kExamples; ++i) ASSERT_EQ(sorted[static_cast<size_t>(i)], i);
}

TEST(ExampleShuffle, IsTheOrderOfTheKeys) {
  const auto key = [](int number) {
    RandomStream draws(7, StreamPurpose::shuffle, static_cast<uint64_t>(number) + 1);
    const uint64_t high = draws.next_u32();
    return high << 32 | draws.next_u32();
  };
  const std::vector<int> order = shuffled(7, 1 << 14).order;
  for (size_t i = 1; i < order.size(); ++i) ASSERT_LT(key(order[i - 1]), key(order[i]));
}

// Spearman's rho of n independent orders has mean 0 and variance 1 / (n - 1).
TEST(ExampleShuffle, HasNothingToDoWithTheOrderOfComing) {
  const std::vector<int> order = shuffled(7, 1 << 14).order;
  double sum = 0;
  const double middle = (kExamples - 1) / 2.0;
  for (int i = 0; i < kExamples; ++i)
    sum += (i - middle) * (order[static_cast<size_t>(i)] - middle);
  const double n = kExamples;
  const double rho = sum / (n * (n * n - 1) / 12);
  EXPECT_LT(std::abs(rho), 4 / std::sqrt(n - 1));
}

}  // namespace
}  // namespace minibert
