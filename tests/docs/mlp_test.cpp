// mlp_test.cpp: the code of docs/mlp.md (the parts between `// [name]` lines, which
// tests/docs_snippets_test.py compares with the page), and that it learns.
// [include]
#include <cmath>
#include <numbers>
#include <vector>

#include "autograd/loss_meter.h"
#include "autograd/ops.h"
#include "core/random.h"

using namespace minibert;
// [/include]

#include <gtest/gtest.h>

namespace {

// [data]
// Two spirals: 2 x 100 points that no straight line separates. x [200, 2], label [200].
struct Spirals {
  Tensor x = Tensor::empty({200, 2});
  Tensor label = Tensor::empty({200}, DType::i32);
};

Spirals make_spirals() {
  Spirals s;
  for (int i = 0; i < 200; ++i) {
    const int arm = i % 2;
    const double radius = (i / 2 + 1) / 100.0;
    const double angle = 1.5 * std::numbers::pi * radius + arm * std::numbers::pi;
    s.x.data<float>()[2 * i] = static_cast<float>(radius * std::cos(angle));
    s.x.data<float>()[2 * i + 1] = static_cast<float>(radius * std::sin(angle));
    s.label.data<int32_t>()[i] = arm;
  }
  return s;
}
// [/data]

// [model]
// A leaf is a tensor with a gradient. Weights start random, biases zero.
Variable random_leaf(Shape shape, float deviation, uint64_t number) {
  RandomStream random(/* seed= */ 1, StreamPurpose::user, number);
  Tensor value = Tensor::empty(shape);
  for (float& w : value.span<float>()) w = deviation * static_cast<float>(random.normal());
  return Variable::leaf(value);
}

struct Mlp {
  Variable w1 = random_leaf({32, 2}, 1.0f, 1), b1 = Variable::leaf(Tensor::zeros({32}));
  Variable w2 = random_leaf({32, 32}, 0.2f, 2), b2 = Variable::leaf(Tensor::zeros({32}));
  Variable w3 = random_leaf({2, 32}, 0.2f, 3), b3 = Variable::leaf(Tensor::zeros({2}));

  std::vector<Variable> leaves() const { return {w1, b1, w2, b2, w3, b3}; }
  Variable logits(const Variable& x) const {  // x [N, 2] -> [N, 2]
    const Variable hidden = minibert::tanh(linear(x, w1, b1));
    return linear(gelu(linear(hidden, w2, b2)), w3, b3);
  }
};
// [/model]

// [train]
// One step of gradient descent on all points; returns how many were classified right before it.
int64_t step(const Mlp& mlp, const Spirals& data, float learning_rate) {
  const LossMeter meter(/* scale= */ 1.0f / static_cast<float>(data.label.numel()));
  const Variable loss = cross_entropy(mlp.logits(Variable(data.x)), data.label, meter.site());
  for (const Variable& leaf : mlp.leaves()) leaf.reset_grad();  // the next backward overwrites
  loss.backward();
  for (const Variable& leaf : mlp.leaves()) {
    const auto gradient = leaf.grad().span<float>();
    const auto weight = leaf.value().span<float>();
    for (size_t i = 0; i < weight.size(); ++i) weight[i] -= learning_rate * gradient[i];
  }
  return meter.counts().correct;
}
// [/train]

TEST(DocsMlp, SeparatesTwoSpirals) {
  // [run]
  const Spirals data = make_spirals();
  const Mlp mlp;
  int64_t correct = 0;
  for (int i = 0; i < 1500; ++i) correct = step(mlp, data, /* learning_rate= */ 0.5f);
  // [/run]
  EXPECT_EQ(correct, 200);
}

TEST(DocsMlp, CannotSeparateThemBeforeTraining) {
  EXPECT_LT(step(Mlp(), make_spirals(), 0), 150);
}

}  // namespace
