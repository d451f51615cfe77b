// layer_norm_test.cpp: layer_norm against the double reference at every instruction set, the
// reference against a formula of its own and central differences, and what must not matter:
// threads, aliases, what lies around the rows.
#include "core/kernels/layer_norm.h"

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "core/kernels/random.h"
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

// Random inputs; outputs between guard elements and off alignment.
struct Case {
  int64_t T, H;
  Parts parts;
  Tensor x, bias, residual, weight, beta, dy, position, row_sample;
  Guarded z, y, mean, rstd, dz, dx, dbias, dweight, dbeta;

  Case(int64_t T, int64_t H, Parts parts)
      : T(T),
        H(H),
        parts(parts),
        x(random_tensor({T, H}, 1)),
        weight(random_tensor({H}, 2)),
        beta(random_tensor({H}, 3)),
        dy(random_tensor({T, H}, 4)),
        z({T, H}, true),
        y({T, H}, true),
        mean({T}, true),
        rstd({T}, true),
        dz({T, H}, true),
        dx({T, H}, true),
        dbias({H}, true),
        dweight({H}, true),
        dbeta({H}, true) {
    if (parts.bias) bias = random_tensor({H}, 5);
    if (parts.residual) residual = random_tensor({T, H}, 6);
    std::vector<int32_t> positions, samples;
    for (int64_t t = 0; t < T; ++t) {
      positions.push_back(static_cast<int32_t>(t * 7 % 512));
      samples.push_back(static_cast<int32_t>(t / 5 + 100000 * (t % 2)));
    }
    position = integers(positions);
    row_sample = integers(samples);
  }

  Dropout dropout() const {
    return make_dropout(parts.p, kSeed, 77, 3, DropoutPurpose::attention_output);
  }
  LayerNormForward forward() const {
    return {x,     bias,  residual, weight,     beta,      *z,    *y,
            *mean, *rstd, position, row_sample, dropout(), 1e-12f};
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
};

// The same call with outputs of its own; what is accumulated into starts equal.
LayerNormForward with_own_outputs(LayerNormForward args) {
  for (Tensor* t : {&args.z, &args.y, &args.mean, &args.rstd})
    if (t->defined()) *t = t->clone();
  return args;
}
LayerNormBackward with_own_outputs(LayerNormBackward args) {
  for (Tensor* t : {&args.dz, &args.dx, &args.dbias, &args.dweight, &args.dbeta})
    if (t->defined()) *t = t->clone();
  return args;
}

void expect_forward_matches(const LayerNormForward& args) {
  const LayerNormForward reference = with_own_outputs(args);
  layer_norm_forward_reference(reference);
  layer_norm_forward(args);
  if (args.z.defined()) {
    EXPECT_TRUE(near("z", args.z, reference.z, Tolerance::elementwise));
  }
  EXPECT_TRUE(near("y", args.y, reference.y, Tolerance::reduction));
  // A mean may be near 0: its rounding is relative to the row's elements.
  const Tensor z = args.z.defined() ? reference.z : args.x;
  double largest = 0;
  for (float value : z.span<float>()) largest = std::max<double>(largest, std::abs(value));
  for (int64_t t = 0; t < args.x.dim(0); ++t)
    EXPECT_NEAR(args.mean.data<float>()[t], reference.mean.data<float>()[t],
                Tolerance::elementwise * largest);
  EXPECT_TRUE(near("rstd", args.rstd, reference.rstd, Tolerance::reduction));
}

void expect_backward_matches(const LayerNormBackward& args) {
  const LayerNormBackward reference = with_own_outputs(args);
  layer_norm_backward_reference(reference);
  layer_norm_backward(args);
  const std::pair<const char*, std::pair<Tensor, Tensor>> outputs[] = {
      {"dz", {args.dz, reference.dz}},
      {"dx", {args.dx, reference.dx}},
      {"dbias", {args.dbias, reference.dbias}},
      {"dweight", {args.dweight, reference.dweight}},
      {"dbeta", {args.dbeta, reference.dbeta}}};
  for (const auto& [name, pair] : outputs) {
    if (pair.first.defined()) {
      EXPECT_TRUE(near(name, pair.first, pair.second, Tolerance::gradient));
    }
  }
}

class LayerNorm : public EachLevel {};

TEST_P(LayerNorm, MatchesReferenceForAllSizes) {
  for (int64_t T : kRowCounts) {
    for (int64_t H : kColumns) {
      // A row of one or two columns normalises to 0 or +-1: its gradient is a difference of equals.
      const bool gradients = H > 2;
      for (float p : {0.0f, 0.1f, 0.9f}) {
        SCOPED_TRACE(fmt::format("T {} H {} p {}", T, H, p));
        const Case c(T, H, {true, true, p});
        expect_forward_matches(c.forward());
        if (gradients) expect_backward_matches(c.backward());
        if (!gradients) layer_norm_backward(c.backward());
        EXPECT_TRUE(c.intact());
      }
    }
  }
}

TEST_P(LayerNorm, OptionalOperandsCountAsZero) {
  for (bool bias : {false, true}) {
    for (bool residual : {false, true}) {
      for (float p : {0.0f, 0.3f}) {
        const Case c(37, 33, {bias, residual, p});
        expect_forward_matches(c.forward());
        expect_backward_matches(c.backward());
        EXPECT_TRUE(c.intact());
      }
    }
  }
}

TEST_P(LayerNorm, PlainRowsNeedNoZ) {
  const Case c(37, 70, {false, false, 0.0f});
  LayerNormForward forward = c.forward();
  forward.z = Tensor();
  forward.position = forward.row_sample = Tensor();
  const Tensor x = c.x.clone();
  expect_forward_matches(forward);
  EXPECT_TRUE(same_bits(x, c.x));
  LayerNormBackward backward = c.backward();
  backward.z = c.x;
  backward.dx = backward.position = backward.row_sample = Tensor();
  expect_backward_matches(backward);
}

TEST_P(LayerNorm, InPlaceGivesTheSameBits) {
  for (int64_t H : {7, 768}) {
    const Case c(37, H, kAll);
    layer_norm_forward(c.forward());
    LayerNormForward in_place = with_own_outputs(c.forward());
    in_place.x = in_place.z = c.x.clone();
    layer_norm_forward(in_place);
    EXPECT_TRUE(same_bits(*c.z, in_place.z));
    EXPECT_TRUE(same_bits(*c.y, in_place.y));
  }
}

TEST_P(LayerNorm, AccumulatesWhereAsked) {
  for (int flags = 0; flags < 16; ++flags) {
    const Case c(37, 65, kAll);
    layer_norm_forward(c.forward());
    LayerNormBackward args = c.backward();
    int64_t index = 10;
    for (const Tensor& t : {args.dz, args.dx, args.dbias, args.dweight, args.dbeta})
      fill_normal(t, static_cast<uint64_t>(index++));
    args.accumulate_dz = flags & 1;
    args.accumulate_dbias = flags & 2;
    args.accumulate_dweight = flags & 4;
    args.accumulate_dbeta = flags & 8;
    expect_backward_matches(args);
    EXPECT_TRUE(c.intact());
  }
}

TEST_P(LayerNorm, SkipsUndefinedGradients) {
  const Case c(37, 65, kAll);
  layer_norm_forward(c.forward());
  layer_norm_backward(c.backward());
  for (int which = 0; which < 3; ++which) {
    LayerNormBackward args = with_own_outputs(c.backward());
    Tensor* skipped[] = {&args.dbias, &args.dweight, &args.dbeta};
    *skipped[which] = Tensor();
    layer_norm_backward(args);
    EXPECT_TRUE(same_bits(args.dx, *c.dx));
    if (which != 0) {
      EXPECT_TRUE(same_bits(args.dbias, *c.dbias));
    }
    if (which != 1) {
      EXPECT_TRUE(same_bits(args.dweight, *c.dweight));
    }
    if (which != 2) {
      EXPECT_TRUE(same_bits(args.dbeta, *c.dbeta));
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
  for (int64_t T : {31, 32, 33, 300, 5000}) {
    const Case c(T, 24, kAll);
    EXPECT_TRUE(threads_do_not_matter(*c.y, [&] { layer_norm_forward(c.forward()); }));
    for (const Tensor& t : {*c.dz, *c.dx, *c.dbias, *c.dweight, *c.dbeta})
      EXPECT_TRUE(threads_do_not_matter(t, [&] { layer_norm_backward(c.backward()); }));
    expect_backward_matches(c.backward());
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
      const Tensor mask = export_hidden_dropout_mask(c.dropout(), c.position, c.row_sample, H);
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
  const Tensor mask = export_hidden_dropout_mask(c.dropout(), c.position, c.row_sample, c.H);
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
  EXPECT_EQ(layer_norm_forward_bytes(all.forward()), 4.0 * (4 * 30 + 30 + 6));
  EXPECT_EQ(layer_norm_backward_bytes(all.backward()), 4.0 * (4 * 30 + 40 + 6));
  LayerNormForward forward = plain.forward();
  forward.z = Tensor();
  EXPECT_EQ(layer_norm_forward_bytes(forward), 4.0 * (2 * 30 + 30 + 6));
  LayerNormBackward backward = plain.backward();
  backward.dx = Tensor();
  backward.accumulate_dz = true;
  EXPECT_EQ(layer_norm_backward_bytes(backward), 4.0 * (4 * 30 + 40 + 6));
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
  EXPECT_EQ(entries.at("layer_norm_forward").bytes, layer_norm_forward_bytes(c.forward()));
  EXPECT_EQ(entries.at("layer_norm_backward").bytes, layer_norm_backward_bytes(c.backward()));
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
  const std::pair<const char*, Tensor LayerNormForward::*> forward[] = {
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
  const std::pair<const char*, Tensor LayerNormBackward::*> backward[] = {
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

TEST(LayerNormErrors, DropoutNeedsItsOperands) {
  const Case c(3, 8, kAll);
  LayerNormForward forward = c.forward();
  forward.row_sample = Tensor();
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  forward.position = integers({1, 2});
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  forward.z = Tensor();
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  forward = c.forward();
  forward.x = Tensor::zeros({3, 0});
  EXPECT_THROW(layer_norm_forward(forward), UsageError);
  LayerNormBackward backward = c.backward();
  backward.dx = Tensor();
  EXPECT_THROW(layer_norm_backward(backward), UsageError);
  backward = c.backward();
  backward.position = Tensor();
  EXPECT_THROW(layer_norm_backward(backward), UsageError);
}

}  // namespace
}  // namespace minibert::testing
