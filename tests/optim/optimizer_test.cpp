// optimizer_test.cpp: 20 steps of every variant on recorded gradients against formulas in double,
// PyTorch's AdamW and timm's Lamb (tools/goldens/optimizer.py), and what Optimizer promises around
// the update: groups by name, clipping, non-finite gradients, loss scales, the end of the schedule,
// working copies, state by name.
#include "optim/optimizer.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "models/bert/safetensors.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kSteps = 20;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

const SafetensorsFile& golden() {
  static const SafetensorsFile file(
      std::string(std::getenv("MINIBERT_SOURCE_DIR") ? std::getenv("MINIBERT_SOURCE_DIR") : ".") +
      "/tests/goldens/optimizer.safetensors");
  return file;
}

// The golden's parameters, laid out with padding (the vocabulary) and neighbours without a gap.
ParameterTable golden_table() {
  ParameterTable table;
  table.add("embeddings.word_embeddings.weight", {37, 8}, {64, 8});
  table.add("encoder.query.weight", {8, 8});
  table.add("encoder.query.bias", {8});
  table.add("encoder.key.bias", {8}, {8}, /* adjacent= */ true);
  table.add("encoder.dense.weight", {19, 13});
  table.add("encoder.dense.bias", {19});
  table.add("encoder.LayerNorm.weight", {13});
  table.add("pooler.weight", {5, 3});
  return table;
}

// The same in another order, without padding.
ParameterTable other_table() {
  const ParameterTable table = golden_table();
  ParameterTable other;
  for (int k = table.count() - 1; k >= 0; --k) other.add(table[k].name, table[k].shape);
  return other;
}

Tensor used(const Tensor& buffer, const ParameterSlice& slice) {
  return buffer.slice(slice.offset, slice.shape);
}

void load_weights(Arena& arena) {
  for (const ParameterSlice& slice : arena.table().slices())
    used(arena.masters(), slice).copy_from(golden().read("weight." + slice.name));
}

void load_gradients(Arena& arena, int step) {
  for (const ParameterSlice& slice : arena.table().slices()) {
    const Tensor all = golden().read("gradient." + slice.name);
    used(arena.gradients(), slice).copy_from(all.slice(step * slice.shape.numel(), slice.shape));
  }
}

// The golden's learning rates: 5e-3 min(1, (t + 1) / 5).
Schedule golden_schedule() {
  return Schedule({.name = "constant", .learning_rate = 5e-3f, .warmup = 5, .total_steps = kSteps});
}

Schedule constant(float learning_rate, int64_t total_steps = 1) {
  return Schedule({.name = "constant", .learning_rate = learning_rate, .total_steps = total_steps});
}

/// An optimizer and the state that its steps work on.
struct TrainingRun {
  TrainingRun(Arena& arena, const OptimizerOptions& options, const Schedule& schedule,
              const LossScaling& scaling = {})
      : optimizer(arena, options, schedule, scaling), state(optimizer.initial_state()) {}
  Optimizer::StepReport step() {
    optimizer.step(state.get());
    return optimizer.report(state.read());
  }
  Optimizer optimizer;
  DeviceValue<StepState> state;
};

OptimizerOptions options_of(const std::string& name) {
  OptimizerOptions options;
  options.name = name;
  if (name == "adamw") options.max_grad_norm = 0;  // as the golden: PyTorch's AdamW does not clip
  return options;
}

void run_golden_steps(Arena& arena, TrainingRun& run, int first, int last) {
  const Tensor lr = golden().read("lr");
  for (int step = first; step < last; ++step) {
    load_gradients(arena, step);
    const auto report = run.step();
    ASSERT_TRUE(report.applied);
    ASSERT_FLOAT_EQ(report.learning_rate, lr.data<float>()[step]);
  }
}

void expect_golden(const std::string& prefix, const Arena& arena, const Optimizer& optimizer) {
  const auto state = optimizer.state();
  for (int k = 0; k < arena.table().count(); ++k) {
    const ParameterSlice& slice = arena.table()[k];
    const auto expected = [&](const char* what) {
      return golden().read(fmt::format("{}.{}.{}", prefix, what, slice.name));
    };
    const size_t at = static_cast<size_t>(2 * k);
    EXPECT_EQ(state[at].first, slice.name + ".exp_avg");
    EXPECT_EQ(state[at + 1].first, slice.name + ".exp_avg_sq");
    EXPECT_TRUE(near(prefix + " " + slice.name, used(arena.masters(), slice), expected("weight"),
                     Tolerance::optimizer));
    EXPECT_TRUE(near(prefix + " " + state[at].first, state[at].second, expected("exp_avg"),
                     Tolerance::optimizer));
    EXPECT_TRUE(near(prefix + " " + state[at + 1].first, state[at + 1].second,
                     expected("exp_avg_sq"), Tolerance::optimizer));
  }
}

struct Golden {
  const char* variant;
  const char* expected;  // prefix in the file
};

class Trajectory : public ::testing::TestWithParam<Golden> {};

TEST_P(Trajectory, TwentyStepsEqualTheGolden) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, options_of(GetParam().variant), golden_schedule());
  run_golden_steps(arena, run, 0, kSteps);
  expect_golden(GetParam().expected, arena, run.optimizer);
  EXPECT_EQ(run.state.read().applied_steps, kSteps);
}

// The gradients as a loss scale leaves them: the same weights, to rounding.
TEST_P(Trajectory, ALossScaleThatMovesChangesNothing) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, options_of(GetParam().variant), golden_schedule(),
                  {.enabled = true, .initial = 1024, .growth_interval = 3});
  for (int step = 0; step < kSteps; ++step) {
    load_gradients(arena, step);
    const float scale = run.state.read().loss_scale;
    EXPECT_EQ(scale, std::ldexp(1024.0f, step / 3));
    for (float& g : arena.gradients().span<float>()) g *= scale;
    const auto report = run.step();
    ASSERT_TRUE(report.applied);
    const double norm = golden().read("grad_norm").data<float>()[step];
    EXPECT_NEAR(report.grad_norm, norm, norm * Tolerance::reduction) << "is unscaled";
  }
  expect_golden(GetParam().expected, arena, run.optimizer);
}

INSTANTIATE_TEST_SUITE_P(Optimizer, Trajectory,
                         ::testing::Values(Golden{"lamb", "lamb"}, Golden{"lamb", "lamb.timm"},
                                           Golden{"adamw", "adamw"}, Golden{"adamw", "adamw.torch"},
                                           Golden{"adamw-google", "adamw-google"}),
                         [](const auto& info) {
                           std::string name = info.param.expected;
                           for (char& c : name) c = c == '.' || c == '-' ? '_' : c;
                           return name;
                         });

TEST(Optimizer, ReportsNormClipAndTrustRatiosOfEachStep) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, options_of("lamb"), golden_schedule());
  EXPECT_TRUE(run.optimizer.norms().empty());
  const Tensor grad_norm = golden().read("grad_norm");
  for (int step = 0; step < kSteps; ++step) {
    load_gradients(arena, step);
    const auto report = run.step();
    const double norm = grad_norm.data<float>()[step];
    EXPECT_NEAR(report.grad_norm, norm, norm * Tolerance::reduction);
    EXPECT_NEAR(report.clip_factor, 1 / std::max(1.0, norm), Tolerance::reduction);
    const std::vector<TensorNorms> norms = run.optimizer.norms();
    ASSERT_EQ(norms.size(), static_cast<size_t>(arena.table().count()));
    for (int k = 0; k < arena.table().count(); ++k) {
      const auto expected = golden().read("lamb.trust_ratio." + arena.table()[k].name);
      const double ratio = expected.data<float>()[step];
      EXPECT_NEAR(norms[static_cast<size_t>(k)].trust_ratio, ratio, ratio * 5e-6)
          << arena.table()[k].name << " step " << step;
    }
  }
}

TEST(Optimizer, LeavesGapsAndPaddingAlone) {
  for (const char* name : {"lamb", "adamw", "adamw-google"}) {
    Arena arena(golden_table());
    load_weights(arena);
    TrainingRun run(arena, options_of(name), golden_schedule());
    std::vector<bool> inside(static_cast<size_t>(arena.table().size()), false);
    for (const ParameterSlice& s : arena.table().slices())
      std::fill(inside.begin() + s.offset, inside.begin() + s.offset + s.used(), true);
    for (int64_t i = 0; i < arena.table().size(); ++i) {
      if (inside[static_cast<size_t>(i)]) continue;
      arena.masters().data<float>()[i] = -77;
      arena.gradients().data<float>()[i] = kInfinity;  // neither clips nor stops the step
    }
    run_golden_steps(arena, run, 0, kSteps);
    expect_golden(name, arena, run.optimizer);
    for (int64_t i = 0; i < arena.table().size(); ++i) {
      if (!inside[static_cast<size_t>(i)]) {
        ASSERT_EQ(arena.masters().data<float>()[i], -77);
      }
    }
  }
}

// An arena of three tensors of four elements with gradient 1 and weight 2.
Arena small_arena() {
  ParameterTable table;
  table.add("dense.weight", {4});
  table.add("dense.bias", {4});
  table.add("LayerNorm.gamma", {4});
  Arena arena(table);
  arena.with_gradients();
  for (int k = 0; k < 3; ++k) {
    for (float& w : arena.weight(k).span<float>()) w = 2;
    for (float& g : arena.gradient(k).span<float>()) g = 1;
  }
  return arena;
}

// With a gradient of 1 the first direction is 1, but for eps: what decay adds shows at once.
TEST(Optimizer, DecaysAndAdaptsByName) {
  Arena arena = small_arena();
  OptimizerOptions options = options_of("lamb");
  options.weight_decay = 0.5f;
  options.max_grad_norm = 0;
  TrainingRun run(arena, options, constant(0.125f));
  run.step();
  const std::vector<TensorNorms> norms = run.optimizer.norms();
  EXPECT_NEAR(norms[0].update, 4, 1e-5);  // 1 + 0.5 * 2, four times
  EXPECT_NEAR(norms[0].trust_ratio, 1, 1e-5);
  EXPECT_NEAR(arena.weight(0).data<float>()[0], 2 - 0.125 * 2, 1e-5);
  for (int k : {1, 2}) {
    EXPECT_NEAR(norms[static_cast<size_t>(k)].update, 2, 1e-5);
    EXPECT_EQ(norms[static_cast<size_t>(k)].trust_ratio, 1.0f);  // not 4 / 2
    EXPECT_NEAR(arena.weight(k).data<float>()[0], 2 - 0.125, 1e-5);
  }
}

TEST(Optimizer, NoDecayListIsWhatTheUserSays) {
  Arena arena = small_arena();
  OptimizerOptions options = options_of("lamb");
  options.weight_decay = 0.5f;
  options.no_decay = {"dense.weight"};
  TrainingRun run(arena, options, constant(0.1f));
  run.step();
  const std::vector<TensorNorms> norms = run.optimizer.norms();
  EXPECT_EQ(norms[0].trust_ratio, 1.0f);
  EXPECT_NE(norms[1].trust_ratio, 1.0f);
  EXPECT_NE(norms[2].trust_ratio, 1.0f);
}

TEST(Optimizer, AWeightDecayOfZeroStillAdaptsByName) {
  Arena arena = small_arena();
  OptimizerOptions options = options_of("lamb");
  options.weight_decay = 0;
  TrainingRun run(arena, options, constant(0.1f));
  run.step();
  const std::vector<TensorNorms> norms = run.optimizer.norms();
  EXPECT_NEAR(norms[0].update, 2, 1e-5);  // 1, four times: nothing of the weights
  EXPECT_NEAR(norms[0].trust_ratio, 2, 1e-5);
  EXPECT_EQ(norms[1].trust_ratio, 1.0f);
}

TEST(Optimizer, ClipsToTheGlobalNormOnlyAboveIt) {
  Arena arena = small_arena();  // 12 ones: norm sqrt(12)
  OptimizerOptions options;
  for (const auto& [limit, factor] :
       {std::pair{1.0f, 1 / std::sqrt(12.0)}, {4.0f, 1.0}, {0.0f, 1.0}}) {
    options.max_grad_norm = limit;
    TrainingRun run(arena, options, constant(1e-3f));
    const auto report = run.step();
    EXPECT_NEAR(report.grad_norm, std::sqrt(12.0), 1e-12);
    EXPECT_FLOAT_EQ(report.clip_factor, static_cast<float>(factor)) << limit;
    EXPECT_FLOAT_EQ(run.optimizer.state()[0].second.data<float>()[0],
                    static_cast<float>(0.1 * factor));
  }
  EXPECT_EQ(arena.gradient(0).data<float>()[0], 1.0f) << "gradients stay as they are";
}

TEST(Optimizer, ANonFiniteGradientChangesNothingAndIsNamed) {
  for (const char* name : {"lamb", "adamw", "adamw-google"}) {
    for (float bad : {kInfinity, -kInfinity, std::nanf("")}) {
      Arena arena(golden_table());
      load_weights(arena);
      TrainingRun run(arena, options_of(name), golden_schedule());
      run_golden_steps(arena, run, 0, 2);
      const Tensor before = arena.masters().clone();
      const auto moments = run.optimizer.state();
      load_gradients(arena, 2);
      arena.gradient(5).data<float>()[18] = bad;
      arena.gradient(4).data<float>()[19 * 13 - 1] = bad;
      const auto report = run.step();
      EXPECT_FALSE(report.applied);
      EXPECT_EQ(report.clip_factor, 1);
      EXPECT_EQ(report.bad_gradient, arena.table()[5].name) << "the nearest to the loss";
      EXPECT_FALSE(std::isfinite(report.grad_norm));
      EXPECT_EQ(run.state.read().applied_steps, 2);
      EXPECT_EQ(run.state.read().skipped_steps, 1);
      EXPECT_TRUE(run.optimizer.scaler().must_stop(run.state.read()));
      EXPECT_TRUE(same_bits(arena.masters(), before));
      const auto now = run.optimizer.state();
      for (size_t k = 0; k < moments.size(); ++k)
        EXPECT_TRUE(same_bits(now[k].second, moments[k].second));
      run_golden_steps(arena, run, 2, kSteps);  // and the run goes on as if nothing was
      expect_golden(name, arena, run.optimizer);
    }
  }
}

TEST(Optimizer, NamesWhicheverTensorHasTheBadGradient) {
  for (int k = 0; k < golden_table().count(); ++k) {
    Arena arena(golden_table());
    load_weights(arena);
    TrainingRun run(arena, options_of("lamb"), golden_schedule());
    load_gradients(arena, 0);
    arena.gradient(k).data<float>()[0] = kInfinity;
    EXPECT_EQ(run.step().bad_gradient, arena.table()[k].name);
  }
}

TEST(Optimizer, StepsBeyondTheScheduleDoNothing) {
  for (const char* name : {"lamb", "adamw", "adamw-google"}) {
    Arena arena(golden_table());
    load_weights(arena);
    TrainingRun run(arena, options_of(name), golden_schedule());
    run_golden_steps(arena, run, 0, kSteps);
    for (const float gradient : {1.0f, kInfinity}) {
      arena.gradient(0).data<float>()[0] = gradient;
      EXPECT_FALSE(run.step().applied);
      EXPECT_EQ(run.state.read().applied_steps, kSteps);
      EXPECT_EQ(run.state.read().skipped_steps, 0);
      EXPECT_EQ(run.optimizer.scaler().must_stop(run.state.read()), std::nullopt);
    }
    expect_golden(name, arena, run.optimizer);
  }
}

// A scale that overflows backs off and the steps that follow are those of a run without it.
TEST(Optimizer, OverflowsAtTheStartCostStepsAlone) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, options_of("lamb"), golden_schedule(),
                  {.enabled = true, .initial = std::ldexp(1.0f, 40)});
  int step = 0, steps = 0;
  while (step < kSteps) {
    load_gradients(arena, step);
    const StepState before = run.state.read();
    // As if gradients went through f16: they overflow above 2^6.
    const bool overflows = before.loss_scale > 64;
    for (float& g : arena.gradients().span<float>()) g *= overflows ? kInfinity : before.loss_scale;
    EXPECT_EQ(run.step().applied, !overflows);
    EXPECT_EQ(run.optimizer.scaler().must_stop(run.state.read()), std::nullopt);
    step += overflows ? 0 : 1;
    ASSERT_LT(++steps, 100);
  }
  EXPECT_EQ(run.state.read().skipped_steps, 34);
  EXPECT_EQ(run.state.read().loss_scale, 64);
  expect_golden("lamb", arena, run.optimizer);
}

// In bf16 and f16, layers see the masters rounded, from the optimizer alone: no refresh().
TEST(Optimizer, KeepsTheWorkingCopyAsTheMastersRounded) {
  for (const DType compute : {DType::bf16, DType::f16}) {
    for (const char* name : {"lamb", "adamw", "adamw-google"}) {
      Arena arena(golden_table(), compute);
      load_weights(arena);
      arena.refresh();
      TrainingRun run(arena, options_of(name), golden_schedule());
      const int64_t version = arena.version();
      run_golden_steps(arena, run, 0, kSteps);
      EXPECT_EQ(arena.version(), version + kSteps) << "packed weights must be made anew";
      EXPECT_TRUE(same_bits(arena.working(), arena.masters().to(compute)));
      expect_golden(name, arena, run.optimizer);
    }
  }
}

TEST(Optimizer, NamesTheFirstNonFiniteWeight) {
  Arena arena(golden_table());
  load_weights(arena);
  Optimizer optimizer(arena, {}, golden_schedule());
  EXPECT_EQ(optimizer.first_non_finite_weight(), "");
  arena.weight(7).data<float>()[14] = std::nanf("");
  EXPECT_EQ(optimizer.first_non_finite_weight(), "pooler.weight");
  arena.weight(0).data<float>()[0] = kInfinity;
  EXPECT_EQ(optimizer.first_non_finite_weight(), "embeddings.word_embeddings.weight");
}

TEST(Optimizer, StateGoesOnBitForBitInAnotherLayout) {
  for (const char* name : {"lamb", "adamw"}) {
    Arena arena(golden_table()), other(other_table());
    load_weights(arena);
    TrainingRun run(arena, options_of(name), golden_schedule());
    TrainingRun resumed(other, options_of(name), golden_schedule());
    run_golden_steps(arena, run, 0, 7);
    for (const ParameterSlice& slice : arena.table().slices())
      other.weight(other.table().find(slice.name)).copy_from(used(arena.masters(), slice));
    resumed.optimizer.load_state(run.optimizer.state());
    resumed.state.write(run.state.read());
    run_golden_steps(arena, run, 7, kSteps);
    run_golden_steps(other, resumed, 7, kSteps);
    for (const ParameterSlice& slice : arena.table().slices()) {
      EXPECT_TRUE(near(slice.name, other.weight(other.table().find(slice.name)),
                       used(arena.masters(), slice), Tolerance::elementwise));
    }
    expect_golden(name, other, resumed.optimizer);
  }
}

TEST(Optimizer, SameLayoutResumesToTheBit) {
  Arena arena(golden_table()), again(golden_table());
  load_weights(arena);
  TrainingRun run(arena, {}, golden_schedule()), resumed(again, {}, golden_schedule());
  run_golden_steps(arena, run, 0, 7);
  again.masters().copy_from(arena.masters());
  auto state = run.optimizer.state();
  std::reverse(state.begin(), state.end());  // order is free
  resumed.optimizer.load_state(state);
  resumed.state.write(run.state.read());
  run_golden_steps(arena, run, 7, kSteps);
  run_golden_steps(again, resumed, 7, kSteps);
  EXPECT_TRUE(same_bits(arena.masters(), again.masters()));
}

TEST(Optimizer, StateIsACopy) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, {}, golden_schedule());
  run_golden_steps(arena, run, 0, 1);
  const auto state = run.optimizer.state();
  const Tensor before = state[0].second.clone();
  run_golden_steps(arena, run, 1, 2);
  EXPECT_TRUE(same_bits(state[0].second, before));
  EXPECT_FALSE(same_bits(run.optimizer.state()[0].second, before));
}

TEST(Optimizer, RefusesStateOfAnotherModelAndKeepsItsOwn) {
  Arena arena(golden_table());
  TrainingRun run(arena, {}, golden_schedule());
  Optimizer& optimizer = run.optimizer;
  load_weights(arena);
  run_golden_steps(arena, run, 0, 1);
  const auto good = optimizer.state();
  const auto expect_refused = [&](auto damage, const std::string& text) {
    auto state = good;
    for (auto& [name, tensor] : state) tensor = Tensor::zeros(tensor.shape());
    damage(state);
    try {
      optimizer.load_state(state);
      ADD_FAILURE() << text << ": accepted";
    } catch (const CheckpointError& error) {
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
    const auto kept = optimizer.state();
    for (size_t k = 0; k < good.size(); ++k) EXPECT_TRUE(same_bits(kept[k].second, good[k].second));
  };
  expect_refused([](auto& state) { state.pop_back(); }, "\"pooler.weight.exp_avg_sq\" is missing");
  expect_refused([](auto& state) { state.emplace_back("x.exp_avg", Tensor::zeros({1})); },
                 "\"x.exp_avg\" belongs to no parameter");
  expect_refused(
      [](auto& state) {
        state[3].second = Tensor::zeros({8, 9});
      },
      "\"encoder.query.weight.exp_avg_sq\" is f32 [8, 9], expected f32 [8, 8]");
  expect_refused(
      [](auto& state) {
        state[3].second = Tensor::zeros({8, 8}, DType::bf16);
      },
      "is bf16 [8, 8]");
}

TEST(Optimizer, TheTableHoldsWhatTheFactsSay) {
  EXPECT_EQ(optimizer_variants().size(), 3u);
  const OptimizerVariant& lamb = optimizer_variant("lamb");
  EXPECT_TRUE(lamb.bias_correction && !lamb.adapt_undecayed && lamb.eps == 1e-6f);
  EXPECT_FALSE(optimizer_variant("adamw-google").bias_correction);
  EXPECT_EQ(optimizer_variant("adamw").eps, 1e-8f);
  Arena arena = small_arena();
  EXPECT_EQ(Optimizer(arena, options_of("adamw"), constant(1)).eps(), 1e-8f);
  OptimizerOptions options = options_of("adamw");
  options.eps = 1e-3f;
  EXPECT_EQ(Optimizer(arena, options, constant(1)).eps(), 1e-3f);
  EXPECT_THAT(Optimizer(arena, options, constant(1)).describe(), HasSubstr("eps 0.001"));
}

TEST(Optimizer, RejectsWhatMakesNoSense) {
  Arena arena = small_arena();
  const auto rejects = [&](auto change) {
    OptimizerOptions options;
    change(options);
    EXPECT_THROW(Optimizer(arena, options, constant(1)), UsageError);
  };
  rejects([](auto& o) { o.name = "lamp"; });
  rejects([](auto& o) { o.beta1 = 1; });
  rejects([](auto& o) { o.beta2 = -0.1; });
  rejects([](auto& o) { o.beta2 = std::nan(""); });
  rejects([](auto& o) { o.eps = 0.0f; });
  rejects([](auto& o) { o.weight_decay = -1; });
  rejects([](auto& o) { o.max_grad_norm = kInfinity; });
  EXPECT_THROW(Optimizer(arena, {}, constant(1, /* total_steps= */ 0)), UsageError);
  EXPECT_THROW(Optimizer(arena, {}, constant(1), {.enabled = true, .floor = -1}), UsageError);
  try {
    optimizer_variant("lamp");
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("adamw-google, adamw, lamb. Did you mean lamb?"));
  }
}

}  // namespace
}  // namespace minibert::testing
