// tape_test.cpp: the promises of the tape: first contribution overwrites and later ones add, leaves
// add up over backward calls until reset, hooks run once and when final, saved tensors are freed,
// the order is fixed, long chains don't recurse. Expected values are worked out by hand.
#include <thread>

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

Variable leaf(std::vector<float> values, std::string name = {}) {
  return Variable::leaf(tensor(std::move(values)), {}, std::move(name));
}

std::vector<float> grad_of(const Variable& v) {
  const auto span = v.grad().span<float>();
  return {span.begin(), span.end()};
}

// y = x, saying when it runs backward and with what; its gradient can be told not to be written.
Variable watched(const Variable& x, std::function<void(const Tensor&)> on_backward) {
  return make_result("watched", x.value(), {x},
                     [on_backward](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       on_backward(dy);
                       inputs[0].pass(dy);
                     });
}

using Values = std::vector<float>;

TEST(Tape, GradientOfAProductIsTheOtherFactorTimesSeed) {
  const Variable a = leaf({2, 3}), b = leaf({5, 7});
  sum(multiply(a, b)).backward(10);
  EXPECT_EQ(grad_of(a), (Values{50, 70}));
  EXPECT_EQ(grad_of(b), (Values{20, 30}));
}

TEST(Tape, FirstContributionOverwritesWhatTheBufferHeld) {
  const Tensor buffer = tensor({NAN, 1e30f});
  const Variable a = Variable::leaf(tensor({2, 3}), buffer);
  sum(scale(a, 4)).backward();
  EXPECT_EQ(grad_of(a), (Values{4, 4}));
  EXPECT_EQ(buffer.data<float>()[0], 4) << "the given buffer is not the one written";
}

TEST(Tape, LeavesAddOverBackwardCallsUntilReset) {
  const Variable a = leaf({2, 3});
  sum(scale(a, 4)).backward();
  sum(scale(a, 5)).backward();
  EXPECT_EQ(grad_of(a), (Values{9, 9}));
  a.reset_grad();
  EXPECT_FALSE(a.grad().defined());
  sum(scale(a, 6)).backward();
  EXPECT_EQ(grad_of(a), (Values{6, 6}));
}

TEST(Tape, AVariableUsedOftenGetsTheSumOfAllItsUses) {
  const Variable a = leaf({2, 3});
  const Variable b = scale(a, 2);                               // used four times below
  const Variable c = add(multiply(b, b), add(b, scale(b, 3)));  // b^2 + 4 b
  sum(c).backward();
  EXPECT_EQ(grad_of(a), (Values{2 * (2 * 4 + 4), 2 * (2 * 6 + 4)}));
}

TEST(Tape, TheSameLeafTwiceInOneOpGetsBothContributions) {
  const Variable a = leaf({2, 3});
  sum(add(multiply(a, a), add(a, a))).backward();
  EXPECT_EQ(grad_of(a), (Values{6, 8}));
  sum(multiply(a, a)).backward();
  EXPECT_EQ(grad_of(a), (Values{10, 14}));
}

// add() passes its gradient on without a copy; a buffer so shared must never be added to.
TEST(Tape, SharedGradientBuffersAreNotWritten) {
  const Variable a = leaf({1, 1}), b = leaf({1, 1});
  const Variable x = scale(a, 2), y = scale(b, 3);
  const Variable z = add(x, y);
  sum(add(z, scale(y, 10))).backward();  // y has two uses, x and z one
  EXPECT_EQ(grad_of(a), (Values{2, 2}));
  EXPECT_EQ(grad_of(b), (Values{33, 33}));
}

TEST(Tape, AScalarLeafIsItsOwnGradient) {
  const Variable a = Variable::leaf(Tensor::zeros({}));
  a.backward(3);
  EXPECT_EQ(a.grad().item(), 3);
  a.backward(4);
  EXPECT_EQ(a.grad().item(), 7);
}

TEST(Tape, ConstantsGetNoGradient) {
  const Variable a = leaf({2, 3});
  const Variable constant(tensor({5, 7}));
  const Variable y = multiply(constant, constant);
  EXPECT_FALSE(y.requires_grad());
  sum(multiply(a, y)).backward();
  EXPECT_EQ(grad_of(a), (Values{25, 49}));
}

TEST(Tape, RunsTheYoungestNodeFirst) {
  std::vector<int> order;
  const Variable a = leaf({1});
  const auto mark = [&](const Variable& x, int number) {
    return watched(x, [&order, number](const Tensor&) { order.push_back(number); });
  };
  const Variable x1 = mark(a, 1), x2 = mark(x1, 2), x3 = mark(x1, 3), x4 = mark(x2, 4);
  sum(add(x3, x4)).backward();
  EXPECT_EQ(order, (std::vector<int>{4, 3, 2, 1}));
}

TEST(Tape, HookRunsOnceWhenTheLastContributionIsAdded) {
  const Variable a = leaf({1}, "a"), b = leaf({1}, "b");
  std::vector<std::string> events;
  for (const Variable& v : {a, b}) {
    v.on_final_gradient([&](const Variable& final) {
      events.push_back(final.name() + "=" + std::to_string(static_cast<int>(grad_of(final)[0])));
    });
  }
  const Variable first = watched(a, [&](const Tensor&) { events.push_back("first"); });
  const Variable second =
      watched(multiply(first, b), [&](const Tensor&) { events.push_back("second"); });
  sum(add(second, scale(a, 5))).backward();
  // b is final before `first` runs: its all-reduce overlaps with the rest. a is final at the end.
  EXPECT_EQ(events, (std::vector<std::string>{"second", "b=1", "first", "a=6"}));
}

TEST(Tape, HooksRunInEachBackwardAndSeeTheSumSoFar) {
  const Variable a = leaf({1});
  std::vector<float> seen;
  a.on_final_gradient([&](const Variable& v) { seen.push_back(grad_of(v)[0]); });
  sum(multiply(a, a)).backward();
  sum(scale(a, 3)).backward();
  EXPECT_EQ(seen, (Values{2, 5}));
}

TEST(Tape, TouchedLeavesThatNobodyReachedAreZeroedAndHooked) {
  const Variable a = leaf({1}), b = Variable::leaf(tensor({1, 2}), tensor({NAN, 8}));
  int hooks = 0;
  b.on_final_gradient([&](const Variable&) { ++hooks; });
  sum(a).backward(1, {a, b, b});
  EXPECT_EQ(grad_of(a), (Values{1})) << "touch must not change a leaf that was reached";
  EXPECT_EQ(grad_of(b), (Values{0, 0}));
  EXPECT_EQ(hooks, 1);
}

TEST(Tape, TouchKeepsWhatEarlierBackwardsAdded) {
  const Variable a = leaf({1}), b = leaf({1});
  sum(scale(b, 7)).backward();
  sum(a).backward(1, {a, b});
  EXPECT_EQ(grad_of(b), (Values{7}));
}

TEST(Tape, NoGradRecordsNothingAndIsLiftedAtTheEndOfItsScope) {
  const Variable a = leaf({1});
  {
    NoGrad outer;
    {
      NoGrad inner;
      EXPECT_FALSE(grad_enabled());
    }
    EXPECT_FALSE(grad_enabled());
    EXPECT_FALSE(scale(a, 2).requires_grad());
  }
  EXPECT_TRUE(grad_enabled());
  EXPECT_TRUE(scale(a, 2).requires_grad());
}

TEST(Tape, SavedTensorsAndGradientsAreFreedAsItGoes) {
  constexpr int kLayers = 50;
  constexpr int64_t kSize = 4096, kBytes = kSize * 4;
  const Variable a = Variable::leaf(Tensor::zeros({kSize}));
  sum(scale(a, 1)).backward();  // makes the leaf's gradient
  Allocator& allocator = Allocator::instance();
  const int64_t before = allocator.total().bytes;
  Variable x = a;
  for (int i = 0; i < kLayers; ++i) x = gelu(x);
  const Variable loss = sum(x);
  x = {};
  const int64_t forward = allocator.total().bytes - before;
  EXPECT_GE(forward, (kLayers - 1) * kBytes);
  EXPECT_LE(forward, (kLayers + 1) * kBytes);
  allocator.reset_peak();
  loss.backward();
  EXPECT_LE(allocator.total().peak_bytes - before, forward + 3 * kBytes)
      << "gradients of all layers live at the same time";
  EXPECT_LE(allocator.total().bytes - before, 64) << "backward left saved tensors behind";
}

TEST(Tape, ValuesThatNoBackwardNeedsDieWithTheirVariables) {
  constexpr int64_t kSize = 4096;
  const Variable a = Variable::leaf(Tensor::zeros({kSize}));
  const int64_t before = Allocator::instance().total().bytes;
  Variable x = scale(a, 2);
  for (int i = 0; i < 10; ++i) x = scale(x, 2);
  EXPECT_LE(Allocator::instance().total().bytes - before, kSize * 4);
}

TEST(Tape, GraphsThatNoBackwardRanThroughDie) {
  constexpr int64_t kSize = 4096;
  const Variable a = Variable::leaf(Tensor::zeros({kSize}));
  const int64_t before = Allocator::instance().total().bytes;
  for (int i = 0; i < 3; ++i) {  // each of them, not the first alone
    Variable x = a;
    for (int k = 0; k < 4; ++k) x = gelu(x);
    EXPECT_GE(Allocator::instance().total().bytes - before, 4 * kSize * 4);
    x = {};
    EXPECT_LE(Allocator::instance().total().bytes - before, 64) << "graph " << i;
  }
}

TEST(Tape, ChainOf100000NodesNeitherBackwardNorDestructionRecurse) {
  const Variable a = leaf({1});
  Variable x = a;
  for (int i = 0; i < 100000; ++i) x = scale(x, 1);
  sum(x).backward();
  EXPECT_EQ(grad_of(a), (Values{1}));
  // A chain whose closures hold variables, and that is dropped without backward.
  Variable y = a;
  for (int i = 0; i < 100000; ++i) {
    y = make_result("hold", y.value(), {y},
                    [y](const Tensor& dy, std::vector<GradientTarget>& in) { in[0].pass(dy); });
  }
  y = {};
  SUCCEED();
}

TEST(Tape, SecondBackwardThroughTheSameGraphIsRefused) {
  const Variable a = leaf({1});
  const Variable shared = scale(a, 2);
  const Variable loss = sum(shared);
  loss.backward();
  EXPECT_THROW(loss.backward(), UsageError);
  try {
    sum(multiply(shared, shared)).backward();
    FAIL() << "a graph whose part was consumed ran again";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("scale"), std::string::npos) << error.what();
  }
}

TEST(Tape, RefusesWhatHasNoGradientOrIsNoScalar) {
  const Variable constant(tensor({1}));
  EXPECT_THROW(sum(constant).backward(), UsageError);
  EXPECT_THROW(leaf({1, 2}).backward(), UsageError);
  EXPECT_THROW(Variable().backward(), UsageError);
  EXPECT_THROW(constant.grad(), UsageError);
  EXPECT_THROW(constant.reset_grad(), UsageError);
  EXPECT_THROW(sum(leaf({1})).backward(1, {constant}), UsageError);
  EXPECT_THROW(Variable::leaf(tensor({1, 2}), tensor({1})), UsageError);
  EXPECT_THROW(Variable::leaf(Tensor{}), UsageError);
}

TEST(Tape, AnErrorInBackwardLeavesTheRestUsable) {
  const Variable a = leaf({1});
  const Variable part = scale(a, 3);
  const Variable bad = watched(part, [](const Tensor&) { throw NumericError("planted"); });
  EXPECT_THROW(sum(bad).backward(), NumericError);
  EXPECT_TRUE(grad_enabled());
  sum(add(part, scale(a, 2))).backward();  // the error came before `part` ran
  EXPECT_EQ(grad_of(a), (Values{5}));
}

TEST(Tape, RecordingIsEachThreadsOwn) {
  NoGrad guard;
  bool other = false;
  std::thread([&] { other = grad_enabled(); }).join();
  EXPECT_TRUE(other);
}

}  // namespace
}  // namespace minibert
