// recompute_test.cpp: recompute gives the same gradients as the plain call, saves nothing inside,
// draws the same dropout masks, and runs the hooks of leaves used inside once, when final.
#include <gtest/gtest.h>

#include "autograd/ops.h"
#include "core/allocator.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

Tensor tensor(std::vector<float> values) {
  const int64_t n = static_cast<int64_t>(values.size());
  return Tensor::from<float>(values, {n});
}

std::vector<float> grad_of(const Variable& v) {
  const auto span = v.grad().span<float>();
  return {span.begin(), span.end()};
}

using Values = std::vector<float>;
using Inputs = std::vector<Variable>;

TEST(Recompute, EqualsThePlainCallForInputsAndLeaves) {
  for (const bool again : {false, true}) {
    const Variable a = Variable::leaf(tensor({2, 3})), w = Variable::leaf(tensor({5, 7}));
    const auto fn = [&](const Inputs& in) { return multiply(multiply(in[0], w), in[0]); };
    const Variable x = scale(a, 2);
    const Variable y = again ? recompute(fn, {x}) : fn({x});
    EXPECT_EQ(y.value().data<float>()[0], 80);
    sum(y).backward();  // y = x^2 w = 4 a^2 w
    EXPECT_EQ(grad_of(a), (Values{8 * 2 * 5, 8 * 3 * 7}));
    EXPECT_EQ(grad_of(w), (Values{16, 36}));
  }
}

TEST(Recompute, InputsUsedOutsideTooGetBothContributions) {
  const Variable a = Variable::leaf(tensor({2}));
  const Variable x = scale(a, 3);
  const Variable y = recompute([](const Inputs& in) { return multiply(in[0], in[1]); }, {x, x});
  sum(add(y, scale(x, 10))).backward();  // 9 a^2 + 30 a
  EXPECT_EQ(grad_of(a), (Values{36 + 30}));
}

TEST(Recompute, LeavesMayBeInputsCapturedAndUsedOutside) {
  const Variable w = Variable::leaf(tensor({2}));
  int hooks = 0;
  float seen = 0;
  w.on_final_gradient([&](const Variable& v) {
    ++hooks;
    seen = grad_of(v)[0];
  });
  const Variable inside = scale(w, 1);
  const Variable y =
      recompute([&](const Inputs& in) { return multiply(multiply(in[0], w), in[1]); }, {w, inside});
  sum(add(y, scale(w, 100))).backward();  // w^3 + 100 w
  EXPECT_EQ(grad_of(w), (Values{12 + 100}));
  EXPECT_EQ(hooks, 1);
  EXPECT_EQ(seen, 112) << "the hook ran before the last contribution";
}

TEST(Recompute, HooksOfLeavesInsideRunOnceAfterTheLastUse) {
  const Variable w = Variable::leaf(tensor({3}));
  const Variable a = Variable::leaf(tensor({1}));
  std::vector<float> seen;
  w.on_final_gradient([&](const Variable& v) { seen.push_back(grad_of(v)[0]); });
  const auto layer = [&](const Inputs& in) { return multiply(multiply(in[0], w), w); };
  Variable x = scale(a, 1);
  for (int i = 0; i < 3; ++i) x = recompute(layer, {x});
  sum(x).backward();  // a w^6
  EXPECT_EQ(seen, (Values{6 * 243}));
  EXPECT_EQ(grad_of(a), (Values{729}));
}

TEST(Recompute, Nests) {
  const Variable w = Variable::leaf(tensor({3}));
  const Variable a = Variable::leaf(tensor({2}));
  int hooks = 0, calls = 0;
  w.on_final_gradient([&](const Variable&) { ++hooks; });
  const auto inner = [&](const Inputs& in) {
    ++calls;
    return multiply(in[0], w);
  };
  const auto outer = [&](const Inputs& in) {
    return multiply(recompute(inner, {scale(in[0], 2)}), w);
  };
  sum(recompute(outer, {scale(a, 1)})).backward();  // 2 a w^2
  EXPECT_EQ(grad_of(a), (Values{18}));
  EXPECT_EQ(grad_of(w), (Values{2 * 2 * 2 * 3}));
  EXPECT_EQ(hooks, 1);
  EXPECT_EQ(calls, 3) << "forward, forward of the outer's second run, second run of the inner";
}

TEST(Recompute, AccumulatesOverBackwardCalls) {
  const Variable w = Variable::leaf(tensor({3}), tensor({NAN}));
  for (int i = 0; i < 2; ++i)
    sum(recompute([&](const Inputs& in) { return multiply(in[0], w); }, {w})).backward();
  EXPECT_EQ(grad_of(w), (Values{12}));
}

TEST(Recompute, SavesNothingInsideUntilBackward) {
  constexpr int64_t kSize = 4096, kBytes = kSize * 4;
  const Variable a = Variable::leaf(Tensor::zeros({kSize}));
  const auto deep = [](const Inputs& in) {
    Variable x = in[0];
    for (int i = 0; i < 20; ++i) x = gelu(x);
    return x;
  };
  const int64_t before = Allocator::instance().total().bytes;
  const Variable y = recompute(deep, {a});
  EXPECT_LE(Allocator::instance().total().bytes - before, kBytes);
}

TEST(Recompute, WhatFnDoesNotUseIsZero) {
  const Variable a = Variable::leaf(tensor({2})), w = Variable::leaf(tensor({3}), tensor({NAN}));
  const Variable x = scale(a, 1);
  const auto fn = [&](const Inputs& in) {
    const Variable unused = scale(w, 2);
    return scale(in[1], 4);
  };
  const Variable z = scale(a, 5);
  sum(recompute(fn, {x, z})).backward();
  EXPECT_EQ(grad_of(a), (Values{20}));
  EXPECT_EQ(grad_of(w), (Values{0}));
}

TEST(Recompute, MayReturnAnInputOrALeaf) {
  const Variable a = Variable::leaf(tensor({2})), w = Variable::leaf(tensor({3}));
  sum(recompute([](const Inputs& in) { return in[0]; }, {scale(a, 5)})).backward();
  EXPECT_EQ(grad_of(a), (Values{5}));
  sum(recompute([&](const Inputs&) { return w; }, {a})).backward();
  EXPECT_EQ(grad_of(w), (Values{1}));
}

TEST(Recompute, RefusesVariablesCapturedFromOutside) {
  const Variable a = Variable::leaf(tensor({2}));
  const Variable captured = scale(a, 2);
  const auto fn = [&](const Inputs& in) { return multiply(in[0], captured); };
  EXPECT_THROW(recompute(fn, {a}), UsageError);
  EXPECT_TRUE(grad_enabled());
}

TEST(Recompute, UnderNoGradIsThePlainCall) {
  const Variable a = Variable::leaf(tensor({2}));
  NoGrad guard;
  EXPECT_FALSE(recompute([](const Inputs& in) { return scale(in[0], 2); }, {a}).requires_grad());
}

TEST(Recompute, HonoursNoGradInside) {
  const Variable a = Variable::leaf(tensor({2})), w = Variable::leaf(tensor({3}));
  const auto fn = [&](const Inputs& in) {
    NoGrad guard;
    return scale(multiply(in[0], w), 2);
  };
  const Variable y = recompute(fn, {scale(a, 1)});
  sum(add(y, a)).backward(1, {w});
  EXPECT_EQ(grad_of(a), (Values{1}));
  EXPECT_EQ(grad_of(w), (Values{0}));
}

}  // namespace
}  // namespace minibert
