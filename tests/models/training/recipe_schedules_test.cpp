// recipe_schedules_test.cpp: the learning rate of every step of the published recipes against the
// published formulas, written here in double. Steps count over the run; each phase begins anew.
#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "models/training/phases.h"

namespace minibert {
namespace {

/// What a phase is expected to be: steps, and the rate of its step t, from 0.
struct Expected {
  int64_t steps;
  std::function<double(int64_t t)> rate;
};

void expect_rates(const std::string& recipe, const std::vector<Expected>& expected) {
  const std::vector<Phase> phases = phases_of(recipe_config(recipe));
  ASSERT_EQ(phases.size(), expected.size()) << recipe;
  const RunSchedule run = run_schedule(phases);
  int64_t step = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(phases[i].steps, expected[i].steps) << recipe;
    for (int64_t t = 0; t < expected[i].steps; ++t, ++step) {
      const double want = expected[i].rate(t), got = run.learning_rate(step);
      // lr0 is stored in f32, and so is the result.
      ASSERT_NEAR(got, want, 1.5e-7 * want) << recipe << ", phase " << i + 1 << ", step " << t;
    }
  }
  EXPECT_EQ(run.total_steps(), step) << recipe;
}

// DeepLearningExamples, schedulers.py, PolyWarmUpScheduler with degree 0.5: progress counts the step
// that is about to be applied.
Expected nvidia(int64_t steps, double rate, double warmup) {
  return {steps, [=](int64_t t) {
            const double progress = static_cast<double>(t + 1) / static_cast<double>(steps);
            return progress < warmup ? rate * progress / warmup
                                     : rate * std::pow(1 - progress, 0.5);
          }};
}

// google-research/bert, optimization.py, create_optimizer.
Expected google(int64_t steps, double rate, int64_t warmup) {
  return {steps, [=](int64_t t) {
            const auto x = static_cast<double>(t);
            return t < warmup ? rate * x / static_cast<double>(warmup)
                              : rate * (1 - x / static_cast<double>(steps));
          }};
}

// arXiv 1904.00962: lr0 (1 - t/T); the warm-up raises it linearly from zero.
Expected lamb(int64_t steps, double rate, double share) {
  return {steps, [=](int64_t t) {
            const auto x = static_cast<double>(t), T = static_cast<double>(steps);
            return rate * std::min(1.0, (x + 1) / (share * T)) * (1 - x / T);
          }};
}

TEST(RecipeSchedules, NvidiasAtEveryStep) {
  expect_rates("bert-large-nvidia", {nvidia(7038, 6e-3, 0.2843), nvidia(1563, 4e-3, 0.128)});
}

TEST(RecipeSchedules, GooglesAtEveryStep) {
  expect_rates("bert-base-google", {google(900000, 1e-4, 10000), google(100000, 1e-4, 10000)});
}

TEST(RecipeSchedules, ThePapersAtEveryStep) {
  expect_rates("bert-large-lamb-32k", {lamb(14063, 5e-3, 0.2), lamb(1562, 5e-3, 0.2)});
  expect_rates("bert-large-lamb-512",
               {lamb(900032, 6.25e-4, 1 / 320.0), lamb(99968, 6.25e-4, 1 / 320.0)});
  expect_rates("bert-large-lamb-64k",
               {lamb(7037, 5e-3 * std::sqrt(2.0), 0.4), lamb(1562, 5e-3, 0.2)});
}

TEST(RecipeSchedules, NvidiasSecondPhaseCountsBiasCorrectionAnew) {
  const RunSchedule run = run_schedule(phases_of(recipe_config("bert-large-nvidia")));
  EXPECT_EQ(run.moment_step(7037), 7038);
  EXPECT_EQ(run.moment_step(7038), 1);
  EXPECT_EQ(run_schedule(phases_of(recipe_config("bert-large-lamb-64k"))).moment_step(7037), 7038);
}

}  // namespace
}  // namespace minibert
