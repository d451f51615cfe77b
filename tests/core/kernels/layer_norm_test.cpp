// layer_norm_test.cpp: layer_norm against the double reference at every instruction set and in each
// compute type, the reference against a formula of its own and central differences, and what must not
// matter: threads, aliases, what lies around the rows, what dropout drops.
#include "core/kernels/layer_norm.h"

#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <vector>

#include "core/kernels/dropout_mask.h"
#include "core/kernels/reference.h"
#include "core/profile.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr uint64_t kSeed = 0xFEDCBA9876543210ull;
const int64_t kColumns[] = {1, 2, 7, 15, 16, 17, 31, 33, 64, 127, 128, 312, 384, 768, 1021, 1024};
const int64_t kRowCounts[] = {0, 1, 37};

// Which of the optional operands a case has.
struct Parts {
  bool bias, residual;
  float p;
};
constexpr Parts kAll{true, true, 0.1f};

// Random inputs; outputs between guard elements and off alignment. Rows and bias are of type `dtype`.
struct Case {
  int64_t T, H;
  Parts parts;
  Tensor x, bias, residual, weight, beta, dy, position, row_sample;
  Guarded z, y, mean, rstd, dz, dx, dbias, dweight, dbeta;

  Case(int64_t T, int64_t H, Parts parts, DType dtype = DType::f32)
      : T(T),
        H(H),
        parts(parts),
        x(random_tensor({T, H}, 1, 1.0f, dtype)),
        weight(random_tensor({H}, 2)),
        beta(random_tensor({H}, 3)),
        dy(random_tensor({T, H}, 4, 1.0f, dtype)),
        z({T, H}, true, dtype),
        y({T, H}, true, dtype),
        mean({T}, true),
        rstd({T}, true),
        dz({T, H}, true, dtype),
        dx({T, H}, true, dtype),
        dbias({H}, true),
        dweight({H}, true),
        dbeta({H}, true) {
    if (parts.bias) bias = random_tensor({H}, 5, 1.0f, dtype);
    if (parts.residual) residual = random_tensor({T, H}, 6, 1.0f, dtype);
    std::vector<int32_t> positions, samples;
    for (int64_t t = 0; t < T; ++t) {
      positions.push_back(static_cast<int32_t>(t * 7 % 512));
      samples.push_back(static_cast<int32_t>(t / 5 + 100000 * (t % 2)));
    }
    position = integers(positions);
    row_sample = integers(samples);
  }

  Dropout dropout() const {
    return make_dropout(parts.p, kSeed, data_step(77), 3, DropoutPurpose::attention_output);
  }
  Tensor mask() const { return export_hidden_dropout_mask(dropout(), position, row_sample, H); }
  LayerNormForward forward() const {
    return {operand(x), operand(bias), operand(residual), weight,     beta,      *z,    *y,
            *mean,      *rstd,         position,          row_sample, dropout(), 1e-12f};
  }
  LayerNormBackward backward() const {
    LayerNormBackward b;
    b.dy = dy, b.z = *z, b.mean = *mean, b.rstd = *rstd, b.weight = weight;
    b.dz = *dz, b.dx = *dx, b.dbias = *dbias, b.dweight = *dweight, b.dbeta = *dbeta;
    b.position = position, b.row_sample = row_sample, b.dropout = dropout();
    return b;
  }
  bool intact() const {
    for (const Guarded* g : {&z, &y, &mean, &rstd, &dz, &dx, &dbias, &dweight, &dbeta})
      if (!g->intact()) return false;
    return true;
  }

 private:
  static Operand operand(const Tensor& t) { return t.defined() ? Operand(t) : Operand(); }
};

// The tensor that an operand shows; whoever made it keeps it alive.
Tensor tensor_of(const Operand& t) {
  const Shape shape(std::span<const int64_t>(t.dims, static_cast<size_t>(t.rank())));
  return Tensor::view(t.pointer, shape, t.dtype(), std::make_shared<int>());
}

// Copies of operands, in their own type or in f32; lives as long as they are used.
class Copies {
 public:
  Operand same(const Operand& t) { return t.defined() ? keep(tensor_of(t).clone()) : t; }
  Operand wide(const Operand& t) { return t.defined() ? keep(tensor_of(t).to(DType::f32)) : t; }

 private:
  Operand keep(const Tensor& t) { return tensors_.emplace_back(t); }
  std::deque<Tensor> tensors_;
};

// The same call with outputs of its own; what is accumulated into starts equal.
LayerNormForward with_own_outputs(LayerNormForward args, Copies& copies) {
  for (Operand* t : {&args.z, &args.y, &args.mean, &args.rstd}) *t = copies.same(*t);
  return args;
}
LayerNormBackward with_own_outputs(LayerNormBackward args, Copies& copies) {
  for (Operand* t : {&args.dz, &args.dx, &args.dbias, &args.dweight, &args.dbeta})
    *t = copies.same(*t);
  return args;
}

// The same call on the same values in f32: its reference rounds nothing to a narrow type.
LayerNormForward widened(LayerNormForward args, Copies& copies) {
  for (Operand* t : {&args.x, &args.bias, &args.residual, &args.z, &args.y, &args.mean, &args.rstd})
    *t = copies.wide(*t);
  return args;
}
LayerNormBackward widened(LayerNormBackward args, Copies& copies) {
  for (Operand* t :
       {&args.dy, &args.z, &args.dz, &args.dx, &args.dbias, &args.dweight, &args.dbeta})
    *t = copies.wide(*t);
  return args;
}

::testing::AssertionResult near_operand(const char* name, const Operand& got,
                                        const Operand& expected, double tolerance) {
  return near_in(name, tensor_of(got), tensor_of(expected), tolerance);
}

void expect_forward_matches(const LayerNormForward& args) {
  Copies copies;
  LayerNormForward exact = widened(args, copies);
  layer_norm_forward_reference(exact);
  layer_norm_forward(args);
  if (args.z.defined()) {
    EXPECT_TRUE(near_operand("z", args.z, exact.z, Tolerance::elementwise));
  }
  if (args.z.defined() && args.x.dtype() != DType::f32) {  // rows are normalised as they are stored
    exact.x = copies.wide(args.z);
    exact.bias = exact.residual = exact.z = {};
    exact.dropout = {};
    layer_norm_forward_reference(exact);
  }
  EXPECT_TRUE(near_operand("y", args.y, exact.y, Tolerance::reduction));
  // A mean may be near 0: its rounding is relative to the row's elements.
  const Tensor z = tensor_of(exact.z.defined() ? exact.z : exact.x);
  double largest = 0;
  for (float value : z.span<float>()) largest = std::max<double>(largest, std::abs(value));
  for (int64_t t = 0; t < args.x.dim(0); ++t)
    EXPECT_NEAR(args.mean.data<float>()[t], exact.mean.data<float>()[t],
                Tolerance::elementwise * largest);
  EXPECT_TRUE(near_operand("rstd", args.rstd, exact.rstd, Tolerance::reduction));
}

void expect_backward_matches(const LayerNormBackward& args) {
  Copies copies;
  const LayerNormBackward exact = widened(args, copies);
  layer_norm_backward_reference(exact);
  layer_norm_backward(args);
  const std::pair<const char*, std::pair<Operand, Operand>> outputs[] = {
      {"dz", {args.dz, exact.dz}},
      {"dx", {args.dx, exact.dx}},
      {"dbias", {args.dbias, exact.dbias}},
      {"dweight", {args.dweight, exact.dweight}},
      {"dbeta", {args.dbeta, exact.dbeta}}};
  for (const auto& [name, pair] : outputs) {
    if (pair.first.defined()) {
      EXPECT_TRUE(near_operand(name, pair.first, pair.second, Tolerance::gradient));
    }
  }
}

void fill_zero_row(const Tensor& t, int64_t row) {
  for (int64_t h = 0; h < t.dim(1); ++h) put(t, row * t.dim(1) + h, 0);
}

class LayerNorm : public EachLevel {};

TEST_P(LayerNorm, MatchesReferenceForAllSizes) {
  for (DType dtype : kComputeTypes) {
    for (int64_t T : kRowCounts) {
      for (int64_t H : kColumns) {
        // A row of one or two columns normalises to 0 or +-1: its gradient is a difference of equals.
        const bool gradients = H > 2;
        for (float p : {0.0f, 0.1f, 0.9f}) {
          SCOPED_TRACE(fmt::format("{} T {} H {} p {}", name_of(dtype), T, H, p));
          const Case c(T, H, {true, true, p}, dtype);
          expect_forward_matches(c.forward());
          if (gradients) expect_backward_matches(c.backward());
          if (!gradients) layer_norm_backward(c.backward());
          EXPECT_TRUE(c.intact());
        }
      }
    }
  }
}

TEST_P(LayerNorm, OptionalOperandsCountAsZero) {
  for (DType dtype : kComputeTypes) {
    for (bool bias : {false, true}) {
      for (bool residual : {false, true}) {
        for (float p : {0.0f, 0.3f}) {
          const Case c(37, 33, {bias, residual, p}, dtype);
          expect_forward_matches(c.forward());
          expect_backward_matches(c.backward());
          EXPECT_TRUE(c.intact());
        }
      }
    }
  }
}

TEST_P(LayerNorm, PlainRowsNeedNoZ) {
  for (DType dtype : kComputeTypes) {
    const Case c(37, 70, {false, false, 0.0f}, dtype);
    LayerNormForward forward = c.forward();
    forward.z = {};
    forward.position = forward.row_sample = {};
    const Tensor x = c.x.clone();
    expect_forward_matches(forward);
    EXPECT_TRUE(same_bits(x, c.x));
    LayerNormBackward backward = c.backward();
    backward.z = c.x;
    backward.dx = backward.position = backward.row_sample = {};
    expect_backward_matches(backward);
  }
}

TEST_P(LayerNorm, InPlaceGivesTheSameBits) {
  for (DType dtype : kComputeTypes) {
    for (int64_t H : {7, 768}) {
      const Case c(37, H, kAll, dtype);
      layer_norm_forward(c.forward());
      Copies copies;
      LayerNormForward in_place = with_own_outputs(c.forward(), copies);
      in_place.x = in_place.z = copies.same(c.x);
      layer_norm_forward(in_place);
      EXPECT_TRUE(same_bits(*c.z, tensor_of(in_place.z)));
      EXPECT_TRUE(same_bits(*c.y, tensor_of(in_place.y)));
    }
  }
}

TEST_P(LayerNorm, AccumulatesWhereAsked) {
  for (DType dtype : kComputeTypes) {
    for (int flags = 0; flags < 16; ++flags) {
      SCOPED_TRACE(fmt::format("{} flags {}", name_of(dtype), flags));
      const Case c(37, 65, kAll, dtype);
      layer_norm_forward(c.forward());
      LayerNormBackward args = c.backward();
      uint64_t index = 10;
      for (const Guarded* t : {&c.dz, &c.dx, &c.dbias, &c.dweight, &c.dbeta})
        (*t)->copy_from(random_tensor((*t)->shape(), index++, 1.0f, (*t)->dtype()));
      args.accumulate_dz = flags & 1;
      args.accumulate_dbias = flags & 2;
      args.accumulate_dweight = flags & 4;
      args.accumulate_dbeta = flags & 8;
      expect_backward_matches(args);
      EXPECT_TRUE(c.intact());
    }
  }
}

TEST_P(LayerNorm, SkipsUndefinedGradients) {
  const Case c(37, 65, kAll);
  layer_norm_forward(c.forward());
  layer_norm_backward(c.backward());
  for (int which = 0; which < 3; ++which) {
    Copies copies;
    LayerNormBackward args = with_own_outputs(c.backward(), copies);
    Operand* skipped[] = {&args.dbias, &args.dweight, &args.dbeta};
    *skipped[which] = {};
    layer_norm_backward(args);
    EXPECT_TRUE(same_bits(tensor_of(args.dx), *c.dx));
    if (which != 0) {
      EXPECT_TRUE(same_bits(tensor_of(args.dbias), *c.dbias));
    }
    if (which != 1) {
      EXPECT_TRUE(same_bits(tensor_of(args.dweight), *c.dweight));
    }
    if (which != 2) {
      EXPECT_TRUE(same_bits(tensor_of(args.dbeta), *c.dbeta));
    }
  }
}

TEST_P(LayerNorm, NoRowsGiveZeroParameterGradients) {
  const Case c(0, 33, kAll);
  layer_norm_forward(c.forward());
  layer_norm_backward(c.backward());
  for (const Tensor& t : {*c.dbias, *c.dweight, *c.dbeta})
    for (float x : t.span<float>()) EXPECT_EQ(x, 0.0f);
  LayerNormBackward args = c.backward();
  args.accumulate_dbias = true;
  c.dbias->data<float>()[3] = 5;
  layer_norm_backward(args);
  EXPECT_EQ(c.dbias->data<float>()[3], 5.0f);
}

// T spans several blocks of rows; 5000 rows make blocks of more than 32.
TEST_P(LayerNorm, ThreadsDoNotMatter) {
  for (DType dtype : kComputeTypes) {
    for (int64_t T : {31, 32, 33, 300, 5000}) {
      const Case c(T, 24, kAll, dtype);
      EXPECT_TRUE(threads_do_not_matter(*c.y, [&] { layer_norm_forward(c.forward()); }));
      for (const Tensor& t : {*c.dz, *c.dx, *c.dbias, *c.dweight, *c.dbeta})
        EXPECT_TRUE(threads_do_not_matter(t, [&] { layer_norm_backward(c.backward()); }));
      expect_backward_matches(c.backward());
    }
  }
}

// Mean 1e4, deviation 1e-2: f32 has steps of 1e-3 there, so a mean that is rounded to f32, or
// E[z^2] - E[z]^2, would spoil y.
TEST_P(LayerNorm, LargeMeanAndSmallDeviationKeepTheirFigures) {
  for (int64_t H : {64, 768, 1021}) {
    const Case c(37, H, {false, false, 0.0f});
    for (float& x : c.x.span<float>()) x = 1e4f + 1e-2f * x;
    expect_forward_matches(c.forward());
    expect_backward_matches(c.backward());
  }
}

TEST_P(LayerNorm, ConstantRowsGiveBeta) {
  const Case c(3, 48, {false, false, 0.0f});
  for (float& x : c.x.span<float>()) x = 0.75f;
  layer_norm_forward(c.forward());
  for (int64_t i = 0; i < 3 * 48; ++i)
    EXPECT_EQ(c.y->data<float>()[i], c.beta.data<float>()[i % 48]);
  for (float rstd : c.rstd->span<float>()) EXPECT_NEAR(rstd, 1e6, 1);
}

// eps is added to the variance: with eps = 3 and a variance of 1, rstd is 1 / 2.
TEST_P(LayerNorm, EpsIsInsideTheRoot) {
  const Case c(1, 48, {false, false, 0.0f});
  for (int64_t h = 0; h < 48; ++h) c.x.data<float>()[h] = h % 2 ? 6.0f : 4.0f;
  LayerNormForward args = c.forward();
  args.eps = 3;
  layer_norm_forward(args);
  EXPECT_EQ(c.mean->data<float>()[0], 5.0f);
  EXPECT_EQ(c.rstd->data<float>()[0], 0.5f);
}

// With x = 1 and neither bias nor residual, z is the mask; with the forward's dropout, dx is dz
// where it is kept.
TEST_P(LayerNorm, MaskIsTheExportedOne) {
  for (int64_t H : {5, 64, 101}) {
    for (float p : {0.1f, 0.5f, 65535.0f / 65536}) {
      const Case c(64, H, {false, false, p});
      for (float& x : c.x.span<float>()) x = 1;
      layer_norm_forward(c.forward());
      fill_normal(*c.z, 9);  // any rows with a gradient will do
      layer_norm_backward(c.backward());
      const Tensor mask = c.mask();
      layer_norm_forward(c.forward());
      for (int64_t i = 0; i < 64 * H; ++i) {
        const float factor = mask.data<uint8_t>()[i] ? c.dropout().scale : 0.0f;
        ASSERT_EQ(c.z->data<float>()[i], factor);
        ASSERT_FLOAT_EQ(c.dx->data<float>()[i], c.dz->data<float>()[i] * factor);
      }
    }
  }
}

// A row's result does not depend on its place among the rows, nor on its neighbours.
TEST_P(LayerNorm, PackingDoesNotMatter) {
  const Case alone(5, 96, kAll), packed(60, 96, kAll);
  const int64_t at = 41;
  packed.x.rows(at, 5).copy_from(alone.x);
  packed.residual.rows(at, 5).copy_from(alone.residual);
  packed.dy.rows(at, 5).copy_from(alone.dy);
  packed.position.rows(at, 5).copy_from(alone.position);
  packed.row_sample.rows(at, 5).copy_from(alone.row_sample);
  for (const Case* c : {&alone, &packed}) {
    layer_norm_forward(c->forward());
    layer_norm_backward(c->backward());
  }
  EXPECT_TRUE(same_bits(*alone.z, packed.z->rows(at, 5)));
  EXPECT_TRUE(same_bits(*alone.y, packed.y->rows(at, 5)));
  EXPECT_TRUE(same_bits(*alone.dz, packed.dz->rows(at, 5)));
  EXPECT_TRUE(same_bits(*alone.dx, packed.dx->rows(at, 5)));
}

// x is infinite or NaN where it is dropped: the rows are those of a finite x, to the bit.
TEST_P(LayerNorm, WhatIsDroppedDoesNotReachTheRow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (DType dtype : kComputeTypes) {
    for (float poison : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      const Case c(8, 50, {true, true, 0.3f}, dtype);
      const Tensor mask = c.mask();
      layer_norm_forward(c.forward());
      const Tensor z = (*c.z).clone(), y = (*c.y).clone();
      int64_t planted = 0;
      for (int64_t i = 0; i < 400; ++i)
        if (!mask.data<uint8_t>()[i]) put(c.x, i, poison), ++planted;
      EXPECT_GT(planted, 50);
      layer_norm_forward(c.forward());
      EXPECT_TRUE(same_bits(*c.z, z));
      EXPECT_TRUE(same_bits(*c.y, y));
      expect_forward_matches(c.forward());
    }
  }
}

// An infinite dy spoils dz of its row, but neither dx nor dbias where the row's element is dropped.
TEST_P(LayerNorm, AnInfiniteGradientIsDroppedWithItsElement) {
  for (DType dtype : kComputeTypes) {
    const Case c(8, 50, {true, true, 0.3f}, dtype), clean(8, 50, {true, true, 0.3f}, dtype);
    const Tensor mask = c.mask();
    put(c.dy, 2 * 50 + 7, std::numeric_limits<float>::infinity());
    fill_zero_row(clean.dy, 2);
    for (const Case* each : {&c, &clean}) {
      layer_norm_forward(each->forward());
      layer_norm_backward(each->backward());
    }
    const auto expect_dropped = [&](const Operand& dx, const Operand& dbias) {
      for (int64_t h = 0; h < 50; ++h) {
        const bool keep = mask.data<uint8_t>()[2 * 50 + h] != 0;
        EXPECT_FALSE(std::isfinite(get(*c.dz, 2 * 50 + h)));
        EXPECT_EQ(std::isfinite(get(dx, 2 * 50 + h)), !keep);
        EXPECT_TRUE(keep || get(dx, 2 * 50 + h) == 0);
        EXPECT_EQ(std::isfinite(get(dbias, h)), !keep);
        if (!keep) {
          EXPECT_NEAR(get(dbias, h), get(*clean.dbias, h), Tolerance::gradient);
        }
      }
    };
    expect_dropped(*c.dx, *c.dbias);
    Copies copies;
    const LayerNormBackward reference = with_own_outputs(c.backward(), copies);
    layer_norm_backward_reference(reference);
    expect_dropped(reference.dx, reference.dbias);
  }
}

TEST_P(LayerNorm, NaNStaysInItsRow) {
  const Case c(4, 50, kAll);
  c.residual.data<float>()[2 * 50 + 49] = std::numeric_limits<float>::quiet_NaN();
  layer_norm_forward(c.forward());
  for (int64_t i = 0; i < 200; ++i) EXPECT_EQ(std::isnan(c.y->data<float>()[i]), i / 50 == 2);
  EXPECT_TRUE(std::isnan(c.rstd->data<float>()[2]));
}

INSTANTIATE_TEST_SUITE_P(Levels, LayerNorm, ::testing::ValuesIn(simd_levels()), level_name);

// ---- The reference itself ----------------------------------------------------------------------

// sum of dy * LayerNorm(residual + mask (x + bias)), straight from the formula of layer_norm.h, in
// double. inputs: x, bias, residual, weight, beta, one after the other.
double weighted_layer_norm(const std::vector<double>& inputs, const Case& c, const Tensor& mask,
                           std::vector<float>* y = nullptr) {
  const auto T = static_cast<size_t>(c.T), H = static_cast<size_t>(c.H);
  const double *x = inputs.data(), *bias = x + T * H, *residual = bias + H,
               *weight = residual + T * H, *beta = weight + H;
  double loss = 0;
  for (size_t t = 0; t < T; ++t) {
    std::vector<double> z(H);
    double mean = 0, variance = 0;
    for (size_t h = 0; h < H; ++h) {
      const size_t at = t * H + h;
      const double keep =
          mask.data<uint8_t>()[at] ? 65536.0 / (65536.0 - c.dropout().threshold) : 0;
      z[h] = residual[at] + keep * (x[at] + bias[h]);
      mean += z[h] / c.H;
    }
    for (double value : z) variance += (value - mean) * (value - mean) / c.H;
    for (size_t h = 0; h < H; ++h) {
      const double value = (z[h] - mean) / std::sqrt(variance + 1e-12) * weight[h] + beta[h];
      loss += c.dy.data<float>()[t * H + h] * value;
      if (y) y->push_back(static_cast<float>(value));
    }
  }
  return loss;
}

TEST(LayerNormReference, EqualsTheFormulaAndItsCentralDifferences) {
  const Case c(4, 11, {true, true, 0.3f});
  const Tensor mask = c.mask();
  std::vector<double> inputs;
  for (const Tensor& t : {c.x, c.bias, c.residual, c.weight, c.beta})
    inputs.insert(inputs.end(), t.span<float>().begin(), t.span<float>().end());
  std::vector<float> y, gradient;
  weighted_layer_norm(inputs, c, mask, &y);
  layer_norm_forward_reference(c.forward());
  EXPECT_TRUE(near("y", c.y->span<float>(), y, Tolerance::elementwise));

  for (double& x : inputs) {
    const double saved = x, step = 1e-5;
    x = saved + step;
    const double above = weighted_layer_norm(inputs, c, mask);
    x = saved - step;
    gradient.push_back(
        static_cast<float>((above - weighted_layer_norm(inputs, c, mask)) / (2 * step)));
    x = saved;
  }
  layer_norm_backward_reference(c.backward());
  size_t at = 0;
  for (const Guarded* got : {&c.dx, &c.dbias, &c.dz, &c.dweight, &c.dbeta}) {
    const auto n = static_cast<size_t>((*got)->numel());
    const std::vector<float> expected(gradient.begin() + at, gradient.begin() + at + n);
    EXPECT_TRUE(near(fmt::format("gradient at {}", at), (*got)->span<float>(), expected,
                     Tolerance::reduction));
    at += n;
  }
}

TEST(LayerNormCost, CountsWhatIsReadAndWritten) {
  const Case all(3, 10, kAll), plain(3, 10, {false, false, 0.0f});
  // x, residual, z, y; bias, weight, beta; mean, rstd, position, row_sample
  EXPECT_EQ(layer_norm_forward_cost(all.forward()).bytes, 4.0 * (4 * 30 + 30 + 12));
  // dy, z, dz, dx; weight, dbias, dweight, dbeta; and the same four of rows
  EXPECT_EQ(layer_norm_backward_cost(all.backward()).bytes, 4.0 * (4 * 30 + 40 + 12));
  LayerNormForward forward = plain.forward();
  forward.z = {};
  EXPECT_EQ(layer_norm_forward_cost(forward).bytes, 4.0 * (2 * 30 + 20 + 6));
  LayerNormBackward backward = plain.backward();
  backward.dx = backward.dbias = {};
  backward.accumulate_dz = true;
  EXPECT_EQ(layer_norm_backward_cost(backward).bytes, 4.0 * (4 * 30 + 30 + 6));
  const Case half(3, 10, kAll, DType::bf16);
  EXPECT_EQ(layer_norm_forward_cost(half.forward()).bytes, 2.0 * (4 * 30 + 10) + 4.0 * (20 + 12));
}

TEST(LayerNormCost, IsReportedToTheProfile) {
  const Case c(3, 10, kAll);
  set_profiling(true);
  layer_norm_forward(c.forward());
  layer_norm_backward(c.backward());
  set_profiling(false);
  const auto entries = profile_entries();
  EXPECT_EQ(entries.at("layer_norm_forward").flops, 10.0 * 30);
  EXPECT_EQ(entries.at("layer_norm_backward").flops, 20.0 * 30);
  EXPECT_EQ(entries.at("layer_norm_forward").bytes, layer_norm_forward_cost(c.forward()).bytes);
  EXPECT_EQ(entries.at("layer_norm_backward").bytes, layer_norm_backward_cost(c.backward()).bytes);
}

// ---- Errors ------------------------------------------------------------------------------------

TEST(LayerNormErrors, NameBothShapes) {
  const Case c(3, 8, kAll);
  const Tensor wrong = Tensor::zeros({3, 9});
  const auto refused = [&](const std::function<void()>& call, const char* name,
                           const char* expected) {
    try {
      call();
      ADD_FAILURE() << "a wrong " << name << " was taken";
    } catch (const UsageError& error) {
      for (const char* part : {name, "[3, 9]", expected})
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  const std::pair<const char*, Operand LayerNormForward::*> forward[] = {
      {"bias", &LayerNormForward::bias},     {"residual", &LayerNormForward::residual},
      {"weight", &LayerNormForward::weight}, {"beta", &LayerNormForward::beta},
      {"z", &LayerNormForward::z},           {"y", &LayerNormForward::y},
      {"mean", &LayerNormForward::mean},     {"rstd", &LayerNormForward::rstd}};
  for (const auto& [name, member] : forward) {
    LayerNormForward args = c.forward();
    args.*member = wrong;
    refused([&] { layer_norm_forward(args); }, name, "for x [3, 8]");
    refused([&] { layer_norm_forward_reference(args); }, name, "for x [3, 8]");
  }
  const std::pair<const char*, Operand LayerNormBackward::*> backward[] = {
      {"z", &LayerNormBackward::z},         {"mean", &LayerNormBackward::mean},
      {"rstd", &LayerNormBackward::rstd},   {"weight", &LayerNormBackward::weight},
      {"dz", &LayerNormBackward::dz},       {"dx", &LayerNormBackward::dx},
      {"dbias", &LayerNormBackward::dbias}, {"dweight", &LayerNormBackward::dweight},
      {"dbeta", &LayerNormBackward::dbeta}};
  for (const auto& [name, member] : backward) {
    LayerNormBackward args = c.backward();
    args.*member = wrong;
    refused([&] { layer_norm_backward(args); }, name, "for dy [3, 8]");
    refused([&] { layer_norm_backward_reference(args); }, name, "for dy [3, 8]");
  }
}

// Each of what is added would be lost if there were no z.
TEST(LayerNormErrors, WhateverIsAddedNeedsZ) {
  const Case c(3, 8, kAll);
  for (int added = 0; added < 4; ++added) {
    LayerNormForward args = c.forward();
    args.z = {};
    if (added != 1) args.bias = {};
    if (added != 2) args.residual = {};
    if (added != 3) args.dropout = {};
    if (added == 0) {
      EXPECT_NO_THROW(layer_norm_forward(args));
    } else {
      EXPECT_THROW(layer_norm_forward(args), UsageError) << added;
    }
  }
}

TEST(LayerNormErrors, DropoutNeedsItsOperands) {
  const Case c(3, 8, kAll);
  LayerNormForward forward = c.forward();
  forward.row_sample = {};
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  const Tensor two = integers({1, 2});
  forward.position = two;
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  forward.z = {};
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  const Tensor no_columns = Tensor::zeros({3, 0});
  forward.x = no_columns;
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  LayerNormBackward backward = c.backward();
  backward.dx = {};
  EXPECT_THROW(layer_norm_backward(backward), UsageError);
  backward = c.backward();
  backward.position = {};
  EXPECT_THROW(layer_norm_backward(backward), UsageError);
}

TEST(LayerNormErrors, RowsHaveOneTypeAndVectorsAreF32) {
  const Case c(3, 8, kAll, DType::bf16);
  const Tensor f32 = Tensor::zeros({3, 8}), half = Tensor::zeros({8}, DType::bf16);
  LayerNormForward forward = c.forward();
  forward.residual = f32;
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  forward.weight = half;
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  forward.bias = c.weight;
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  LayerNormBackward backward = c.backward();
  backward.dz = f32;
  EXPECT_THROW(layer_norm_backward(backward), UsageError);
  backward = c.backward();
  backward.dbias = half;
  EXPECT_THROW(layer_norm_backward(backward), UsageError);
}

}  // namespace
}  // namespace minibert::testing
