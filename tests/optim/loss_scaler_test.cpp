// loss_scaler_test.cpp: when a run stops, on states as sequences of steps leave them (step_finish,
// tests/core/kernels/step_test.cpp), and which options are refused.
#include "optim/loss_scaler.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "core/device_value.h"
#include "core/error.h"

namespace minibert {
namespace {

using ::testing::HasSubstr;

/// Steps that overflow or don't, under a scaler.
class ScaledRun {
 public:
  explicit ScaledRun(LossScaling options) : scaler(options), options_(options) {
    StepState s;
    s.loss_scale = scaler.initial();
    state_.write(s);
  }
  /// The answer after that many steps.
  std::optional<std::string> skip(int steps) { return run(steps, NAN); }
  std::optional<std::string> apply(int steps) { return run(steps, 1); }
  StepState state() const { return state_.read(); }
  LossScaler scaler;

 private:
  std::optional<std::string> run(int steps, double square_sum) {
    static const DeviceArray<StepRates> rates(1 << 12, MemoryCategory::workspace);
    const DeviceValue<double> sum(square_sum);
    for (int i = 0; i < steps; ++i) {
      const StepControlArgs args{.state = state_.get(),
                                 .tensors = 1,
                                 .square_sums = sum.get(),
                                 .max_steps = static_cast<int64_t>(rates.size()),
                                 .rates = rates.get(),
                                 .scaling = options_};
      step_decide(args);
      step_finish(args);
      if (i + 1 < steps) {
        EXPECT_EQ(scaler.must_stop(state()), std::nullopt) << "step " << i;
      }
    }
    return scaler.must_stop(state());
  }
  LossScaling options_;
  DeviceValue<StepState> state_;
};

TEST(LossScaler, OffStopsAtTheFirstSkip) {
  ScaledRun run({});
  EXPECT_EQ(run.scaler.initial(), 1.0f);
  EXPECT_EQ(run.apply(100), std::nullopt);
  const auto reason = run.skip(1);
  ASSERT_TRUE(reason);
  EXPECT_THAT(*reason, HasSubstr("no loss scale to lower"));
}

TEST(LossScaler, MayBackOffFarAtTheStart) {
  ScaledRun run({.enabled = true, .initial = std::ldexp(1.0f, 40)});
  EXPECT_EQ(run.skip(33), std::nullopt);
  EXPECT_EQ(run.state().loss_scale, 128);
  EXPECT_EQ(run.apply(1), std::nullopt);
}

TEST(LossScaler, StopsAtTheFloorAfterTryingIt) {
  ScaledRun run({.enabled = true, .initial = 65536, .max_skips = 4});
  EXPECT_EQ(run.skip(16), std::nullopt);  // 2^16 to 1
  EXPECT_EQ(run.state().loss_scale, 1);
  const auto reason = run.skip(4);
  ASSERT_TRUE(reason);
  EXPECT_THAT(*reason,
              HasSubstr("4 steps in a row were skipped with the loss scale at its floor 1"));
}

TEST(LossScaler, AnAppliedStepAtTheFloorStartsTheCountAnew) {
  ScaledRun run({.enabled = true, .initial = 1, .max_skips = 4});
  EXPECT_EQ(run.skip(3), std::nullopt);
  EXPECT_EQ(run.apply(1), std::nullopt);
  EXPECT_EQ(run.skip(3), std::nullopt);
  EXPECT_TRUE(run.skip(1));
}

TEST(LossScaler, StopsAboveTheFloorOnceItWasStable) {
  ScaledRun run({.enabled = true});
  EXPECT_EQ(run.apply(1), std::nullopt);
  const auto reason = run.skip(10);
  ASSERT_TRUE(reason);
  EXPECT_THAT(*reason, HasSubstr("10 steps in a row"));
  EXPECT_THAT(*reason, HasSubstr("had been stable; it is 64 now"));
}

TEST(LossScaler, SkipsThatAreNotInARowDoNotStop) {
  ScaledRun run({.enabled = true, .initial = std::ldexp(1.0f, 100), .max_skips = 3});
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(run.apply(1), std::nullopt);
    EXPECT_EQ(run.skip(2), std::nullopt);
  }
}

TEST(LossScaler, RefusesWhatMakesNoSense) {
  const auto rejects = [](auto change) {
    LossScaling options{.enabled = true};
    change(options);
    EXPECT_THROW(LossScaler{options}, UsageError);
    options.enabled = false;
    EXPECT_NO_THROW(LossScaler{options});
  };
  rejects([](auto& o) { o.initial = 0.5f; });
  rejects([](auto& o) { o.initial = std::numeric_limits<float>::infinity(); });
  rejects([](auto& o) { o.initial = NAN; });
  rejects([](auto& o) { o.floor = 0; });
  rejects([](auto& o) { o.growth = 0.5; });
  rejects([](auto& o) { o.growth = NAN; });
  rejects([](auto& o) { o.backoff = 1; });
  rejects([](auto& o) { o.backoff = 0; });
  rejects([](auto& o) { o.growth_interval = 0; });
  rejects([](auto& o) { o.max_skips = 0; });
}

TEST(LossScaler, DescribesEveryKnob) {
  EXPECT_EQ(LossScaler({}).describe(), "loss scale: off");
  const std::string text = LossScaler({.enabled = true,
                                       .initial = 512,
                                       .growth = 3,
                                       .backoff = 0.25,
                                       .growth_interval = 77,
                                       .floor = 2,
                                       .max_skips = 9})
                               .describe();
  for (const char* part : {"512 at first", "x 3 after 77", "x 0.25", "floor 2", "after 9 skips"})
    EXPECT_THAT(text, HasSubstr(part));
}

}  // namespace
}  // namespace minibert
