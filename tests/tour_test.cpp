// tour_test.cpp: minibert on one page: a tensor, a gradient, a layer, a step, save and load. Read
// it first. Run: ctest --preset cpu -R tour.
#include <cmath>
#include <filesystem>
#include <vector>

#include <gtest/gtest.h>

#include "autograd/loss_meter.h"
#include "autograd/ops.h"
#include "core/arena.h"
#include "core/device_value.h"
#include "models/bert/safetensors.h"
#include "optim/optimizer.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

TEST(Tour, FromATensorToATrainedLayer) {
  // 1. A tensor is a small value: storage, shape, dtype. Slices along the first axis share storage.
  const std::vector<float> numbers = {0, 0, 0, 1, 1, 0, 1, 1};
  const Tensor inputs = Tensor::from<float>(numbers, {4, 2});
  EXPECT_EQ(inputs.rows(1, 2).shape(), Shape({2, 2}));

  // 2. A variable remembers how it was made. y = sum(x * x), so dy/dx = 2 x.
  const Variable x = Variable::leaf(inputs);
  sum(multiply(x, x)).backward();
  EXPECT_EQ(x.grad().data<float>()[3], 2.0f);

  // 3. Parameters are named slices of one arena; a layer is an op on them.
  ParameterTable table;
  const int weight = table.add("weight", {2, 2}), bias = table.add("bias", {2});
  Arena arena(table);
  arena.with_gradients();
  const Variable w = Variable::leaf(arena.weight(weight), arena.gradient(weight));
  const Variable b = Variable::leaf(arena.weight(bias), arena.gradient(bias));

  // 4. A step: loss, backward, update. The layer learns "a or b" from its four cases.
  const std::vector<int32_t> answers = {0, 1, 1, 1};
  const Tensor labels = Tensor::from<int32_t>(answers, {4});
  OptimizerOptions options;
  options.name = "adamw";
  options.weight_decay = 0.0f;
  Optimizer optimizer(arena, options,
                      Schedule({.name = "constant", .learning_rate = 0.1f, .total_steps = 200}));
  DeviceValue<StepState> state;
  LossMeter meter(/* scale= */ 0.25f);
  for (int step = 0; step < 200; ++step) {
    w.reset_grad();
    b.reset_grad();
    meter.reset();
    cross_entropy(linear(Variable(inputs), w, b), labels, meter.site()).backward();
    optimizer.step(state.get());
  }
  EXPECT_EQ(meter.counts().correct, 4);
  EXPECT_LT(meter.counts().loss_sum / 4, 0.1);

  // 5. Save and load: safetensors, the format that everyone reads.
  const std::string file = ::testing::TempDir() + "minibert_tour.safetensors";
  const NamedTensor saved[] = {{"weight", arena.weight(weight)}, {"bias", arena.weight(bias)}};
  write_safetensors(file, saved);
  EXPECT_TRUE(testing::near("weight", SafetensorsFile(file).read("weight"), arena.weight(weight),
                            testing::Tolerance::exact));
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace minibert
