// compare_curves_test.cpp: planted differences are found where they are, chance is not one, and the
// band is the header's formula.
#include "models/curves/compare_curves.h"

#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

using testing::has, testing::message_of;

/// A falling curve with the noise of `seed`, standard deviation 0.1.
RunData run_of(uint32_t seed, int64_t steps = 400, double noise = 0.1) {
  std::mt19937 draw(seed);
  RunData run;
  run.folder = "run" + std::to_string(seed);
  for (int64_t step = 1; step <= steps; ++step) {
    double chance = -6;  // of twelve uniform numbers: nearly normal, variance 1
    for (int i = 0; i < 12; ++i) chance += static_cast<double>(draw()) * 0x1p-32;
    StepRecord record;
    record.step = step;
    record.mlm_loss = 3 + 5 * std::exp(-static_cast<double>(step) / 100) + noise * chance;
    record.loss = record.mlm_loss;
    run.records.push_back(record);
  }
  return run;
}

TEST(CompareCurves, EqualRunsAreEqual) {
  const CurveComparison c = compare_curves(run_of(1), run_of(1), {});
  EXPECT_FALSE(c.any);
  EXPECT_FALSE(c.loss_bits);
  EXPECT_FALSE(c.loss_tolerance);
  EXPECT_EQ(c.windows.size(), 40u);
  EXPECT_TRUE(c.agree());
}

TEST(CompareCurves, ChanceStaysWithinTheBandThatItMakes) {
  int64_t outside = 0, windows = 0;
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    const CurveComparison c =
        compare_curves(run_of(seed), run_of(seed + 1000), {.deviations = 4, .tolerance = 0});
    outside += c.outside();
    windows += static_cast<int64_t>(c.windows.size());
  }
  EXPECT_EQ(windows, 1600);
  EXPECT_LE(outside, 8) << "Student's t of about 12 degrees of freedom: 1.8 in 1,000 beyond 4";
  outside = 0;
  for (uint32_t seed = 1; seed <= 40; ++seed)
    outside += compare_curves(run_of(seed), run_of(seed + 1000), {.deviations = 1, .tolerance = 0})
                   .outside();
  EXPECT_GT(outside, 1600 * 0.25)
      << "a third of all lie beyond one deviation: the band is no wider";
  EXPECT_LT(outside, 1600 * 0.45);
}

TEST(CompareCurves, TheBandIsTheFormula) {
  const RunData a = run_of(5, 20), b = run_of(6, 20);
  const CurveComparison c =
      compare_curves(a, b, {.deviations = 3, .tolerance = 0.02, .windows = 1});
  ASSERT_EQ(c.windows.size(), 1u);
  double mean_a = 0, mean_b = 0, squares = 0;
  for (size_t i = 0; i < 20; ++i) {
    mean_a += a.records[i].mlm_loss / 20;
    mean_b += b.records[i].mlm_loss / 20;
    if (i == 0) continue;
    squares += std::pow(a.records[i].mlm_loss - a.records[i - 1].mlm_loss, 2) / 38;
    squares += std::pow(b.records[i].mlm_loss - b.records[i - 1].mlm_loss, 2) / 38;
  }
  EXPECT_NEAR(c.windows[0].difference, mean_b - mean_a, 1e-12);
  EXPECT_NEAR(c.windows[0].band, 3 * std::sqrt(squares / 20) + 0.02 * mean_a, 1e-12);
}

TEST(CompareCurves, APlantedShiftIsFoundInItsWindow) {
  const RunData a = run_of(1);
  RunData b = run_of(2);
  for (StepRecord& record : b.records)
    if (record.step > 200 && record.step <= 210) record.mlm_loss += 1;
  const CurveComparison c = compare_curves(a, b, {});
  EXPECT_EQ(c.outside(), 1);
  EXPECT_TRUE(c.windows[20].outside);
  EXPECT_EQ(c.windows[20].first, 201);
  EXPECT_EQ(c.windows[20].last, 210);
}

TEST(CompareCurves, TheFirstDifferingStepIsTheBitsOwn) {
  const RunData a = run_of(1);
  RunData b = a;
  b.records[40].grad_norm = 0.5;
  b.records[56].loss = std::nextafter(a.records[56].loss, 9);
  b.records[99].loss = a.records[99].loss * 1.02;
  const CurveComparison c = compare_curves(a, b, {.tolerance = 0.01});
  ASSERT_TRUE(c.any);
  EXPECT_EQ(c.any->step, 41);
  EXPECT_EQ(c.any->field, "grad_norm");
  EXPECT_EQ(c.any->a, "0");
  EXPECT_EQ(c.any->b, "0.5");
  EXPECT_EQ(c.loss_bits, 57);
  EXPECT_EQ(c.loss_tolerance, 100);
  EXPECT_TRUE(c.agree());
}

TEST(CompareCurves, NaNInOneRunIsADifference) {
  const RunData a = run_of(1);
  RunData b = a;
  b.records[14].mlm_loss = b.records[14].loss = NAN;
  CurveComparison c = compare_curves(a, b, {});
  EXPECT_FALSE(c.agree());
  EXPECT_TRUE(c.windows[1].outside);
  EXPECT_EQ(c.not_finite_in_one, 1);
  EXPECT_EQ(c.loss_bits, 15);
  EXPECT_EQ(c.loss_tolerance, 15);
  c = compare_curves(b, b, {});
  EXPECT_TRUE(c.agree()) << "the same in both";
  EXPECT_EQ(c.not_finite_in_both, 1);
  EXPECT_EQ(c.windows[1].steps, 9);
  for (StepRecord& record : b.records) record.mlm_loss = NAN;
  EXPECT_TRUE(compare_curves(b, b, {}).agree());
  EXPECT_FALSE(compare_curves(a, b, {}).agree());
}

TEST(CompareCurves, OnlyCommonStepsCount) {
  const RunData a = run_of(1, 100);
  RunData b = run_of(1, 60);
  b.records.erase(b.records.begin() + 10, b.records.begin() + 20);
  EXPECT_EQ(compare_curves(a, b, {}).common_steps, 50);
  EXPECT_EQ(compare_curves(b, a, {}).common_steps, 50);
  b.records.erase(b.records.begin() + 1, b.records.end());
  EXPECT_TRUE(has(message_of<DataError>([&] { compare_curves(a, b, {}); }),
                  "have 1 steps in common, expected at least 2"));
}

}  // namespace
}  // namespace minibert
