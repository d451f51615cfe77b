// optimizer_run.h: recorded gradients, an arena of them on a device, a run of an optimizer over them,
// and the same run by the formulas of optimizer_formulas.h: what the optimizer's tests share, on the
// CPU and on CUDA.
#pragma once

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "models/bert/safetensors.h"
#include "optim/optimizer.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/optim/optimizer_formulas.h"
#include "tests/tolerance.h"

namespace minibert::testing {

inline constexpr int kSteps = 20;

inline const SafetensorsFile& golden() {
  static const SafetensorsFile file(
      std::string(std::getenv("MINIBERT_SOURCE_DIR") ? std::getenv("MINIBERT_SOURCE_DIR") : ".") +
      "/tests/goldens/optimizer.safetensors");
  return file;
}

/// The golden's parameters, laid out with padding (the vocabulary) and neighbours without a gap. Of
/// those that decay and those that do not, some are zero at first, and some have no gradient.
inline ParameterTable golden_table() {
  ParameterTable table;
  table.add("embeddings.word_embeddings.weight", {37, 8}, {64, 8});
  table.add("encoder.query.weight", {8, 8});
  table.add("encoder.query.bias", {8});
  table.add("encoder.key.bias", {8}, {8}, /* adjacent= */ true);
  table.add("encoder.dense.weight", {19, 13});
  table.add("encoder.dense.bias", {19});
  table.add("encoder.LayerNorm.weight", {13});
  table.add("pooler.weight", {5, 3});
  table.add("frozen.weight", {4, 6});
  table.add("frozen.bias", {6});
  table.add("frozen.zero.weight", {3, 2});
  return table;
}

inline Tensor used(const Tensor& buffer, const ParameterSlice& slice) {
  return buffer.slice(slice.offset, slice.shape);
}

inline void load_weights(Arena& arena) {
  for (const ParameterSlice& slice : arena.table().slices())
    copy_to_device(golden().read("weight." + slice.name).raw(), used(arena.masters(), slice));
  arena.refresh();
}

inline void load_gradients(const Arena& arena, int step) {
  for (const ParameterSlice& slice : arena.table().slices()) {
    const Tensor all = golden().read("gradient." + slice.name);
    copy_to_device(all.slice(step * slice.shape.numel(), slice.shape).raw(),
                   used(arena.gradients(), slice));
  }
}

/// The golden's learning rates: 5e-3 min(1, (t + 1) / 5).
inline minibert::Schedule golden_schedule() {
  return minibert::Schedule(
      {.name = "constant", .learning_rate = 5e-3f, .warmup = 5, .total_steps = kSteps});
}

/// An optimizer and the state that its steps work on.
struct TrainingRun {
  TrainingRun(Arena& arena, const OptimizerOptions& options, const minibert::Schedule& schedule,
              const LossScaling& scaling = {})
      : optimizer(arena, options, schedule, scaling),
        state(optimizer.initial_state(), arena.device()) {}
  Optimizer::StepReport step() {
    optimizer.step(state.get());
    return optimizer.report(state.read());
  }
  Optimizer optimizer;
  DeviceValue<StepState> state;
};

inline OptimizerOptions options_of(const std::string& name) {
  OptimizerOptions options;
  options.name = name;
  return options;
}

inline void run_golden_steps(Arena& arena, TrainingRun& run, int first, int last) {
  const Tensor lr = golden().read("lr");
  for (int step = first; step < last; ++step) {
    load_gradients(arena, step);
    const auto report = run.step();
    ASSERT_TRUE(report.applied);
    ASSERT_FLOAT_EQ(report.learning_rate, lr.data<float>()[step]);
  }
}

// ---- The same by formula -------------------------------------------------------------------------
using FormulaRun = std::map<std::string, FormulaTensor>;

inline Vector doubles_of(const Tensor& t) {
  return {t.span<float>().begin(), t.span<float>().end()};
}

/// kSteps steps of a row, with gradients clipped together where `clip` and the row say so.
inline FormulaRun formula_run(const std::string& row, double decay = 0.01, double clip = 1) {
  const PublishedOptimizer& published = published_optimizers().at(row);
  FormulaRun run;
  std::map<std::string, Tensor> recorded;
  const ParameterTable table = golden_table();
  for (const ParameterSlice& slice : table.slices()) {
    const Vector w = doubles_of(golden().read("weight." + slice.name)), zeros(w.size());
    const bool named = slice.name.find("bias") != std::string::npos ||
                       slice.name.find("LayerNorm") != std::string::npos;
    run[slice.name] = {w, zeros, zeros, !named};
    recorded.emplace(slice.name, golden().read("gradient." + slice.name));
  }
  for (int t = 1; t <= kSteps; ++t) {
    std::map<std::string, Vector> gradients;
    double squares = 0;
    for (const auto& [name, tensor] : run) {
      const Vector all = doubles_of(recorded.at(name));
      const auto size = static_cast<std::ptrdiff_t>(tensor.w.size());
      const Vector g(all.begin() + (t - 1) * size, all.begin() + t * size);
      squares += norm(g) * norm(g);
      gradients[name] = g;
    }
    const bool clips = published.clips && clip > 0 && std::sqrt(squares) > clip;
    const double lr = golden().read("lr").data<float>()[t - 1];
    for (auto& [name, tensor] : run) {
      Vector& g = gradients[name];
      if (clips)
        for (double& x : g) x *= clip / std::sqrt(squares);
      published.step(tensor, g, {.lr = lr, .decay = decay, .t = t});
    }
  }
  return run;
}

inline Tensor floats_in(const Vector& values, const Shape& shape) {
  const Tensor t = Tensor::empty(shape);
  std::copy(values.begin(), values.end(), t.span<float>().begin());
  return t;
}

/// Weights, moments and working copy; every element within the tolerance of its tensor's largest.
inline void expect_formula(const std::string& row, const Arena& arena, const Optimizer& optimizer,
                           const FormulaRun& expected) {
  const auto state = optimizer.state();
  const auto moments = static_cast<size_t>(moment_count(optimizer.policies()));
  ASSERT_EQ(state.size(), moments * expected.size());
  for (int k = 0; k < arena.table().count(); ++k) {
    const ParameterSlice& slice = arena.table()[k];
    const FormulaTensor& wanted = expected.at(slice.name);
    const std::string what = row + " " + slice.name;
    EXPECT_TRUE(near(what, used(arena.masters(), slice).host_copy(),
                     floats_in(wanted.w, slice.shape), Tolerance::optimizer));
    for (size_t j = 0; j < moments; ++j) {
      const auto& [name, moment] = state[moments * static_cast<size_t>(k) + j];
      EXPECT_EQ(name, slice.name + (j == 0 ? ".exp_avg" : ".exp_avg_sq"));
      EXPECT_TRUE(near(row + " " + name, moment,
                       floats_in(j == 0 ? wanted.m : wanted.v, slice.shape), Tolerance::optimizer));
    }
  }
  const Tensor masters = arena.masters().host_copy(), working = arena.working().host_copy();
  EXPECT_TRUE(same_bits(working, masters.to(working.dtype())));
}

inline void expect_formula(const std::string& row, const Arena& arena, const Optimizer& optimizer) {
  expect_formula(row, arena, optimizer, formula_run(row));
}

inline std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const OptimizerVariant& variant : optimizer_variants()) names.push_back(variant.name);
  return names;
}

/// For a suite over the rows.
inline std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name)
    if (c == '-') c = '_';
  return name;
}

}  // namespace minibert::testing
