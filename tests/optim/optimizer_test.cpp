// optimizer_test.cpp: 20 steps of every optimizer on recorded gradients against the formulas in double
// (optimizer_formulas.h) and against the peers' implementations (tools/goldens/optimizer.py); each
// knob; and what Optimizer promises around the update: groups by name, clipping, non-finite gradients,
// loss scales, the end of the schedule, working copies, state by name. On CUDA:
// optimizer_cuda_test.cpp.
#include "optim/optimizer.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "tests/optim/optimizer_run.h"

namespace minibert::testing {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The golden's table in another order, without padding.
ParameterTable other_table() {
  const ParameterTable table = golden_table();
  ParameterTable other;
  for (int k = table.count() - 1; k >= 0; --k) other.add(table[k].name, table[k].shape);
  return other;
}

Schedule constant(float learning_rate, int64_t total_steps = 1) {
  return Schedule({.name = "constant", .learning_rate = learning_rate, .total_steps = total_steps});
}

class Trajectory : public ::testing::TestWithParam<std::string> {};

TEST_P(Trajectory, TwentyStepsEqualTheFormula) {
  for (const DType compute : {DType::f32, DType::bf16}) {
    Arena arena(golden_table(), compute);
    load_weights(arena);
    TrainingRun run(arena, options_of(GetParam()), golden_schedule());
    run_golden_steps(arena, run, 0, kSteps);
    expect_formula(GetParam(), arena, run.optimizer);
    EXPECT_EQ(run.state.read().applied_steps, kSteps);
  }
}

// A decay of 0, which apex's rule takes for a reason not to adapt.
TEST_P(Trajectory, WithoutWeightDecayToo) {
  Arena arena(golden_table());
  load_weights(arena);
  OptimizerOptions options = options_of(GetParam());
  options.weight_decay = 0;
  options.max_grad_norm = 0;
  TrainingRun run(arena, options, golden_schedule());
  run_golden_steps(arena, run, 0, kSteps);
  expect_formula(GetParam(), arena, run.optimizer,
                 formula_run(GetParam(), /* decay= */ 0, /* clip= */ 0));
}

// The gradients as a loss scale leaves them: the same weights, to rounding.
TEST_P(Trajectory, ALossScaleThatMovesChangesNothing) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, options_of(GetParam()), golden_schedule(),
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
  expect_formula(GetParam(), arena, run.optimizer);
}

INSTANTIATE_TEST_SUITE_P(Optimizer, Trajectory, ::testing::ValuesIn(optimizer_names()), test_name);

// ---- Peers: prefixes of the golden file ---------------------------------------------------------
OptimizerOptions unclipped(const std::string& name) {
  OptimizerOptions options = options_of(name);
  options.max_grad_norm = 0;
  return options;
}

void expect_peer(const std::string& prefix, const OptimizerOptions& options) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, options, golden_schedule());
  run_golden_steps(arena, run, 0, kSteps);
  for (const ParameterSlice& slice : arena.table().slices())
    EXPECT_TRUE(near(prefix + " " + slice.name, used(arena.masters(), slice),
                     golden().read(fmt::format("{}.weight.{}", prefix, slice.name)),
                     Tolerance::optimizer));
}

TEST(OptimizerPeers, EqualPyTorch) {
  expect_peer("adamw.torch", unclipped("adamw"));
  expect_peer("sgd.torch.f64", unclipped("sgd"));
  OptimizerOptions nesterov = unclipped("sgd");
  nesterov.knobs.nesterov = true;
  expect_peer("sgd.torch.nesterov.f64", nesterov);
}

TEST(OptimizerPeers, EqualTimm) {
  expect_peer("lamb.timm", options_of("lamb"));
  expect_peer("lamb-apex.timm.f64", options_of("lamb-apex"));
  expect_peer("nvlamb.timm.f64", options_of("nvlamb"));
}

TEST(OptimizerPeers, EqualTorchOptimizer) {
  expect_peer("lamb-clamped.torch-optimizer.f64", options_of("lamb-clamped"));
}

// optax's lars divides by |g + decay w|, the source by |g| + decay |w|: the same without decay.
TEST(OptimizerPeers, EqualOptax) {
  OptimizerOptions lamb = options_of("nvlamb");
  lamb.knobs.clipping = GradientClipping::none;
  expect_peer("nvlamb.optax.f64", lamb);
  OptimizerOptions lars = options_of("lars-mlperf");
  lars.weight_decay = 0;
  expect_peer("lars-mlperf.optax.f64", lars);
}

// And the script's own formulas, written in Python.
TEST(OptimizerPeers, EqualTheFormulasOfTheGoldenScript) {
  expect_peer("lamb", options_of("lamb"));
  expect_peer("adamw", unclipped("adamw"));
  expect_peer("adamw-google", options_of("adamw-google"));
}

// ---- Knobs --------------------------------------------------------------------------------------
/// Weights after the golden's steps.
Tensor trained(const OptimizerOptions& options) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun run(arena, options, golden_schedule());
  run_golden_steps(arena, run, 0, kSteps);
  return arena.masters();
}

// A row under knobs is the row that has these values: same code, same bits.
TEST(OptimizerKnobs, LeadFromRowToRow) {
  const auto expect_same = [](const OptimizerOptions& options, const char* row) {
    EXPECT_TRUE(same_bits(trained(options), trained(options_of(row)))) << row;
  };
  OptimizerOptions google = options_of("adamw-google");
  google.knobs.adapts = Adapts::decayed;
  expect_same(google, "lamb-v3");
  OptimizerOptions lamb = options_of("lamb");
  lamb.knobs.adapts = Adapts::all;
  expect_same(lamb, "nvlamb");
  lamb.knobs.adapts = Adapts::nonzero_decay;
  expect_same(lamb, "lamb-apex");
  lamb.knobs = {.adapts = Adapts::none, .bias_correction = BiasCorrection::none};
  expect_same(lamb, "adamw-google");
  OptimizerOptions v3 = options_of("lamb-v3");
  v3.knobs = {.adapts = Adapts::all,
              .bias_correction = BiasCorrection::step_size,
              .clipping = GradientClipping::none,
              .trust_ratio_min = 0.01,
              .trust_ratio_max = 10};
  v3.eps = 1e-8f;
  expect_same(v3, "lamb-deepspeed");
  v3 = options_of("lamb-v3");
  v3.knobs = {.adapts = Adapts::all, .clipping = GradientClipping::none, .weight_norm_max = 10};
  expect_same(v3, "lamb-clamped");
}

// A bound that bites, the coefficient and eps inside the root, on the first step of one tensor: w 2,
// g 1, four elements, so m = 0.1, v = 0.001, and |w| = 4.
TEST(OptimizerKnobs, ChangeTheFirstStepAsTheFormulaSays) {
  ParameterTable table;
  table.add("dense.weight", {4});
  const auto first_step = [&](const OptimizerKnobs& knobs, const char* name = "lamb-v3") {
    Arena arena(table);
    arena.with_gradients();
    for (float& w : arena.masters().span<float>()) w = 2;
    for (float& g : arena.gradients().span<float>()) g = 1;
    OptimizerOptions options = unclipped(name);
    options.knobs = knobs;
    options.weight_decay = 0;
    options.eps = 0.01f;
    TrainingRun run(arena, options, constant(0.125f));
    run.step();
    return static_cast<double>(arena.masters().data<float>()[0]);
  };
  const double r = 0.1 / (std::sqrt(0.001) + 0.01);
  const auto expect = [](double got, double step) { EXPECT_NEAR(got, 2 - step, 1e-6); };
  expect(first_step({}), 0.125 * 2);  // ratio 4 / (2 r)
  expect(first_step({.adapts = Adapts::none}), 0.125 * r);
  expect(first_step({.weight_norm_max = 1}), 0.125 * 0.5);
  expect(first_step({.weight_norm_min = 8}), 0.125 * 4);
  expect(first_step({.trust_ratio_max = 0.25}), 0.125 * 0.25 * r);
  expect(first_step({.trust_ratio_min = 3}), 0.125 * 3 * r);
  expect(first_step({.trust_coefficient = 0.5}), 0.125);
  const OptimizerKnobs inside{.adapts = Adapts::none, .epsilon_inside_root = true};
  expect(first_step(inside), 0.125 * 0.1 / std::sqrt(0.001 + 0.01));
  const OptimizerKnobs sum{.adapts = Adapts::none, .gradient_averaging = false};
  expect(first_step(sum), 0.125 * 10 * r);
  const OptimizerKnobs step_size{.adapts = Adapts::none,
                                 .bias_correction = BiasCorrection::step_size};
  expect(first_step(step_size), 0.125 * r * std::sqrt(0.001) / 0.1);
}

// Norms 2, 2, 2 (clipped to 1), then 0.5 (left alone); together they would be clipped to a third.
TEST(OptimizerKnobs, ClipEachTensorByItsOwnNorm) {
  ParameterTable table;
  for (const char* name : {"a.weight", "b.bias", "c.LayerNorm", "d.weight"}) table.add(name, {4});
  for (const float scale : {1.0f, 256.0f}) {
    Arena arena(table);
    arena.with_gradients();
    for (int k = 0; k < 4; ++k)
      for (float& g : arena.gradient(k).span<float>()) g = scale * (k < 3 ? 1 : 0.25f);
    OptimizerOptions options = options_of("sgd");
    options.knobs.clipping = GradientClipping::tensor;
    TrainingRun run(arena, options, constant(1), {.enabled = scale > 1, .initial = scale});
    const auto report = run.step();
    EXPECT_EQ(report.clip_factor, 1) << "there is no common factor";
    EXPECT_NEAR(report.grad_norm, std::sqrt(12.25), 1e-6);
    for (int k = 0; k < 4; ++k)
      EXPECT_FLOAT_EQ(arena.weight(k).data<float>()[0], k < 3 ? -0.5f : -0.25f);
  }
}

TEST(OptimizerKnobs, ThatDoNotFitAreRefusedByNameWithTheFix) {
  ParameterTable table;
  table.add("dense.weight", {4});
  Arena arena(table);
  const auto refuses = [&](const char* name, const OptimizerKnobs& knobs, const std::string& text,
                           float max_grad_norm = 1, std::optional<float> eps = {}) {
    OptimizerOptions options = options_of(name);
    options.knobs = knobs;
    options.max_grad_norm = max_grad_norm;
    options.eps = eps;
    try {
      Optimizer(arena, options, constant(1));
      ADD_FAILURE() << name << " accepted: " << text;
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
  };
  refuses("adamw", {.adapts = Adapts::all},
          "adapt is all, but adamw has no trust ratio. Its decay");
  refuses("sgd", {.adapts = Adapts::decayed}, "sgd has no trust ratio. Use lars");
  refuses("sgd", {.bias_correction = BiasCorrection::moments}, "Set it to none or auto");
  refuses("lars", {.bias_correction = BiasCorrection::step_size}, "bias_correction is step_size");
  refuses("lars", {.nesterov = true}, "lars's ratio is of the momentum itself. Use it with sgd");
  refuses("lamb", {.nesterov = true}, "lamb is no momentum method");
  refuses("sgd", {.epsilon_inside_root = true}, "takes no root");
  refuses("adamw", {.trust_ratio_max = 1}, "adamw adapts no tensor here");
  refuses("lamb", {.adapts = Adapts::none, .trust_coefficient = 2}, "lamb adapts no tensor here");
  refuses("lamb", {.trust_ratio_min = 2, .trust_ratio_max = 1}, "trust_ratio_min is 2");
  refuses("lamb", {.weight_norm_min = 11, .weight_norm_max = 10}, "weight_norm_min is 11");
  refuses("lamb", {.weight_norm_max = -1}, "is -1, expected 0 (none) or more");
  refuses("lamb", {.trust_coefficient = 0}, "trust_coefficient is 0");
  refuses("lans", {.clipping = GradientClipping::global}, "which undoes clipping");
  refuses("lamb", {.clipping = GradientClipping::tensor}, "with max_grad_norm 0", 0);
  refuses("sgd", {}, "eps is 1e-06, but sgd divides by nothing", 1, 1e-6f);
  // What the messages advise.
  OptimizerOptions options = options_of("lans");
  options.knobs.clipping = GradientClipping::none;
  Optimizer(arena, options, constant(1));
  options = options_of("lars-mlperf");
  options.knobs = {.adapts = Adapts::all, .nesterov = true, .trust_coefficient = 0.01};
  options.eps = 1e-6f;
  Optimizer(arena, options, constant(1));
  options = options_of("adamw-google");
  options.knobs = {.adapts = Adapts::all, .trust_ratio_max = 1};
  Optimizer(arena, options, constant(1));
}

TEST(OptimizerKnobs, AreDescribedAsTheyAreInForce) {
  ParameterTable table;
  table.add("dense.weight", {4});
  Arena arena(table);
  OptimizerOptions options = options_of("lamb");
  options.knobs.adapts = Adapts::all;
  options.knobs.trust_ratio_max = 0.3;
  const std::string text = Optimizer(arena, options, constant(1)).describe();
  for (const char* part : {"adapt all", "bias_correction moments", "gradient_clipping global",
                           "clipped to norm 1", "trust_ratio_max 0.3", "beta2 0.999", "eps 1e-06"})
    EXPECT_THAT(text, HasSubstr(part));
  const std::string sgd = Optimizer(arena, unclipped("sgd"), constant(1)).describe();
  EXPECT_THAT(sgd, HasSubstr("gradient_clipping none"));
  for (const char* part : {"beta2", "bias_correction", "trust_ratio", "clipped"})
    EXPECT_EQ(sgd.find(part), std::string::npos) << part;
}

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
  for (const std::string& name : optimizer_names()) {
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
    expect_formula(name, arena, run.optimizer);
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
  for (const std::string& name : optimizer_names()) {
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
      expect_formula(name, arena, run.optimizer);
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
  for (const std::string& name : optimizer_names()) {
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
    expect_formula(name, arena, run.optimizer);
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
  expect_formula("lamb", arena, run.optimizer);
}

// In bf16 and f16, layers see the masters rounded, from the optimizer alone: no refresh().
TEST(Optimizer, KeepsTheWorkingCopyAsTheMastersRounded) {
  for (const DType compute : {DType::bf16, DType::f16}) {
    for (const std::string& name : optimizer_names()) {
      Arena arena(golden_table(), compute);
      load_weights(arena);
      arena.refresh();
      TrainingRun run(arena, options_of(name), golden_schedule());
      const int64_t version = arena.version();
      run_golden_steps(arena, run, 0, kSteps);
      EXPECT_EQ(arena.version(), version + kSteps) << "packed weights must be made anew";
      EXPECT_TRUE(same_bits(arena.working(), arena.masters().to(compute)));
      expect_formula(name, arena, run.optimizer);
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
  for (const std::string& name : optimizer_names()) {
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
    expect_formula(name, other, resumed.optimizer);
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
  expect_refused([](auto& state) { state.pop_back(); },
                 "\"frozen.zero.weight.exp_avg_sq\" is missing");
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

// Adam's state holds two moments of each weight, momentum's one: neither goes on with the other's.
TEST(Optimizer, MomentumKeepsOneMomentAndRefusesTwo) {
  Arena arena(golden_table());
  load_weights(arena);
  TrainingRun lamb(arena, {}, golden_schedule());
  for (const char* name : {"sgd", "lars", "lars-mlperf"}) {
    TrainingRun run(arena, options_of(name), golden_schedule());
    EXPECT_EQ(run.optimizer.moment_buffers().size(), 1u);
    EXPECT_EQ(run.optimizer.state().size(), static_cast<size_t>(arena.table().count()));
    const auto refusal = [](Optimizer& optimizer, const Optimizer& from) -> std::string {
      try {
        optimizer.load_state(from.state());
      } catch (const CheckpointError& error) {
        return error.what();
      }
      return "accepted";
    };
    EXPECT_THAT(refusal(run.optimizer, lamb.optimizer),
                HasSubstr(fmt::format("two moments (Adam's), but {} keeps one", name)));
    EXPECT_THAT(refusal(lamb.optimizer, run.optimizer),
                HasSubstr("one moment (momentum), but lamb keeps two. Resume with"));
    EXPECT_EQ(refusal(run.optimizer, run.optimizer), "accepted");
  }
}

TEST(Optimizer, TheTableHoldsWhatTheFactsSay) {
  EXPECT_EQ(optimizer_names().size(), published_optimizers().size());
  for (const OptimizerVariant& row : optimizer_variants()) {
    EXPECT_TRUE(published_optimizers().count(row.name)) << row.name;
    EXPECT_TRUE(*row.summary && *row.formula && *row.source) << row.name;
  }
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
    EXPECT_THAT(error.what(),
                HasSubstr("nvlamb, lamb-deepspeed, lamb-clamped, lans. Did you mean lamb?"));
  }
}

}  // namespace
}  // namespace minibert::testing
