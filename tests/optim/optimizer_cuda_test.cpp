// optimizer_cuda_test.cpp: the optimizers on device cuda: 20 steps of every row against the formulas in
// double, with working weights in f32 and bf16, and a clipped, a skipped and a normalised step, with no
// look of the host in between. Runs on the engine of tools/simt or on a GPU.
#include <cmath>
#include <limits>

#include "tests/core/kernels/cuda_fixture.h"
#include "tests/optim/optimizer_run.h"

namespace minibert::testing {
namespace {

class TrajectoryCuda : public CudaTest, public ::testing::WithParamInterface<std::string> {};

TEST_P(TrajectoryCuda, TwentyStepsEqualTheFormula) {
  for (const DType compute : {DType::f32, DType::bf16}) {
    Arena arena(golden_table(), compute, Device::cuda);
    load_weights(arena);
    TrainingRun run(arena, options_of(GetParam()), golden_schedule());
    run_golden_steps(arena, run, 0, kSteps);
    expect_formula(GetParam(), arena, run.optimizer);
  }
}

TEST_P(TrajectoryCuda, ANonFiniteGradientChangesNothing) {
  Arena arena(golden_table(), DType::f32, Device::cuda);
  load_weights(arena);
  TrainingRun run(arena, options_of(GetParam()), golden_schedule());
  run_golden_steps(arena, run, 0, 2);
  const Tensor before = arena.masters().host_copy();
  const float bad = std::numeric_limits<float>::infinity();
  copy_to_device(&bad, arena.gradient(5).slice(0, {1}));
  EXPECT_FALSE(run.step().applied);
  EXPECT_TRUE(same_bits(arena.masters().host_copy(), before));
  run_golden_steps(arena, run, 2, kSteps);
  expect_formula(GetParam(), arena, run.optimizer);
}

INSTANTIATE_TEST_SUITE_P(Optimizer, TrajectoryCuda, ::testing::ValuesIn(optimizer_names()),
                         test_name);

TEST_F(CudaTest, TensorsAreClippedByTheirOwnNormsUnderALossScale) {
  ParameterTable table;
  for (const char* name : {"a.weight", "b.weight"}) table.add(name, {4});
  Arena arena(table, DType::f32, Device::cuda);
  arena.with_gradients();
  const std::vector<float> gradients[] = {std::vector<float>(4, 64), std::vector<float>(4, 16)};
  for (int k = 0; k < 2; ++k) copy_to_device(gradients[k].data(), arena.gradient(k));
  OptimizerOptions options = options_of("sgd");
  options.knobs.clipping = GradientClipping::tensor;
  TrainingRun run(arena, options,
                  minibert::Schedule({.name = "constant", .learning_rate = 1, .total_steps = 1}),
                  {.enabled = true, .initial = 64});
  EXPECT_TRUE(run.step().applied);
  const Tensor weights = arena.masters().host_copy();
  EXPECT_FLOAT_EQ(weights.data<float>()[arena.table()[0].offset], -0.5f);   // norm 2 to 1
  EXPECT_FLOAT_EQ(weights.data<float>()[arena.table()[1].offset], -0.25f);  // norm 0.5
}

}  // namespace
}  // namespace minibert::testing
