// dealing_test.cpp: every micro-batch goes to one rank; ranks get about the same number of tokens.
#include "models/training/dealing.h"

#include <algorithm>
#include <random>
#include <set>

#include <gtest/gtest.h>

namespace minibert {
namespace {

StepPlan plan_of(const std::vector<int64_t>& tokens) {
  StepPlan plan;
  for (const int64_t count : tokens) {
    plan.cuts.push_back({.tokens = count});
    plan.tokens += count;
  }
  return plan;
}

StepPlan random_plan(size_t micro_batches, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int64_t> tokens(300, 4096);
  std::vector<int64_t> counts(micro_batches);
  for (int64_t& count : counts) count = tokens(random);
  return plan_of(counts);
}

void expect_each_once(const Deal& deal, size_t micro_batches) {
  std::set<int64_t> seen;
  for (const auto& numbers : deal) {
    EXPECT_TRUE(std::ranges::is_sorted(numbers));
    for (const int64_t number : numbers) EXPECT_TRUE(seen.insert(number).second) << number;
  }
  EXPECT_EQ(seen.size(), micro_batches);
  if (!seen.empty()) EXPECT_EQ(*seen.rbegin(), static_cast<int64_t>(micro_batches) - 1);
}

TEST(Dealing, GivesEachMicroBatchToOneRank) {
  for (const size_t micro_batches : {0u, 1u, 2u, 3u, 7u, 8u, 33u}) {
    for (const int world : {1, 2, 3, 4, 8}) {
      SCOPED_TRACE(fmt::format("{} micro-batches, {} ranks", micro_batches, world));
      const StepPlan plan = random_plan(micro_batches, 5);
      const Deal deal = deal_by_tokens(plan, world);
      ASSERT_EQ(deal.size(), static_cast<size_t>(world));
      expect_each_once(deal, micro_batches);
      if (world != 3) expect_each_once(deal_in_order(plan, world), micro_batches);
    }
  }
}

// Graham's bound for the largest-first rule: 4/3 - 1/(3 W) of the best that any dealing reaches,
// which is no less than the mean and no less than the largest.
TEST(Dealing, IsWithinGrahamsBound) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    for (const int world : {2, 3, 8}) {
      const StepPlan plan = random_plan(3 * static_cast<size_t>(world) + seed % 5, seed);
      int64_t largest = 0;
      for (const auto& cut : plan.cuts) largest = std::max(largest, cut.tokens);
      const double mean = static_cast<double>(plan.tokens) / world;
      const double best = std::max(mean, static_cast<double>(largest)) / mean;
      EXPECT_LE(token_spread(plan, deal_by_tokens(plan, world)), 1.01 * (4.0 / 3) * best);
    }
  }
}

TEST(Dealing, OfFullMicroBatchesIsEven) {
  const StepPlan plan = plan_of(std::vector<int64_t>(32, 512));
  for (const auto& numbers : deal_by_tokens(plan, 4)) EXPECT_EQ(numbers.size(), 8u);
  EXPECT_DOUBLE_EQ(token_spread(plan, deal_by_tokens(plan, 4)), 1);
}

TEST(Dealing, SpreadIsTheLargestShareOverTheMean) {
  // 7 + 2 against 5 + 4: even. In order: 7 + 5 against 4 + 2, and the mean is 9.
  const StepPlan plan = plan_of({7, 5, 4, 2});
  EXPECT_DOUBLE_EQ(token_spread(plan, deal_by_tokens(plan, 2)), 1);
  EXPECT_DOUBLE_EQ(token_spread(plan, deal_in_order(plan, 2)), 12.0 / 9);
}

// Five leaves, padded to eight: the second of two ranks has the last one alone.
TEST(Dealing, InOrderGivesSubtrees) {
  const StepPlan plan = plan_of({1, 1, 1, 1, 1});
  EXPECT_EQ(deal_in_order(plan, 1), (Deal{{0, 1, 2, 3, 4}}));
  EXPECT_EQ(deal_in_order(plan, 2), (Deal{{0, 1, 2, 3}, {4}}));
  EXPECT_EQ(deal_in_order(plan, 4), (Deal{{0, 1}, {2, 3}, {4}, {}}));
}

}  // namespace
}  // namespace minibert
