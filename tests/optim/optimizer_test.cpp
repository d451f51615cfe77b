// optimizer_test.cpp: 20 steps of every variant on recorded gradients against formulas in double,
// PyTorch's AdamW and timm's Lamb (tools/goldens/optimizer.py), and what Optimizer promises around
// the update: groups by name, clipping, non-finite gradients, state by name.
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
    used(arena.weights(), slice).copy_from(golden().read("weight." + slice.name));
}

void load_gradients(Arena& arena, int step) {
  for (const ParameterSlice& slice : arena.table().slices()) {
    const Tensor all = golden().read("gradient." + slice.name);
    used(arena.gradients(), slice).copy_from(all.slice(step * slice.shape.numel(), slice.shape));
  }
}

float golden_learning_rate(int step) {
  return golden().read("lr").data<float>()[step];
}

OptimizerOptions options_of(const std::string& name) {
  OptimizerOptions options;
  options.name = name;
  if (name == "adamw") options.max_grad_norm = 0;  // as the golden: PyTorch's AdamW does not clip
  return options;
}

void run_golden_steps(Arena& arena, Optimizer& optimizer, int first, int last) {
  for (int step = first; step < last; ++step) {
    load_gradients(arena, step);
    ASSERT_TRUE(optimizer.step(golden_learning_rate(step)).applied);
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
    EXPECT_TRUE(near(prefix + " " + slice.name, used(arena.weights(), slice), expected("weight"),
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
  Optimizer optimizer(arena, options_of(GetParam().variant));
  run_golden_steps(arena, optimizer, 0, kSteps);
  expect_golden(GetParam().expected, arena, optimizer);
  EXPECT_EQ(optimizer.applied_steps(), kSteps);
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
  Optimizer optimizer(arena, options_of("lamb"));
  EXPECT_TRUE(optimizer.norms().empty());
  const Tensor grad_norm = golden().read("grad_norm");
  for (int step = 0; step < kSteps; ++step) {
    load_gradients(arena, step);
    const auto report = optimizer.step(golden_learning_rate(step));
    const double norm = grad_norm.data<float>()[step];
    EXPECT_NEAR(report.grad_norm, norm, norm * Tolerance::reduction);
    EXPECT_NEAR(report.clip_factor, 1 / std::max(1.0, norm), Tolerance::reduction);
    ASSERT_EQ(optimizer.norms().size(), static_cast<size_t>(arena.table().count()));
    for (int k = 0; k < arena.table().count(); ++k) {
      const auto expected = golden().read("lamb.trust_ratio." + arena.table()[k].name);
      const double ratio = expected.data<float>()[step];
      EXPECT_NEAR(optimizer.norms()[static_cast<size_t>(k)].trust_ratio, ratio, ratio * 5e-6)
          << arena.table()[k].name << " step " << step;
    }
  }
}

TEST(Optimizer, LeavesGapsAndPaddingAlone) {
  for (const char* name : {"lamb", "adamw", "adamw-google"}) {
    Arena arena(golden_table());
    load_weights(arena);
    Optimizer optimizer(arena, options_of(name));
    std::vector<bool> inside(static_cast<size_t>(arena.table().size()), false);
    for (const ParameterSlice& s : arena.table().slices())
      std::fill(inside.begin() + s.offset, inside.begin() + s.offset + s.used(), true);
    for (int64_t i = 0; i < arena.table().size(); ++i) {
      if (inside[static_cast<size_t>(i)]) continue;
      arena.weights().data<float>()[i] = -77;
      arena.gradients().data<float>()[i] = kInfinity;  // neither clips nor stops the step
    }
    run_golden_steps(arena, optimizer, 0, kSteps);
    expect_golden(name, arena, optimizer);
    for (int64_t i = 0; i < arena.table().size(); ++i) {
      if (!inside[static_cast<size_t>(i)]) {
        ASSERT_EQ(arena.weights().data<float>()[i], -77);
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
  Optimizer optimizer(arena, options);
  optimizer.step(0.125f);
  EXPECT_NEAR(optimizer.norms()[0].update, 4, 1e-5);  // 1 + 0.5 * 2, four times
  EXPECT_NEAR(optimizer.norms()[0].trust_ratio, 1, 1e-5);
  EXPECT_NEAR(arena.weight(0).data<float>()[0], 2 - 0.125 * 2, 1e-5);
  for (int k : {1, 2}) {
    EXPECT_NEAR(optimizer.norms()[static_cast<size_t>(k)].update, 2, 1e-5);
    EXPECT_EQ(optimizer.norms()[static_cast<size_t>(k)].trust_ratio, 1.0f);  // not 4 / 2
    EXPECT_NEAR(arena.weight(k).data<float>()[0], 2 - 0.125, 1e-5);
  }
}

TEST(Optimizer, NoDecayListIsWhatTheUserSays) {
  Arena arena = small_arena();
  OptimizerOptions options = options_of("lamb");
  options.weight_decay = 0.5f;
  options.no_decay = {"dense.weight"};
  Optimizer optimizer(arena, options);
  optimizer.step(0.1f);
  EXPECT_EQ(optimizer.norms()[0].trust_ratio, 1.0f);
  EXPECT_NE(optimizer.norms()[1].trust_ratio, 1.0f);
  EXPECT_NE(optimizer.norms()[2].trust_ratio, 1.0f);
}

TEST(Optimizer, AWeightDecayOfZeroStillAdaptsByName) {
  Arena arena = small_arena();
  OptimizerOptions options = options_of("lamb");
  options.weight_decay = 0;
  Optimizer optimizer(arena, options);
  optimizer.step(0.1f);
  EXPECT_NEAR(optimizer.norms()[0].update, 2, 1e-5);  // 1, four times: nothing of the weights
  EXPECT_NEAR(optimizer.norms()[0].trust_ratio, 2, 1e-5);
  EXPECT_EQ(optimizer.norms()[1].trust_ratio, 1.0f);
}

TEST(Optimizer, ClipsToTheGlobalNormOnlyAboveIt) {
  Arena arena = small_arena();  // 12 ones: norm sqrt(12)
  OptimizerOptions options;
  for (const auto& [limit, factor] :
       {std::pair{1.0f, 1 / std::sqrt(12.0)}, {4.0f, 1.0}, {0.0f, 1.0}}) {
    options.max_grad_norm = limit;
    Optimizer optimizer(arena, options);
    const auto report = optimizer.step(1e-3f);
    EXPECT_NEAR(report.grad_norm, std::sqrt(12.0), 1e-12);
    EXPECT_FLOAT_EQ(report.clip_factor, static_cast<float>(factor)) << limit;
    EXPECT_FLOAT_EQ(optimizer.state()[0].second.data<float>()[0], static_cast<float>(0.1 * factor));
  }
  EXPECT_EQ(arena.gradient(0).data<float>()[0], 1.0f) << "gradients stay as they are";
}

TEST(Optimizer, ANonFiniteGradientChangesNothingAndIsNamed) {
  for (const char* name : {"lamb", "adamw", "adamw-google"}) {
    for (float bad : {kInfinity, -kInfinity, std::nanf("")}) {
      Arena arena(golden_table());
      load_weights(arena);
      Optimizer optimizer(arena, options_of(name));
      run_golden_steps(arena, optimizer, 0, 2);
      const Tensor before = arena.weights().clone();
      std::vector<Tensor> moments;
      for (const auto& [key, tensor] : optimizer.state()) moments.push_back(tensor.clone());
      load_gradients(arena, 2);
      arena.gradient(5).data<float>()[18] = bad;
      arena.gradient(4).data<float>()[19 * 13 - 1] = bad;
      const auto report = optimizer.step(1e-3f);
      EXPECT_FALSE(report.applied);
      EXPECT_EQ(report.bad_gradient, arena.table()[5].name) << "the nearest to the loss";
      EXPECT_FALSE(std::isfinite(report.grad_norm));
      EXPECT_EQ(optimizer.applied_steps(), 2);
      EXPECT_TRUE(same_bits(arena.weights(), before));
      for (size_t k = 0; k < moments.size(); ++k)
        EXPECT_TRUE(same_bits(optimizer.state()[k].second, moments[k]));
      run_golden_steps(arena, optimizer, 2, kSteps);  // and the run goes on as if nothing was
      expect_golden(name, arena, optimizer);
    }
  }
}

TEST(Optimizer, NamesTheFirstNonFiniteWeight) {
  Arena arena(golden_table());
  load_weights(arena);
  Optimizer optimizer(arena, {});
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
    Optimizer optimizer(arena, options_of(name)), resumed(other, options_of(name));
    run_golden_steps(arena, optimizer, 0, 7);
    for (const ParameterSlice& slice : arena.table().slices())
      other.weight(other.table().find(slice.name)).copy_from(used(arena.weights(), slice));
    resumed.load_state(optimizer.state());
    resumed.set_applied_steps(optimizer.applied_steps());
    run_golden_steps(arena, optimizer, 7, kSteps);
    run_golden_steps(other, resumed, 7, kSteps);
    for (const ParameterSlice& slice : arena.table().slices()) {
      EXPECT_TRUE(near(slice.name, other.weight(other.table().find(slice.name)),
                       used(arena.weights(), slice), Tolerance::elementwise));
    }
    expect_golden(name, other, resumed);
  }
}

TEST(Optimizer, SameLayoutResumesToTheBit) {
  Arena arena(golden_table()), again(golden_table());
  load_weights(arena);
  Optimizer optimizer(arena, {}), resumed(again, {});
  run_golden_steps(arena, optimizer, 0, 7);
  again.weights().copy_from(arena.weights());
  auto state = optimizer.state();
  std::reverse(state.begin(), state.end());  // order is free
  resumed.load_state(state);
  resumed.set_applied_steps(7);
  run_golden_steps(arena, optimizer, 7, kSteps);
  run_golden_steps(again, resumed, 7, kSteps);
  EXPECT_TRUE(same_bits(arena.weights(), again.weights()));
}

TEST(Optimizer, RefusesStateOfAnotherModelAndKeepsItsOwn) {
  Arena arena(golden_table());
  Optimizer optimizer(arena, {});
  load_weights(arena);
  run_golden_steps(arena, optimizer, 0, 1);
  auto good = optimizer.state();
  for (auto& [name, tensor] : good) tensor = tensor.clone();
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
    for (size_t k = 0; k < good.size(); ++k)
      EXPECT_TRUE(same_bits(optimizer.state()[k].second, good[k].second));
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
  EXPECT_EQ(Optimizer(arena, options_of("adamw")).eps(), 1e-8f);
  OptimizerOptions options = options_of("adamw");
  options.eps = 1e-3f;
  EXPECT_EQ(Optimizer(arena, options).eps(), 1e-3f);
  EXPECT_THAT(Optimizer(arena, options).describe(), HasSubstr("eps 0.001"));
}

TEST(Optimizer, RejectsWhatMakesNoSense) {
  Arena arena = small_arena();
  const auto rejects = [&](auto change) {
    OptimizerOptions options;
    change(options);
    EXPECT_THROW(Optimizer(arena, options), UsageError);
  };
  rejects([](auto& o) { o.name = "lamp"; });
  rejects([](auto& o) { o.beta1 = 1; });
  rejects([](auto& o) { o.beta2 = -0.1; });
  rejects([](auto& o) { o.beta2 = std::nan(""); });
  rejects([](auto& o) { o.eps = 0.0f; });
  rejects([](auto& o) { o.weight_decay = -1; });
  rejects([](auto& o) { o.max_grad_norm = kInfinity; });
  Optimizer optimizer(arena, {});
  EXPECT_THROW(optimizer.step(-1), UsageError);
  EXPECT_THROW(optimizer.step(std::nanf("")), UsageError);
  EXPECT_THROW(optimizer.set_applied_steps(-1), UsageError);
  try {
    optimizer_variant("lamp");
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("adamw-google, adamw, lamb. Did you mean lamb?"));
  }
}

}  // namespace
}  // namespace minibert::testing
