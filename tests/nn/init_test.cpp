// init_test.cpp: how parameters start: the truncated normal by its moments, what the values depend
// on and what they don't, padding. Bounds are six standard deviations of the estimate.
#include "nn/init.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "tests/core/kernels/kernel_fixture.h"

namespace minibert {
namespace {

using testing::same_bits;

/// An arena of one padded table, a matrix next to it, and a vector each of ones and zeros, with
/// garbage everywhere.
struct Parameters {
  Arena arena{table()};
  std::vector<Initializer> initializers = {Initializer::truncated_normal,
                                           Initializer::truncated_normal, Initializer::ones,
                                           Initializer::zeros};

  explicit Parameters(uint64_t seed = 1) {
    for (float& x : arena.masters().span<float>()) x = -77;
    initialize_parameters(arena, initializers, 0.5f, seed);
  }
  static ParameterTable table() {
    ParameterTable table;
    table.add("words", {7, 5}, {64, 5});
    table.add("dense", {7, 5});
    table.add("norm", {33});
    table.add("bias", {65});
    return table;
  }
};

TEST(InitializeParameters, WantsOneInitializerAParameter) {
  Parameters p;
  p.initializers.pop_back();
  EXPECT_THROW(initialize_parameters(p.arena, p.initializers, 0.02f, 1), UsageError);
}

// Of a normal cut at a = 2, with phi its density and Z = P(|x| <= 2):
//   E[x^2] = 1 - 2 a phi(a) / Z     E[x^4] = 3 E[x^2] - 2 a^3 phi(a) / Z
TEST(InitializeParameters, DrawsANormalCutAtTwoDeviations) {
  const int64_t n = 200000;
  const double deviation = 0.25;
  ParameterTable table;
  table.add("x", {n});
  Arena arena(table);
  initialize_parameters(arena, {Initializer::truncated_normal}, static_cast<float>(deviation), 5);
  double sum = 0, squares = 0, largest = 0, inside = 0;
  for (const float value : arena.weight(0).span<float>()) {
    const double x = value / deviation;
    sum += x, squares += x * x;
    largest = std::max(largest, std::abs(x));
    inside += std::abs(x) <= 1 ? 1 : 0;
  }
  const double N = static_cast<double>(n), phi = std::exp(-2.0) / std::sqrt(2 * std::numbers::pi);
  const double Z = std::erf(std::numbers::sqrt2);
  const double second = 1 - 4 * phi / Z, fourth = 3 * second - 16 * phi / Z;
  EXPECT_NEAR(sum / N, 0, 6 * std::sqrt(second / N));
  EXPECT_NEAR(squares / N, second, 6 * std::sqrt((fourth - second * second) / N));
  const double share = std::erf(1 / std::numbers::sqrt2) / Z;  // of |x| <= 1
  EXPECT_NEAR(inside / N, share, 6 * std::sqrt(share * (1 - share) / N));
  EXPECT_LE(largest, 2.0);
  EXPECT_GT(largest, 1.99);  // missed once in 10^98 runs
}

TEST(InitializeParameters, OnesZerosAndPaddingAreExact) {
  const Parameters p;
  for (const float x : p.arena.weight(2).span<float>()) EXPECT_EQ(x, 1.0f);
  for (const float x : p.arena.weight(3).span<float>()) EXPECT_EQ(x, 0.0f);
  const auto words = p.arena.weight(0).span<float>();
  for (size_t i = 0; i < words.size(); ++i) {
    if (i < 7 * 5)
      EXPECT_LE(std::abs(words[i]), 1.0f) << i;  // two deviations
    else
      EXPECT_EQ(words[i], 0.0f) << i;
  }
}

TEST(InitializeParameters, TheSeedDecidesAndTheThreadCountDoesNot) {
  const Parameters reference(1), other(2);
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    EXPECT_TRUE(same_bits(Parameters(1).arena.masters(), reference.arena.masters())) << threads;
  }
  set_num_threads(available_cpus());
  for (const int drawn : {0, 1})
    EXPECT_FALSE(same_bits(other.arena.weight(drawn), reference.arena.weight(drawn))) << drawn;
  for (const int constant : {2, 3})
    EXPECT_TRUE(same_bits(other.arena.weight(constant), reference.arena.weight(constant)));
}

// Philox gives each parameter a stream of its own: neither a longer nor a further one changes it.
TEST(InitializeParameters, ValuesDependOnSeedAndNumberAlone) {
  const auto weights_of = [](std::vector<int64_t> rows, int number) {
    ParameterTable table;
    for (const int64_t r : rows) table.add("p" + std::to_string(table.count()), {r, 4});
    Arena arena(table);
    const std::vector<Initializer> all(rows.size(), Initializer::truncated_normal);
    initialize_parameters(arena, all, 0.5f, 77);
    return arena.weight(number);
  };
  EXPECT_TRUE(same_bits(weights_of({3, 5}, 1), weights_of({1000, 5, 9}, 1)));
  EXPECT_TRUE(same_bits(weights_of({3}, 0), weights_of({1000}, 0).rows(0, 3)));
  EXPECT_FALSE(same_bits(weights_of({3, 3}, 0), weights_of({3, 3}, 1)));
}

}  // namespace
}  // namespace minibert
