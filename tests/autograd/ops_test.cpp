// ops_test.cpp: what OpInfo's generic tests can't say: errors name op and both shapes, dropout's
// keep rate, statistics of the losses, a bad label, add_norm over its own input, poisoned tail
// rows, seeds of backward.
#include "autograd/ops.h"

#include <cmath>

#include <gtest/gtest.h>

#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::Tolerance;

Tensor filled(Shape shape, double start = 0.1, double step = 0.37) {
  Tensor t = Tensor::empty(shape);
  double value = start;
  for (float& x : t.span<float>()) {
    x = static_cast<float>(std::sin(value));
    value += step;
  }
  return t;
}

Variable leaf(Shape shape, double start = 0.1) {
  return Variable::leaf(filled(shape, start));
}

Tensor ints(std::vector<int32_t> values) {
  const int64_t n = static_cast<int64_t>(values.size());
  return Tensor::from<int32_t>(values, {n});
}

RowPlaces places(int64_t T) {
  std::vector<int32_t> position, sample;
  for (int64_t t = 0; t < T; ++t) {
    position.push_back(static_cast<int32_t>(t));
    sample.push_back(5);
  }
  return {ints(position), ints(sample)};
}

Dropout site(float p) {
  return make_dropout(p, 9, 2, 1, DropoutPurpose::user);
}

// The message of the UsageError that fn throws must hold each part.
template <typename Error = UsageError>
void expect_error(const std::function<void()>& fn, const std::vector<std::string>& parts) {
  try {
    fn();
    FAIL() << "no error; expected one that says: " << parts.front();
  } catch (const Error& error) {
    for (const std::string& part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
          << "'" << part << "' is missing in: " << error.what();
  }
}

TEST(Ops, ShapeErrorsNameOpAndBothShapes) {
  const Variable x = leaf({5, 4}), w = leaf({3, 4}), b = leaf({3}), h = leaf({4});
  expect_error([&] { add(x, w); }, {"add", "[3, 4]", "[5, 4]"});
  expect_error([&] { multiply(x, b); }, {"multiply", "[3]", "[5, 4]"});
  expect_error([&] { add_bias(x, b); }, {"add_bias", "[3]", "[4]", "[5, 4]"});
  expect_error([&] { linear(x, leaf({3, 7}), b); }, {"linear", "[3, 7]", "[3, 4]", "[5, 4]"});
  expect_error([&] { linear(x, w, h); }, {"linear", "bias", "[4]", "[3]", "[3, 4]"});
  expect_error([&] { linear(leaf({4}), w, b); }, {"linear", "x", "[4]", "rank 2"});
  expect_error([&] { linear_gelu(x, w, {}, Gelu::erf); }, {"linear_gelu", "bias", "undefined"});
  expect_error([&] { linear_tanh(x, w, h); }, {"linear_tanh", "[4]", "[3]"});
  expect_error(
      [&] {
        feed_forward(x, w, b, leaf({4, 5}), Gelu::erf);
      },
      {"feed_forward", "down", "[4, 5]", "[4, 3]", "[3, 4]"});
  expect_error([&] { layer_norm(x, b, h, 1e-5f); }, {"layer_norm", "weight", "[3]", "[4]"});
  expect_error([&] { layer_norm(x, h, h, 0); }, {"layer_norm", "eps", "0"});
  expect_error(
      [&] {
        add_norm(x, h, leaf({4, 4}), h, h, 1e-5f, {}, {});
      },
      {"add_norm", "residual", "[4, 4]", "[5, 4]"});
  expect_error([&] { cross_entropy(x, ints({1}), 1); }, {"cross_entropy", "label", "[1]", "[5]"});
}

TEST(Ops, MissingPlacesAndBadSequencesAreRefused) {
  const Variable x = leaf({5, 6}), h = leaf({6});
  expect_error([&] { dropout(x, {}, site(0.5f)); }, {"dropout", "position", "undefined"});
  expect_error([&] { dropout(x, places(4), site(0.5f)); }, {"dropout", "[4]", "[5]"});
  expect_error([&] { add_norm(x, h, x, h, h, 1e-5f, {}, site(0.5f)); }, {"add_norm", "position"});
  expect_error(
      [&] {
        attention(x, {ints({0, 5}), ints({0})}, 4, {});
      },
      {"attention", "[5, 6]", "4 heads"});
  expect_error([&] { attention(x, {}, 2, {}); }, {"attention", "cu_seqlens"});
  expect_error([&] { attention(x, {ints({0, 6}), ints({0})}, 2, {}); }, {"6", "5"});
  expect_error(
      [&] {
        attention(x, {ints({0, 5}), ints({0, 1})}, 2, site(0.5f));
      },
      {"attention", "sample", "[2]", "[1]"});
  expect_error([&] { embedding({x}, {}); }, {"embedding", "1 tables", "0 index"});
  expect_error([&] { embedding({}, {}); }, {"embedding", "0 tables"});
  expect_error(
      [&] {
        embedding({x, leaf({5, 7})}, {ints({0}), ints({0})});
      },
      {"embedding", "[5, 7]", "[5, 6]"});
}

TEST(Ops, BadIndicesAndLabelsAreDataErrors) {
  const Variable x = leaf({5, 6});
  expect_error<DataError>([&] { embedding({x}, {ints({0, 5})}); }, {"5"});
  expect_error<DataError>([&] { embedding({x}, {ints({-1})}); }, {"-1"});
  expect_error<DataError>([&] { gather_rows(x, ints({2, 7})); }, {"7"});
  expect_error<DataError>([&] { cross_entropy(leaf({1, 3}), ints({3}), 1); }, {"3"});
  expect_error<DataError>(
      [&] {
        masked_lm_loss(leaf({1, 6}), x, leaf({5}), ints({4}), 4, 1);
      },
      {"4"});
  expect_error(
      [&] {
        masked_lm_loss(leaf({1, 6}), x, leaf({5}), ints({0}), 6, 1);
      },
      {"masked_lm_loss", "classes", "6", "5"});
}

TEST(Ops, DropoutKeepsTheRightShareAndItsMean) {
  constexpr int64_t T = 64, H = 256;
  Tensor ones = Tensor::empty({T, H});
  std::fill_n(ones.data<float>(), T * H, 1.0f);
  const Tensor y = dropout(Variable(ones), places(T), site(0.25f)).value();
  int64_t kept = 0;
  for (float v : y.span<float>()) {
    EXPECT_TRUE(v == 0 || v == 65536.0f / 49152.0f) << v;
    kept += v != 0;
  }
  EXPECT_NEAR(static_cast<double>(kept) / (T * H), 0.75, 4 * std::sqrt(0.75 * 0.25 / (T * H)));
}

TEST(Ops, InactiveDropoutIsTheVariableItself) {
  const Variable x = leaf({3, 4});
  EXPECT_EQ(dropout(x, {}, {}).state(), x.state());
}

TEST(Ops, LossStatisticsCountRowsAndHits) {
  // Row losses by hand: uniform logits cost log 3; the second row's label is its largest logit.
  const Tensor logits = Tensor::from<float>(std::vector<float>{0, 0, 0, 0, 5, 0, 3, 0, 0}, {3, 3});
  LossStatistics statistics;
  const Variable loss = cross_entropy(Variable(logits), ints({0, 1, 2}), 0.5f, &statistics);
  const double expected =
      std::log(3.0) + std::log(2 * std::exp(-5.0) + 1) + std::log(2 + std::exp(3.0));
  EXPECT_NEAR(statistics.loss_sum, expected, 1e-6 * expected);
  EXPECT_NEAR(loss.value().item(), 0.5 * expected, 1e-6 * expected);
  EXPECT_EQ(statistics.rows, 3);
  EXPECT_EQ(statistics.correct, 2) << "the first of equal logits counts as the largest";
}

TEST(Ops, NoMaskedRowsCostNothingAndHaveZeroGradients) {
  const Variable x = leaf({0, 6}), w = leaf({64, 6}), b = leaf({64});
  LossStatistics statistics{1, 2, 3};
  const Variable loss = masked_lm_loss(x, w, b, ints({}), 50, 1, &statistics);
  EXPECT_EQ(loss.value().item(), 0);
  EXPECT_EQ(statistics.rows, 0);
  EXPECT_EQ(statistics.loss_sum, 0);
  loss.backward();
  for (float g : w.grad().span<float>()) EXPECT_EQ(g, 0);
  for (float g : b.grad().span<float>()) EXPECT_EQ(g, 0);
}

TEST(Ops, PaddedClassesGetNoGradient) {
  const Variable x = leaf({3, 6}), w = leaf({64, 6}), b = leaf({64});
  masked_lm_loss(x, w, b, ints({0, 1, 2}), 50, 1).backward();
  for (int64_t v = 0; v < 64; ++v) EXPECT_EQ(b.grad().data<float>()[v] != 0, v < 50) << v;
  for (int64_t i = 50 * 6; i < 64 * 6; ++i) EXPECT_EQ(w.grad().data<float>()[i], 0) << i;
}

TEST(Ops, BackwardScalesWithItsSeed) {
  const auto gradient = [](float seed) {
    const Variable x = leaf({3, 6}), w = leaf({8, 6}), b = leaf({8});
    masked_lm_loss(x, w, b, ints({0, 1, 2}), 8, 0.5f).backward(seed);
    return w.grad();
  };
  const Tensor one = gradient(1), many = gradient(1024);
  for (int64_t i = 0; i < one.numel(); ++i)
    EXPECT_NEAR(many.data<float>()[i], 1024 * one.data<float>()[i], 1024 * 1e-7);
}

TEST(Ops, AddNormWritesItsSumOverATemporaryThatNobodyElseHolds) {
  const Variable source = leaf({3, 8}), h = leaf({8}), residual = leaf({3, 8}, 2);
  const auto norm = [&](Variable x) {
    return add_norm(std::move(x), h, residual, h, h, 1e-5f, places(3), site(0.1f));
  };
  const Variable held = scale(source, 2);
  const Variable by_name = add_norm(held, h, residual, h, h, 1e-5f, places(3), site(0.1f));
  const Tensor before = held.value().clone();
  const Variable by_copy = norm(held);  // `held` still sees it
  EXPECT_TRUE(testing::near("held", held.value(), before, 0));
  Variable saved_by_tanh = tanh(source);
  const Tensor tanh_value = saved_by_tanh.value().clone();
  const Variable after_tanh = norm(std::move(saved_by_tanh));
  sum(after_tanh).backward();  // tanh's backward reads its result: it must be whole
  Variable temporary = scale(source, 2);
  const float* place = temporary.value().data<float>();
  const float first = *place;
  const Variable in_place = norm(std::move(temporary));
  EXPECT_NE(*place, first) << "the sum was not written over x";
  for (const Variable& y : {by_copy, in_place})
    EXPECT_TRUE(testing::near("y", y.value(), by_name.value(), 0));
  const auto gradient = [&](const Variable& y) {
    source.reset_grad();
    sum(multiply(y, y)).backward();
    return source.grad().clone();
  };
  const Tensor expected = gradient(by_name);
  EXPECT_TRUE(testing::near("dx in place", gradient(in_place), expected, 0));
}

TEST(Ops, TanhSurvivesAnAddNormAfterIt) {
  const Variable x = leaf({3, 8}), h = leaf({8}), residual = leaf({3, 8}, 2);
  const auto gradient = [&](bool temporary) {
    x.reset_grad();
    const Variable y = tanh(x);
    const Variable z = temporary ? add_norm(tanh(x), h, residual, h, h, 1e-5f, {}, {})
                                 : add_norm(y, h, residual, h, h, 1e-5f, {}, {});
    sum(multiply(z, z)).backward();
    return x.grad().clone();
  };
  EXPECT_TRUE(testing::near("dx", gradient(true), gradient(false), 0));
}

// Rows behind the last sequence: whatever they hold, gradients of the weights keep their bits.
TEST(Ops, PoisonedTailRowsOfAttentionDoNotReachWeights) {
  const Variable w = leaf({24, 8}), b = leaf({24});
  const auto gradients = [&](int64_t tail, float poison) {
    w.reset_grad();
    b.reset_grad();
    Tensor x = Tensor::empty({5 + tail, 8});
    std::fill_n(x.data<float>(), x.numel(), poison);
    x.rows(0, 5).copy_from(filled({5, 8}));
    const Variable y =
        qkv_attention(Variable(x), w, b, {ints({0, 2, 5}), ints({3, 4})}, 2, site(0.1f));
    const Variable rows = gather_rows(y, ints({0, 1, 2, 3, 4}));
    sum(multiply(rows, rows)).backward();
    return std::pair(w.grad().clone(), b.grad().clone());
  };
  const auto [w_clean, b_clean] = gradients(3, 0);
  const auto [w_poisoned, b_poisoned] = gradients(3, 1e4f);
  EXPECT_TRUE(testing::near("dw", w_poisoned, w_clean, 0));
  EXPECT_TRUE(testing::near("db", b_poisoned, b_clean, 0));
}

}  // namespace
}  // namespace minibert
