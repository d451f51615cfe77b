// gradient_tree_test.cpp: sums of 1, 2, 4 and 8 ranks have the same bits: those of the tree as it is
// drawn, added up here by recursion.
#include "models/training/gradient_tree.h"

#include <bit>
#include <cstring>
#include <random>

#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

constexpr int64_t kElements = 1000;
constexpr double kTimeout = 30;

/// Gradients of a micro-batch; some are -0, which adding a zero would change.
std::vector<float> leaf(int64_t number) {
  std::mt19937 random(static_cast<uint32_t>(number + 1));
  std::normal_distribution<float> normal;
  std::vector<float> values(kElements);
  for (size_t i = 0; i < values.size(); ++i) values[i] = i % 7 == 0 ? -0.0f : normal(random);
  return values;
}

/// Sum over leaves [begin, end) of a tree over [begin, begin + size).
std::vector<float> sum_of(int64_t begin, int64_t size, int64_t leaves) {
  if (size == 1) return leaf(begin);
  std::vector<float> left = sum_of(begin, size / 2, leaves);
  if (begin + size / 2 >= leaves) return left;
  const std::vector<float> right = sum_of(begin + size / 2, size / 2, leaves);
  for (size_t i = 0; i < left.size(); ++i) left[i] += right[i];
  return left;
}

bool same_bits(const std::vector<float>& a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

TEST(GradientTree, GivesTheSameBitsOnAnyNumberOfRanks) {
  for (const int64_t leaves : {1, 2, 3, 4, 5, 7, 8, 11, 16}) {
    const auto size = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(leaves)));
    const std::vector<float> expected = sum_of(0, size, leaves);
    for (const int world : {1, 2, 4, 8}) {
      auto transports = memory_transports(world, kTimeout);
      const auto errors = testing::run_ranks(world, [&](int rank) {
        RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
        const Tensor gradients = Tensor::empty({kElements}, DType::f32);
        GradientTree tree(&group, gradients);
        const TreeLeaves mine = tree_leaves(leaves, rank, world);
        for (int round = 0; round < 2; ++round) {  // what a step leaves must not show in the next
          for (int64_t i = mine.first; i < mine.end; ++i) {
            gradients.copy_from(Tensor::from<float>(leaf(i), {kElements}));
            tree.add();
          }
          tree.finish(leaves);
          EXPECT_TRUE(same_bits(expected, gradients.span<float>()))
              << leaves << " leaves, rank " << rank << " of " << world << ", round " << round;
        }
      });
      for (const std::string& error : errors) EXPECT_EQ(error, "");
    }
  }
}

TEST(GradientTree, ForgetsADroppedStep) {
  const Tensor gradients = Tensor::empty({kElements}, DType::f32);
  GradientTree tree(nullptr, gradients);
  gradients.copy_from(Tensor::from<float>(leaf(9), {kElements}));
  tree.add();
  tree.forget();
  for (int64_t i = 0; i < 2; ++i) {
    gradients.copy_from(Tensor::from<float>(leaf(i), {kElements}));
    tree.add();
  }
  tree.finish(2);
  EXPECT_TRUE(same_bits(sum_of(0, 2, 2), gradients.span<float>()));
}

TEST(GradientTree, NeedsAPowerOfTwo) {
  auto transports = memory_transports(3, kTimeout);
  RingGroup group(std::move(transports[0]));
  try {
    GradientTree tree(&group, Tensor::zeros({8}, DType::f32));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(),
                 "train.deterministic: there are 3 ranks, expected 1, 2, 4, 8 or another power of "
                 "two (gradients are summed in a binary tree). Start 2 ranks, or use "
                 "--no-deterministic.");
  }
}

}  // namespace
}  // namespace minibert
