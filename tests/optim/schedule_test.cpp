// schedule_test.cpp: each schedule against its published formula at the points where variants
// differ: the first step, both sides of the end of the warm-up, the last step and beyond.
#include "optim/schedule.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

Schedule make(const std::string& name, float lr, double warmup, int64_t total, double power = 1,
              float end = 0) {
  return Schedule({name, lr, warmup, total, power, end});
}

// LAMB's lr0 (1 - t/T), arXiv 1904.00962, sec. 4.
TEST(Schedule, LinearWithoutWarmUpIsLambs) {
  const Schedule schedule = make("linear", 5e-3f, 0, 8);
  const double expected[] = {5e-3, 4.375e-3, 3.75e-3, 3.125e-3, 2.5e-3, 1.875e-3, 1.25e-3, 6.25e-4};
  for (int64_t t = 0; t < 8; ++t) EXPECT_FLOAT_EQ(schedule.learning_rate(t), expected[t]) << t;
  EXPECT_EQ(schedule.learning_rate(8), 0.0f);
  EXPECT_EQ(schedule.learning_rate(1000), 0.0f);
}

TEST(Schedule, LinearRampIsAFactorAndDoesNotJump) {
  const Schedule schedule = make("linear", 1.0f, 4, 10);
  EXPECT_FLOAT_EQ(schedule.learning_rate(0), 0.25f * 1.0f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(1), 0.50f * 0.9f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(2), 0.75f * 0.8f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(3), 0.7f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(4), 0.6f);
}

// google-research/bert optimization.py: global_step counts from 0; while global_step < W the rate
// is init_lr * global_step / W; polynomial_decay(power 1) of the same global_step otherwise.
TEST(Schedule, GoogleLinearStartsAtZeroAndDropsAfterTheWarmUp) {
  const Schedule schedule = make("google-linear", 1e-4f, 10000, 1000000);
  EXPECT_EQ(schedule.learning_rate(0), 0.0f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(1), 1e-8f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(9999), 1e-4f * 0.9999f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(10000), 1e-4f * 0.99f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(500000), 0.5e-4f);
  EXPECT_EQ(schedule.learning_rate(1000000), 0.0f);
}

// DeepLearningExamples schedulers.py, PolyWarmUpScheduler: progress = (applied + 1) / T; below the
// warm-up ratio lr progress / ratio, else lr sqrt(1 - progress). Phase 1 of BERT-large.
TEST(Schedule, PolynomialIsNvidias) {
  const Schedule schedule = make("polynomial", 6e-3f, 0.2843, 7038, 0.5);
  EXPECT_NEAR(schedule.warmup_steps(), 2000.9034, 1e-9);
  EXPECT_FLOAT_EQ(schedule.learning_rate(0), static_cast<float>(6e-3 / 7038 / 0.2843));
  EXPECT_FLOAT_EQ(schedule.learning_rate(1999), static_cast<float>(6e-3 * 2000 / 2000.9034));
  EXPECT_FLOAT_EQ(schedule.learning_rate(2000),
                  static_cast<float>(6e-3 * std::sqrt(1 - 2001.0 / 7038)));
  EXPECT_FLOAT_EQ(schedule.learning_rate(7036), static_cast<float>(6e-3 * std::sqrt(1.0 / 7038)));
  EXPECT_EQ(schedule.learning_rate(7037), 0.0f);
}

// Transformers' get_linear_schedule_with_warmup: t / max(1, W), then max(0, (T - t) / max(1, T - W)).
TEST(Schedule, TransformersLinearReachesLr0) {
  const Schedule schedule = make("transformers-linear", 1.0f, 4, 10);
  for (int64_t t = 0; t <= 12; ++t) {
    const auto x = static_cast<double>(t);
    EXPECT_FLOAT_EQ(schedule.learning_rate(t), t < 4 ? x / 4 : std::max(0.0, (10 - x) / 6)) << t;
  }
  EXPECT_EQ(make("transformers-linear", 1.0f, 10, 10).learning_rate(9), 0.9f);
}

TEST(Schedule, TheHighestStepIsFound) {
  for (const char* name :
       {"linear", "polynomial", "constant", "google-linear", "transformers-linear"}) {
    for (const double warmup : {0.0, 1.0, 2.5, 4.0, 7.0, 10.0}) {
      const Schedule schedule = make(name, 1.0f, warmup == 2.5 ? 0.25 : warmup, 10);
      int64_t best = 0;
      for (int64_t t = 0; t < 10; ++t)
        if (schedule.learning_rate(t) > schedule.learning_rate(best)) best = t;
      EXPECT_EQ(schedule.highest_step(), best) << name << " " << warmup;
    }
  }
  EXPECT_NE(make("linear", 1e-3f, 4, 10).describe().find("the highest is 0.0007, in step 4"),
            std::string::npos);
}

TEST(RunSchedule, PhasesFollowEachOther) {
  const Schedule a = make("constant", 1.0f, 2, 3), b = make("linear", 2.0f, 0, 4);
  const RunSchedule run({{a, false}, {b, true}, {a, false}});
  EXPECT_EQ(run.total_steps(), 10);
  const float rates[] = {0.5f, 1, 1, 2, 1.5f, 1, 0.5f, 0.5f, 1, 1, 1};
  const int64_t counts[] = {1, 2, 3, 1, 2, 3, 4, 5, 6, 7};
  for (int64_t t = 0; t < 11; ++t) EXPECT_EQ(run.learning_rate(t), rates[t]) << t;
  for (int64_t t = 0; t < 10; ++t) EXPECT_EQ(run.moment_step(t), counts[t]) << t;
  EXPECT_THROW(RunSchedule(std::vector<SchedulePhase>{}), UsageError);
  EXPECT_THROW(RunSchedule(make("constant", 1, 0, 0)), UsageError);
}

TEST(Schedule, ConstantStaysAfterItsRamp) {
  const Schedule schedule = make("constant", 2.0f, 4, 0);
  EXPECT_FLOAT_EQ(schedule.learning_rate(0), 0.5f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(3), 2.0f);
  EXPECT_FLOAT_EQ(schedule.learning_rate(1000000), 2.0f);
  EXPECT_FLOAT_EQ(make("constant", 2.0f, 0, 0).learning_rate(0), 2.0f);
}

TEST(Schedule, DecaysToTheEndLearningRate) {
  for (const char* name : {"linear", "polynomial", "google-linear"}) {
    const Schedule schedule = make(name, 1.0f, 0, 100, 2, 0.1f);
    EXPECT_FLOAT_EQ(schedule.learning_rate(100), 0.1f) << name;
    EXPECT_FLOAT_EQ(schedule.learning_rate(12345), 0.1f) << name;
  }
  // polynomial: 0.9 (1 - 50/100)^2 + 0.1 at s = 50
  EXPECT_FLOAT_EQ(make("polynomial", 1.0f, 0, 100, 2, 0.1f).learning_rate(49), 0.325f);
}

TEST(Schedule, WarmUpBelowOneIsARatioOfTheSteps) {
  const Schedule ratio = make("linear", 1.0f, 0.1, 3000), steps = make("linear", 1.0f, 300, 3000);
  for (int64_t t : {0, 150, 299, 300, 2999})
    EXPECT_EQ(ratio.learning_rate(t), steps.learning_rate(t)) << t;
  EXPECT_EQ(make("linear", 1.0f, 1, 10).warmup_steps(), 1);
  EXPECT_EQ(warmup_steps(0.1, 200), 20);
  EXPECT_EQ(warmup_steps(50, 200), 50);
  EXPECT_EQ(warmup_steps(0.25, 10), 2.5) << "is not rounded";
}

TEST(Schedule, EveryNameOfTheTableMakesOne) {
  for (const ScheduleName& row : schedule_names()) {
    const Schedule schedule = make(row.name, 1.0f, 2, 10);
    for (int64_t t = 0; t <= 10; ++t) {
      EXPECT_GE(schedule.learning_rate(t), 0.0f) << row.name << " " << t;
      EXPECT_LE(schedule.learning_rate(t), 1.0f) << row.name << " " << t;
    }
  }
}

TEST(Schedule, RejectsWhatMakesNoSense) {
  EXPECT_THROW(make("no-such-schedule", 1, 0, 10), UsageError);
  EXPECT_THROW(make("linear", -1, 0, 10), UsageError);
  EXPECT_THROW(make("linear", NAN, 0, 10), UsageError);
  EXPECT_THROW(make("linear", 1, -1, 10), UsageError);
  EXPECT_THROW(make("linear", 1, INFINITY, 10), UsageError);
  EXPECT_THROW(make("linear", 1, 11, 10), UsageError);
  EXPECT_THROW(make("linear", 1, 0, 0), UsageError);
  EXPECT_THROW(make("constant", 1, 0.5, 0), UsageError);
  EXPECT_THROW(make("polynomial", 1, 0, 10, 0), UsageError);
  EXPECT_THROW(make("polynomial", 1, 0, 10, 1, -1), UsageError);
  EXPECT_THROW(make("linear", 1, 0, 10).learning_rate(-1), UsageError);
}

TEST(Schedule, TheLogShowsAWarmUpThatIsNoWholeNumber) {
  const std::string text = make("polynomial", 6e-3f, 0.2843, 7038, 0.5).describe();
  EXPECT_NE(text.find("power 0.5: learning rate 0.006, warm-up 2000.903 of 7038 steps, then to 0"),
            std::string::npos)
      << text;
}

// The paper's table for BERT: 5e-3 at 32K, warm-up 1/5; 512 has 6.25e-4 and 1/320.
TEST(Schedule, ScalingGivesTheUntunedTable) {
  const double lr[] = {6.25e-4, 8.84e-4, 1.25e-3, 1.77e-3, 2.5e-3, 3.54e-3, 5e-3};
  for (int i = 0; i < 7; ++i) {
    const int64_t batch = 512LL << i;
    EXPECT_NEAR(scaled_learning_rate(5e-3, 32768, batch), lr[i], 5e-6) << batch;
    EXPECT_DOUBLE_EQ(scaled_warmup_ratio(1.0 / 320, 512, batch), (1 << i) / 320.0) << batch;
  }
  EXPECT_EQ(scaled_warmup_ratio(0.2, 32768, 1 << 20), 1.0);
  EXPECT_THROW(scaled_learning_rate(1, 0, 1), UsageError);
  EXPECT_THROW(scaled_warmup_ratio(1, 1, -1), UsageError);
}

}  // namespace
}  // namespace minibert
