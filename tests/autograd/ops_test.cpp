// ops_test.cpp: what OpInfo's generic tests can't say: errors name op and both shapes, dropout's
// keep rate, what losses count, groups left out, poisoned tail rows, seeds of backward.
#include "autograd/ops.h"

#include <cmath>

#include <gtest/gtest.h>

#include "autograd/loss_meter.h"
#include "autograd/tape.h"
#include "tests/data_step.h"
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
  return make_dropout(p, 9, testing::data_step(2), 1, DropoutPurpose::user);
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
        feed_forward_add_norm(x, w, b, leaf({4, 5}), h, Gelu::erf, {h, h, 1e-5f}, {}, {});
      },
      {"feed_forward_add_norm", "down", "[4, 5]", "[4, 3]", "[3, 4]"});
  expect_error(
      [&] {
        linear_add_norm(x, leaf({6, 4}), leaf({6}), x, {h, h, 1e-5f}, {}, {});
      },
      {"linear_add_norm", "weight", "[4]", "[6]"});
  expect_error([&] { layer_norm(x, b, h, 1e-5f); }, {"layer_norm", "weight", "[3]", "[4]"});
  expect_error([&] { layer_norm(x, h, h, 0); }, {"layer_norm", "eps", "0"});
  expect_error(
      [&] {
        add_norm(x, h, leaf({4, 4}), {h, h, 1e-5f}, {}, {});
      },
      {"add_norm", "residual", "[4, 4]", "[5, 4]"});
  const LossMeter meter;
  expect_error([&] { cross_entropy(x, ints({1}), meter.site()); },
               {"cross_entropy", "label", "[1]", "[5]"});
  expect_error([&] { cross_entropy(x, ints({1, 2, 3, 0, 0}), {}); }, {"cross_entropy", "scale"});
  expect_error(
      [&] {
        masked_lm_loss(leaf({1, 6}), leaf({5, 6}), leaf({5}), ints({0}), 6, meter.site());
      },
      {"masked_lm_loss", "classes", "6", "5"});
}

TEST(Ops, MissingPlacesAndBadSequencesAreRefused) {
  const Variable x = leaf({5, 6}), h = leaf({6});
  expect_error([&] { dropout(x, {}, site(0.5f)); }, {"dropout", "position", "undefined"});
  expect_error([&] { dropout(x, places(4), site(0.5f)); }, {"dropout", "[4]", "[5]"});
  expect_error([&] { add_norm(x, h, x, {h, h, 1e-5f}, {}, site(0.5f)); }, {"add_norm", "position"});
  expect_error(
      [&] {
        attention(x, {ints({0, 5}), ints({0})}, 4, {});
      },
      {"attention", "[5, 6]", "4 heads"});
  expect_error([&] { attention(x, {}, 2, {}); }, {"attention", "cu_seqlens"});
  expect_error(
      [&] {
        attention(x, {ints({0, 5}), ints({0, 1})}, 2, site(0.5f));
      },
      {"attention", "sample", "[2]", "[1]"});
  expect_error([&] { embedding({x}, {}); }, {"embedding", "1 tables", "0 index"});
  expect_error([&] { embedding({}, {}); }, {"embedding", "0 tables"});
  expect_error([&] { embedding({leaf({6})}, {ints({0})}); }, {"embedding", "table", "rank 2"});
  expect_error([&] { embedding({x}, {Tensor::zeros({1})}); }, {"embedding", "index", "i32"});
  expect_error(
      [&] {
        embedding({x, leaf({5, 7})}, {ints({0}), ints({0})});
      },
      {"embedding", "[5, 7]", "[5, 6]"});
  const RowGroups groups = group_rows(std::vector<int32_t>{0}, 5, 1);
  const Variable constant(filled({5, 6}));
  expect_error(
      [&] {
        embedding({constant, x}, {ints({0}), ints({0})}, {groups});
      },
      {"embedding", "1 groups", "2"});
  expect_error(
      [&] {
        embedding({constant, x}, {ints({0}), ints({0})}, {groups, {}});
      },
      {"embedding", "groups of index 1"});
  expect_error([&] { embedding({x}, {ints({0})}); }, {"embedding", "groups of index 0"});
  EXPECT_NO_THROW(embedding({x, constant}, {ints({0}), ints({0})}, {groups, {}}));
  const NoGrad guard;
  EXPECT_NO_THROW(embedding({x}, {ints({0})}));
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

TEST(Ops, LossMeterCountsRowsAndHitsUntilReset) {
  // Row losses by hand: uniform logits cost log 3; the second row's label is its largest logit.
  const Tensor logits = Tensor::from<float>(std::vector<float>{0, 0, 0, 0, 5, 0, 3, 0, 0}, {3, 3});
  LossMeter meter(0.5f);
  const auto loss = [&](std::vector<int32_t> labels) {
    return cross_entropy(Variable(logits), ints(std::move(labels)), meter.site()).value().item();
  };
  const double first = std::log(3.0), second = std::log(2 * std::exp(-5.0) + 1),
               third = std::log(2 + std::exp(3.0)), all = first + second + third;
  EXPECT_NEAR(loss({0, 1, 2}), 0.5 * all, 1e-6 * all);
  EXPECT_NEAR(meter.counts().loss_sum, all, 1e-6 * all);
  EXPECT_EQ(meter.counts().rows, 3);
  EXPECT_EQ(meter.counts().correct, 2) << "the first of equal logits counts as the largest";
  meter.set_scale(2);
  EXPECT_NEAR(loss({-1, 1, -1}), 2 * second, 1e-6 * second);
  EXPECT_NEAR(meter.counts().loss_sum, all + second, 1e-6 * all);
  EXPECT_EQ(meter.counts().rows, 4);
  EXPECT_EQ(meter.counts().correct, 3);
  meter.reset();
  EXPECT_EQ(meter.counts().loss_sum, 0);
  EXPECT_EQ(meter.counts().rows, 0);
  EXPECT_EQ(meter.counts().correct, 0);
  EXPECT_NEAR(loss({0, -1, -1}), 2 * first, 1e-6 * first) << "reset() keeps the scale";
}

TEST(Ops, BackwardOfALossCountsNothing) {
  const Variable x = leaf({3, 6}), w = leaf({8, 6}), b = leaf({8});
  const LossMeter meter;
  const Variable loss = masked_lm_loss(x, w, b, ints({0, -1, 2}), 8, meter.site());
  const LossCounts before = meter.counts();
  loss.backward();
  EXPECT_EQ(before.rows, 2);
  EXPECT_EQ(meter.counts().rows, 2);
  EXPECT_EQ(meter.counts().loss_sum, before.loss_sum);
}

TEST(Ops, NoMaskedRowsCostNothingAndHaveZeroGradients) {
  for (const std::vector<int32_t>& labels : {std::vector<int32_t>{}, {-1, -1, -1}}) {
    const auto P = static_cast<int64_t>(labels.size());
    const Variable x = leaf({P, 6}), w = leaf({64, 6}), b = leaf({64});
    const LossMeter meter;
    const Variable loss = masked_lm_loss(x, w, b, ints(labels), 50, meter.site());
    EXPECT_EQ(loss.value().item(), 0);
    EXPECT_EQ(meter.counts().rows, 0);
    EXPECT_EQ(meter.counts().loss_sum, 0);
    loss.backward();
    for (const Variable& v : {x, w, b})
      for (float g : v.grad().span<float>()) EXPECT_EQ(g, 0);
  }
}

// A table in 16 bits: values and gradients in between have its type, the table's gradient is f32.
// Each row occurs once, so that nothing but the logits' gradient is rounded.
TEST(Ops, RowsAndLossesComputeInTheTypeOfTheirInputs) {
  const Tensor exact = filled({9, 5}).to(DType::bf16);
  const Tensor row = ints({2, -1, 0, 3}), label = ints({4, 1, -1, 0});
  const std::vector<int32_t> ids = {7, 0, 8, 3, 5};
  const RowGroups groups = group_rows(ids, 9, 4);
  const auto run = [&](const Variable& table, float scale) {
    const LossMeter meter(scale);
    const Variable rows = gather_rows(embedding({table}, {ints(ids)}, {groups}), row);
    EXPECT_EQ(rows.value().dtype(), table.value().dtype());
    const Variable loss = cross_entropy(rows, label, meter.site());
    EXPECT_EQ(loss.value().dtype(), DType::f32);
    EXPECT_EQ(meter.counts().rows, 3);
    loss.backward();
    return loss.value();
  };
  const Variable wide = Variable::leaf(exact.to(DType::f32));
  const Tensor expected = run(wide, 0.3f);
  for (DType dtype : {DType::bf16, DType::f16}) {
    const Variable table = Variable::leaf(exact.to(DType::f32).to(dtype));
    EXPECT_TRUE(testing::near("loss", run(table, 0.3f), expected, Tolerance::reduction));
    ASSERT_EQ(table.grad().dtype(), DType::f32);
    const Tensor narrow = table.grad().to(dtype);
    EXPECT_TRUE(testing::near("one rounding", narrow.to(DType::f32), table.grad(), 0));
    EXPECT_TRUE(testing::near_in("dtable", narrow, wide.grad(), Tolerance::gradient));
    run(table, 0.3f);  // a second backward adds
    EXPECT_TRUE(testing::near_in("dtable", scale(Variable(table.grad()), 0.5f).value().to(dtype),
                                 wide.grad(), Tolerance::gradient));
  }
}

// Leaves in 16 bits that losses and rows write to without a node in between.
TEST(Ops, GradientsOfLeavesInSixteenBitsAreF32) {
  for (DType dtype : {DType::bf16, DType::f16}) {
    const Variable logits = Variable::leaf(filled({4, 6}).to(dtype)),
                   x = Variable::leaf(filled({5, 6}).to(dtype));
    const LossMeter meter;
    cross_entropy(logits, ints({1, 2, 3, -1}), meter.site()).backward();
    cross_entropy(gather_rows(x, ints({3, 0, -1, 1})), ints({1, 2, -1, 3}), meter.site())
        .backward();
    EXPECT_EQ(logits.grad().dtype(), DType::f32);
    EXPECT_EQ(x.grad().dtype(), DType::f32);
    for (int64_t i : {2, 4})
      for (float g : x.grad().rows(i, 1).span<float>()) EXPECT_EQ(g, 0);
    for (int64_t i : {0, 1, 3}) EXPECT_NE(x.grad().data<float>()[i * 6], 0);
  }
}

TEST(Ops, PaddedClassesGetNoGradient) {
  const Variable x = leaf({3, 6}), w = leaf({64, 6}), b = leaf({64});
  const LossMeter meter;
  masked_lm_loss(x, w, b, ints({0, 1, 2}), 50, meter.site()).backward();
  for (int64_t v = 0; v < 64; ++v) EXPECT_EQ(b.grad().data<float>()[v] != 0, v < 50) << v;
  for (int64_t i = 50 * 6; i < 64 * 6; ++i) EXPECT_EQ(w.grad().data<float>()[i], 0) << i;
}

TEST(Ops, BackwardScalesWithItsSeed) {
  const auto gradient = [](float seed) {
    const Variable x = leaf({3, 6}), w = leaf({8, 6}), b = leaf({8});
    const LossMeter meter(0.5f);
    masked_lm_loss(x, w, b, ints({0, 1, 2}), 8, meter.site()).backward(seed);
    return w.grad();
  };
  const Tensor one = gradient(1), many = gradient(1024);
  for (int64_t i = 0; i < one.numel(); ++i)
    EXPECT_NEAR(many.data<float>()[i], 1024 * one.data<float>()[i], 1024 * 1e-7);
}

TEST(Ops, OneVariableMayBeInputAndResidual) {
  const Variable w = leaf({8, 8}), h = leaf({8});
  const Norm norm{h, h, 1e-5f};
  using End = std::function<Variable(const Variable& x, const Variable& residual)>;
  const End ends[] = {[&](const Variable& x, const Variable& residual) {
                        return add_norm(x, h, residual, norm, places(3), site(0.3f));
                      },
                      [&](const Variable& x, const Variable& residual) {
                        return linear_add_norm(x, w, h, residual, norm, places(3), site(0.3f));
                      }};
  for (const End& end : ends) {
    const Variable both = leaf({3, 8}, 2), x = leaf({3, 8}, 2), residual = leaf({3, 8}, 2);
    const Variable y = end(both, both), apart = end(x, residual);
    EXPECT_TRUE(testing::near("y", y.value(), apart.value(), 0));
    sum(multiply(y, y)).backward();
    sum(multiply(apart, apart)).backward();
    for (int64_t i = 0; i < 24; ++i) {
      const float parts = x.grad().data<float>()[i] + residual.grad().data<float>()[i];
      EXPECT_NEAR(both.grad().data<float>()[i], parts, 1e-6);
    }
  }
}

// What comes out is what the same values give in f32, rounded; the leaf's gradient is f32.
TEST(Ops, AttentionComputesInTheTypeOfItsInput) {
  const Sequences sequences{ints({0, 7, 7, 16, 16}), ints({3, 1, 4, 1})};
  for (DType dtype : {DType::bf16, DType::f16}) {
    const Tensor value = filled({16, 24}).to(dtype);
    const Variable narrow = Variable::leaf(value), exact = Variable::leaf(value.to(DType::f32));
    const Variable y = attention(narrow, sequences, 2, site(0.1f)),
                   expected = attention(exact, sequences, 2, site(0.1f));
    EXPECT_EQ(y.value().dtype(), dtype);
    EXPECT_TRUE(testing::near_in("y", y.value(), expected.value(), Tolerance::reduction));
    const Tensor dy = filled({16, 8}, 5).to(dtype);
    run_tape(y, dy, {}, true);
    run_tape(expected, dy.to(DType::f32), {}, true);
    EXPECT_EQ(narrow.grad().dtype(), DType::f32);
    EXPECT_TRUE(
        testing::near_in("dqkv", narrow.grad().to(dtype), exact.grad(), Tolerance::gradient));
  }
}

// Interior values and gradients are of the inputs' type E, leaves' gradients f32: what comes out is
// what the same values give in f32, rounded to E.
TEST(Ops, ComputeInTheTypeOfTheirInputs) {
  using Inputs = std::vector<Variable>;
  struct TypedOp {
    const char* name;
    std::vector<Shape> rows, vectors;  // of type E, and f32 always
    std::function<Variable(const Inputs&)> run;
  };
  const Shape rows{9, 40}, vector{40};
  const RowPlaces at = places(9);
  const TypedOp ops[] = {
      {"add", {rows, rows}, {}, [](const Inputs& in) { return add(in[0], in[1]); }},
      {"multiply", {rows, rows}, {}, [](const Inputs& in) { return multiply(in[0], in[1]); }},
      {"square", {rows}, {}, [](const Inputs& in) { return multiply(in[0], in[0]); }},
      {"scale", {rows}, {}, [](const Inputs& in) { return scale(in[0], -2.5f); }},
      {"gelu", {rows}, {}, [](const Inputs& in) { return gelu(in[0]); }},
      {"gelu_tanh", {rows}, {}, [](const Inputs& in) { return gelu(in[0], Gelu::tanh); }},
      {"tanh", {rows}, {}, [](const Inputs& in) { return tanh(in[0]); }},
      {"dropout", {rows}, {}, [&](const Inputs& in) { return dropout(in[0], at, site(0.3f)); }},
      {"layer_norm",
       {rows},
       {vector, vector},
       [](const Inputs& in) { return layer_norm(in[0], in[1], in[2], 1e-5f); }},
      {"add_norm", {rows, rows, vector}, {vector, vector}, [&](const Inputs& in) {
         return add_norm(in[0], in[2], in[1], {in[3], in[4], 1e-5f}, at, site(0.3f));
       }}};
  for (DType dtype : {DType::bf16, DType::f16}) {
    for (const TypedOp& op : ops) {
      SCOPED_TRACE(fmt::format("{} {}", op.name, name_of(dtype)));
      Inputs narrow, exact;
      double start = 0.1;
      for (const Shape& shape : op.rows) {
        const Tensor value = filled(shape, start += 1).to(dtype);
        narrow.push_back(Variable::leaf(value));
        exact.push_back(Variable::leaf(value.to(DType::f32)));
      }
      for (const Shape& shape : op.vectors) {
        narrow.push_back(leaf(shape, start += 1));
        exact.push_back(leaf(shape, start));
      }
      const Tensor dy = filled(rows, 5).to(dtype);
      for (int run = 0; run < 2; ++run) {  // the second is added
        const Variable y = op.run(narrow), expected = op.run(exact);
        EXPECT_EQ(y.value().dtype(), dtype);
        // add_norm saves its sum and tanh its result, rounded: what is made from them differs.
        const bool rounds_twice = op.rows.size() == 3 || std::string_view(op.name) == "tanh";
        const double saved = !rounds_twice ? 0 : dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
        EXPECT_TRUE(
            testing::near_in("y", y.value(), expected.value(), Tolerance::reduction + saved));
        run_tape(y, dy, {}, true);
        run_tape(expected, dy.to(DType::f32), {}, true);
        for (size_t i = 0; i < narrow.size(); ++i) {
          EXPECT_EQ(narrow[i].grad().dtype(), DType::f32);
          const Tensor got = i < op.rows.size() && op.rows[i] == rows ? narrow[i].grad().to(dtype)
                                                                      : narrow[i].grad();
          EXPECT_TRUE(testing::near_in(fmt::format("gradient {} of run {}", i, run), got,
                                       exact[i].grad(), Tolerance::gradient + 2 * saved));
        }
      }
    }
  }
}

// An interior gradient has the type of its value: layer_norm's dz and dx meet in bf16 buffers.
TEST(Ops, InteriorGradientsKeepTheTypeOfTheirValues) {
  const Tensor value = filled({9, 40}).to(DType::bf16);
  const Variable x = Variable::leaf(value), exact = Variable::leaf(value.to(DType::f32)),
                 weight = leaf({40}), beta = leaf({40}, 2);
  const Tensor bias = filled({40}, 3).to(DType::bf16);
  const auto run = [&](const Variable& in, const Tensor& b, const Tensor& dy) {
    const Variable h = gelu(in);  // used twice: as x and as the residual
    const Variable y =
        add_norm(scale(h, 2), Variable(b), h, {weight, beta, 1e-5f}, places(9), site(0.2f));
    run_tape(tanh(layer_norm(y, weight, beta, 1e-5f)), dy, {}, true);
    return in.grad();
  };
  const Tensor dy = filled({9, 40}, 5).to(DType::bf16);
  const Tensor got = run(x, bias, dy),
               expected = run(exact, bias.to(DType::f32), dy.to(DType::f32));
  EXPECT_EQ(got.dtype(), DType::f32);
  EXPECT_TRUE(testing::near("dx", got, expected, 8 * 0x1p-8));  // eight roundings on the way
}

TEST(Ops, TypesThatDisagreeAreRefused) {
  const Variable x = leaf({5, 4}), h = leaf({4});
  const Variable narrow(filled({5, 4}).to(DType::bf16)), narrow_h(filled({4}).to(DType::bf16));
  expect_error([&] { add(x, narrow); }, {"add", "b is bf16", "f32"});
  expect_error([&] { multiply(narrow, x); }, {"multiply", "b is f32", "bf16"});
  expect_error([&] { add_bias(narrow, h); }, {"add_bias", "bias is f32", "bf16"});
  expect_error([&] { layer_norm(narrow, narrow_h, h, 1e-5f); }, {"layer_norm", "weight", "f32"});
  expect_error(
      [&] {
        add_norm(narrow, narrow_h, x, {h, h, 1e-5f}, {}, {});
      },
      {"add_norm", "residual is f32", "bf16"});
  expect_error(
      [&] {
        add_norm(narrow, h, narrow, {h, h, 1e-5f}, {}, {});
      },
      {"add_norm", "bias is f32", "bf16"});
  expect_error(
      [&] {
        layer_norm(Variable(ints({1, 2}).reshape({1, 2})), h, h, 1e-5f);
      },
      {"layer_norm", "x is i32", "f32, bf16 or f16"});
}

// Rows after the last sequence: whatever they hold, gradients of the weights keep their bits.
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

// With a gradient of ones and bf16 inputs, dx and dweight are sums of inputs: as in f32, but that y
// is rounded; leaves' gradients are f32.
TEST(Ops, LinearComputesInTheTypeOfItsInputAndWritesGradientsInF32) {
  struct Result {
    Tensor y, dx, dweight, dbias;
  };
  const auto run = [](DType type) {
    const auto input = [&](Shape shape, double start) {
      return Variable::leaf(filled(shape, start).to(DType::bf16).to(type));
    };
    const Variable x = input({37, 19}, 0.1), weight = input({23, 19}, 0.2), bias = input({23}, 0.3);
    const Variable y = linear(x, weight, bias);
    for (int repeats = 0; repeats < 2; ++repeats)  // the second is added to the first
      sum(linear(x, weight, bias)).backward();
    return Result{y.value(), x.grad(), weight.grad(), bias.grad()};
  };
  const Result exact = run(DType::f32);
  for (DType type : {DType::bf16, DType::f16}) {
    const Result got = run(type);
    EXPECT_EQ(got.y.dtype(), type);
    EXPECT_TRUE(testing::near_in("y", got.y, exact.y, Tolerance::reduction));
    EXPECT_TRUE(testing::near("dx", got.dx, exact.dx, Tolerance::gradient));
    EXPECT_TRUE(testing::near("dweight", got.dweight, exact.dweight, Tolerance::gradient));
    EXPECT_TRUE(testing::near("dbias", got.dbias, exact.dbias, Tolerance::gradient));
  }
}

TEST(Ops, FeedForwardInBf16LeavesF32Gradients) {
  const auto input = [](Shape shape) { return Variable::leaf(filled(shape).to(DType::bf16)); };
  const Variable x = input({5, 7}), up = input({9, 7}), up_bias = input({9}), down = input({7, 9}),
                 down_bias = input({7}), weight = leaf({7}), beta = leaf({7}, 2);
  const Variable y = feed_forward_add_norm(x, up, up_bias, down, down_bias, Gelu::erf,
                                           {weight, beta, 1e-5f}, {}, {});
  EXPECT_EQ(y.value().dtype(), DType::bf16);
  sum(multiply(y, y)).backward();
  for (const Variable& leaf : {x, up, up_bias, down, down_bias})
    EXPECT_EQ(leaf.grad().dtype(), DType::f32);
}

}  // namespace
}  // namespace minibert
