// step_test.cpp: the loss scale against torch.amp.GradScaler step by step (tools/goldens/
// loss_scaler.py), the decision against formulas, and what a skipped step and the end of the run
// leave alone.
#include "core/kernels/step.h"

#include <cmath>
#include <limits>

#include "core/device_value.h"
#include "core/error.h"
#include "models/bert/safetensors.h"
#include "tests/core/kernels/kernel_fixture.h"

namespace minibert::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// A state, square sums and a table, and steps on them.
class Steps {
 public:
  explicit Steps(int64_t max_steps, std::vector<double> squares = {1.0})
      : squares_(squares), rates_(rates(max_steps), MemoryCategory::optimizer_state) {
    args.state = state.get();
    args.tensors = static_cast<int32_t>(squares.size());
    args.square_sums = squares_.get();
    args.max_steps = max_steps;
    args.rates = rates_.get();
  }
  // Row r: 100 + r, 200 + r, 300 + r.
  static std::vector<StepRates> rates(int64_t max_steps) {
    std::vector<StepRates> rates;
    for (int64_t r = 0; r < max_steps; ++r) {
      const auto x = static_cast<float>(r);
      rates.push_back({100 + x, 200 + x, 300 + x});
    }
    return rates;
  }
  void set(size_t tensor, double square_sum) { squares_.get()[tensor] = square_sum; }
  StepState run() {
    step_decide(args);
    step_finish(args);
    return state.read();
  }

  DeviceValue<StepState> state;
  StepControlArgs args;

 private:
  struct Doubles : DeviceArray<double> {
    explicit Doubles(const std::vector<double>& v) : DeviceArray(v, MemoryCategory::workspace) {}
  } squares_;
  DeviceArray<StepRates> rates_;
};

TEST(StepBegin, SetsStepAndScalesAndZeroesCounts) {
  DeviceValue<StepState> state;
  StepState s;
  s.loss_scale = 1024;
  s.mlm = {1, 2, 3}, s.nsp = {4, 5, 6};
  s.applied_steps = 7, s.skipped_steps = 8;
  state.write(s);
  step_begin({.state = state.get(), .data_step = 99, .masked_rows = 12, .sequences = 5});
  s = state.read();
  EXPECT_EQ(s.data_step, 99u);
  EXPECT_EQ(s.mlm_scale, 1024.0f / 12);
  EXPECT_EQ(s.nsp_scale, 1024.0f / 5);
  for (const LossCounts& counts : {s.mlm, s.nsp}) {
    EXPECT_EQ(counts.loss_sum, 0);
    EXPECT_EQ(counts.rows, 0);
    EXPECT_EQ(counts.correct, 0);
  }
  EXPECT_EQ(s.applied_steps, 7);
  EXPECT_EQ(s.skipped_steps, 8);
  EXPECT_EQ(s.loss_scale, 1024);
}

TEST(StepBegin, NoMaskedRowsAndNoNspAreAllowed) {
  DeviceValue<StepState> state;
  step_begin({.state = state.get(), .masked_rows = 0, .sequences = 0});
  EXPECT_EQ(state.read().mlm_scale, 1.0f);
  EXPECT_EQ(state.read().nsp_scale, 0.0f);
}

TEST(StepDecide, NormIsUnscaledAndClippedAboveTheLimitAlone) {
  for (const float scale : {1.0f, 65536.0f, 3.0f}) {
    for (const auto& [limit, clip] : {std::pair{2.0f, 2.0 / 13}, {13.0f, 1.0}, {0.0f, 1.0}}) {
      Steps steps(1, {25.0 * scale * scale, 0.0, 144.0 * scale * scale});
      StepState s;
      s.loss_scale = scale;
      steps.state.write(s);
      steps.args.max_grad_norm = limit;
      s = steps.run();
      EXPECT_NEAR(s.grad_norm, 13, 1e-14);
      EXPECT_FLOAT_EQ(s.gradient_scale, static_cast<float>(clip / scale));
      EXPECT_EQ(s.applied, 1u);
      EXPECT_EQ(s.bad_tensor, -1);
    }
  }
}

TEST(StepDecide, LooksUpTheRowOfAppliedSteps) {
  Steps steps(5);
  for (float row : {0.0f, 1.0f, 2.0f}) {
    const StepState s = steps.run();
    EXPECT_EQ(s.learning_rate, 100 + row);
    EXPECT_EQ(s.m_correction, 200 + row);
    EXPECT_EQ(s.v_correction, 300 + row);
  }
  steps.set(0, kNaN);  // a skipped step takes no row
  EXPECT_EQ(steps.run().learning_rate, 103);
  steps.set(0, 1);
  EXPECT_EQ(steps.run().learning_rate, 103);
  EXPECT_EQ(steps.run().learning_rate, 104);
}

TEST(StepDecide, ANonFiniteSumSkipsAndNamesTheLastTensor) {
  for (const double bad : {kInfinity, kNaN}) {
    for (const auto& [tensors, last] : {std::pair<std::vector<size_t>, int>{{0}, 0},
                                        {{0, 2}, 2},
                                        {{1, 3}, 3},
                                        {{0, 1, 2, 3}, 3}}) {
      Steps steps(10, {1, 1, 1, 1});
      steps.args.max_grad_norm = 1;
      for (size_t tensor : tensors) steps.set(tensor, bad);
      const StepState s = steps.run();
      EXPECT_EQ(s.applied, 0u);
      EXPECT_EQ(s.bad_tensor, last);
      EXPECT_FALSE(std::isfinite(s.grad_norm));
      EXPECT_EQ(s.applied_steps, 0);
      EXPECT_EQ(s.skipped_steps, 1);
      EXPECT_EQ(s.loss_scale, 1) << "scaling is off";
    }
  }
}

TEST(StepDecide, ForgetsTheBadTensorOfTheStepBefore) {
  Steps steps(10);
  steps.set(0, kNaN);
  EXPECT_EQ(steps.run().bad_tensor, 0);
  steps.set(0, 1);
  const StepState s = steps.run();
  EXPECT_EQ(s.bad_tensor, -1);
  EXPECT_EQ(s.applied, 1u);
  EXPECT_EQ(s.applied_steps, 1);
  EXPECT_EQ(s.skips_in_a_row, 0);
}

TEST(StepFinish, NothingHappensBeyondMaxSteps) {
  Steps steps(3);
  steps.args.max_steps = 2;
  steps.args.scaling = {.enabled = true, .growth_interval = 1};
  steps.run();
  const StepState last = steps.run();
  EXPECT_EQ(last.applied, 1u);
  EXPECT_EQ(last.applied_steps, 2);
  for (const double square : {1.0, kNaN}) {
    steps.set(0, square);
    const StepState s = steps.run();
    EXPECT_EQ(s.applied, 0u);
    EXPECT_EQ(s.applied_steps, 2);
    EXPECT_EQ(s.skipped_steps, 0);
    EXPECT_EQ(s.skips_in_a_row, 0);
    EXPECT_EQ(s.learning_rate, last.learning_rate) << "the table has no such row";
    EXPECT_EQ(s.loss_scale, last.loss_scale);
    EXPECT_EQ(s.clean_steps, last.clean_steps);
  }
}

class LossScaleGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(LossScaleGolden, MovesAsGradScalerDoes) {
  const char* root = std::getenv("MINIBERT_SOURCE_DIR");
  const SafetensorsFile file(std::string(root ? root : ".") +
                             "/tests/goldens/loss_scaler.safetensors");
  const auto golden = [&](const char* what) {
    return file.read(fmt::format("{}.{}", GetParam(), what));
  };
  const Tensor options = golden("options"), overflow = golden("overflow"), scale = golden("scale"),
               clean_steps = golden("clean_steps");
  const float* o = options.data<float>();
  Steps steps(overflow.numel());
  steps.args.scaling = {.enabled = true,
                        .initial = o[0],
                        .growth = o[1],
                        .backoff = o[2],
                        .growth_interval = static_cast<int32_t>(o[3]),
                        .floor = 1e-30f};  // torch has none
  StepState s;
  s.loss_scale = o[0];
  steps.state.write(s);
  int64_t applied = 0, in_a_row = 0;
  for (int64_t i = 0; i < overflow.numel(); ++i) {
    const bool bad = overflow.data<float>()[i] != 0;
    steps.set(0, !bad ? 1.0 : i % 2 == 0 ? kInfinity : kNaN);
    s = steps.run();
    applied += bad ? 0 : 1;
    in_a_row = bad ? in_a_row + 1 : 0;
    ASSERT_EQ(s.loss_scale, scale.data<float>()[i]) << "step " << i;
    ASSERT_EQ(s.clean_steps, clean_steps.data<int32_t>()[i]) << "step " << i;
    ASSERT_EQ(s.applied, bad ? 0u : 1u) << "step " << i;
    ASSERT_EQ(s.applied_steps, applied);
    ASSERT_EQ(s.skipped_steps, i + 1 - applied);
    ASSERT_EQ(s.skips_in_a_row, in_a_row);
    ASSERT_EQ(s.scale_was_stable, applied > 0 ? 1u : 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(GradScaler, LossScaleGolden,
                         ::testing::Values("defaults", "one_step_before_growth", "random",
                                           "odd_factors", "every_step", "from_2_40",
                                           "towards_infinity"),
                         [](const auto& info) { return std::string(info.param); });

TEST(LossScale, StopsGrowingBeforeInfinity) {
  Steps steps(1000);
  steps.args.scaling = {.enabled = true, .growth_interval = 1};
  StepState s;
  s.loss_scale = std::ldexp(1.0f, 126);
  steps.state.write(s);
  EXPECT_EQ(steps.run().loss_scale, std::ldexp(1.0f, 127));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(steps.run().loss_scale, std::ldexp(1.0f, 127));
}

TEST(LossScale, StaysAtItsFloorAndCountsSkipsThere) {
  Steps steps(1000);
  steps.args.scaling = {.enabled = true, .floor = 3};
  StepState s;
  s.loss_scale = 16;
  steps.state.write(s);
  steps.set(0, kInfinity);
  const float scales[] = {8, 4, 3, 3, 3, 3};  // 2 is below the floor
  for (int i = 0; i < 6; ++i) {
    s = steps.run();
    EXPECT_EQ(s.loss_scale, scales[i]) << i;
    EXPECT_EQ(s.skips_in_a_row, i + 1);
    EXPECT_EQ(s.skips_at_floor, std::max(0, i - 2)) << "the step that reaches it doesn't count";
  }
  steps.set(0, 1);
  s = steps.run();
  EXPECT_EQ(s.skips_at_floor, 0);
  EXPECT_EQ(s.skips_in_a_row, 0);
  EXPECT_EQ(s.clean_steps, 1);
}

TEST(LossScale, StaysWhereScalingIsOff) {
  Steps steps(5000);
  StepState s;
  s.loss_scale = 8;
  steps.state.write(s);
  for (int i = 0; i < 2500; ++i) steps.run();
  steps.set(0, kNaN);
  s = steps.run();
  EXPECT_EQ(s.loss_scale, 8);
  EXPECT_EQ(s.clean_steps, 0);
  EXPECT_EQ(s.skips_in_a_row, 1);
  EXPECT_EQ(s.skips_at_floor, 0);
}

TEST(StepErrors, ATableWithoutRowsIsRefused) {
  Steps steps(1);
  steps.args.max_steps = 0;
  EXPECT_THROW(step_decide(steps.args), UsageError);
  EXPECT_THROW(step_finish(steps.args), UsageError);
}

}  // namespace
}  // namespace minibert::testing
