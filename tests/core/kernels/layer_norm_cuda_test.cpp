// layer_norm_cuda_test.cpp: layer_norm on device cuda against the double reference: each rung, each
// type, rows of every length from a part of a pack to beyond what registers hold, aligned and not,
// with and without what is optional; and what must not matter: schedules, aliases, neighbours, what
// dropout drops. The reference itself is tested in layer_norm_test.cpp.
#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels/dropout_mask.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/reference.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr uint64_t kSeed = 0xFEDCBA9876543210ull;

class LayerNormCuda : public CudaTest {};

// Which of the optional operands a case has.
struct Parts {
  bool bias, residual;
  float p;
};
constexpr Parts kAll{true, true, 0.1f};
constexpr Parts kPlain{false, false, 0.0f};

Operand operand(const Tensor& t) {
  return t.defined() ? Operand(t) : Operand();
}
void fill_with(const GuardedCuda& t, float value) {
  const Tensor host = Tensor::empty(t->shape());
  for (float& x : host.span<float>()) x = value;
  t->copy_from(on_cuda(host));
}
// For the reference: the same values in f32.
Tensor wide(const Tensor& t) {
  return t.defined() ? t.to(DType::f32) : t;
}

// What a call reads: on the host, and copies on the device, which are aligned or not.
struct Inputs {
  Tensor x, bias, residual, weight, beta, dy, position, row_sample;
};
Inputs make_inputs(int64_t T, int64_t H, const Parts& parts, DType dtype) {
  Inputs in;
  in.x = random_tensor({T, H}, 1, 1.0f, dtype);
  in.weight = random_tensor({H}, 2);
  in.beta = random_tensor({H}, 3);
  in.dy = random_tensor({T, H}, 4, 1.0f, dtype);
  if (parts.bias) in.bias = random_tensor({H}, 5, 1.0f, dtype);
  if (parts.residual) in.residual = random_tensor({T, H}, 6, 1.0f, dtype);
  std::vector<int32_t> positions, samples;
  for (int64_t t = 0; t < T; ++t) {
    positions.push_back(static_cast<int32_t>(t * 7 % 512));
    samples.push_back(static_cast<int32_t>(t / 5 + 100000 * (t % 2)));
  }
  in.position = integers(positions);
  in.row_sample = integers(samples);
  return in;
}

// One problem, its operands on the device, and what they are expected to be.
struct Case {
  int64_t T, H;
  Parts parts;
  DType dtype;
  bool misaligned;
  Inputs host, device;
  GuardedCuda x, dy, z, y, mean, rstd, dz, dx, dbias, dweight, dbeta;
  float eps = 1e-12f;

  Case(int64_t T, int64_t H, Parts parts, DType dtype = DType::f32, bool misaligned = false)
      : T(T),
        H(H),
        parts(parts),
        dtype(dtype),
        misaligned(misaligned),
        host(make_inputs(T, H, parts, dtype)),
        x({T, H}, dtype, misaligned),
        dy({T, H}, dtype, misaligned),
        z({T, H}, dtype, misaligned),
        y({T, H}, dtype, misaligned),
        mean({T}, DType::f32, misaligned),
        rstd({T}, DType::f32, misaligned),
        dz({T, H}, dtype, misaligned),
        dx({T, H}, dtype, misaligned),
        dbias({H}, DType::f32, misaligned),
        dweight({H}, DType::f32, misaligned),
        dbeta({H}, DType::f32, misaligned) {
    send();
  }
  // Copies the host's inputs to the device.
  void send() {
    x->copy_from(on_cuda(host.x));
    dy->copy_from(on_cuda(host.dy));
    device = {*x,
              on_cuda(host.bias),
              on_cuda(host.residual),
              on_cuda(host.weight),
              on_cuda(host.beta),
              *dy,
              on_cuda(host.position),
              on_cuda(host.row_sample)};
  }
  Dropout dropout(const uint32_t* step) const {
    return make_dropout(parts.p, kSeed, step, 3, DropoutPurpose::attention_output);
  }
  Dropout host_dropout() const { return dropout(data_step(77)); }
  Dropout device_dropout() const {
    static const uint32_t* step = cuda_data_step(77);
    return dropout(step);
  }
  Tensor mask() const {
    return export_hidden_dropout_mask(host_dropout(), host.position, host.row_sample, H);
  }

  LayerNormForward forward() const {
    return {operand(device.x),
            operand(device.bias),
            operand(device.residual),
            device.weight,
            device.beta,
            *z,
            *y,
            *mean,
            *rstd,
            device.position,
            device.row_sample,
            device_dropout(),
            eps};
  }
  LayerNormBackward backward() const {
    LayerNormBackward b;
    b.dy = device.dy, b.z = *z, b.mean = *mean, b.rstd = *rstd, b.weight = device.weight;
    b.dz = *dz, b.dx = *dx, b.dbias = *dbias, b.dweight = *dweight, b.dbeta = *dbeta;
    b.position = device.position, b.row_sample = device.row_sample, b.dropout = device_dropout();
    return b;
  }
  bool intact() const {
    for (const GuardedCuda* g : {&x, &dy, &z, &y, &mean, &rstd, &dz, &dx, &dbias, &dweight, &dbeta})
      if (!g->intact()) return false;
    return true;
  }
};

// Runs a rung and compares all outputs. The plain call (no z) if `plain`.
void expect_forward_matches(const Case& c, int rung = kLayerNormRungs, bool plain = false) {
  LayerNormForward args = c.forward();
  if (plain) args.z = {};
  layer_norm_forward_cuda_rung(args, current_stream(), rung);
  const Tensor x = wide(c.host.x), bias = wide(c.host.bias), residual = wide(c.host.residual);
  const Tensor z = Tensor::empty({c.T, c.H}), y = Tensor::empty({c.T, c.H}),
               mean = Tensor::empty({c.T}), rstd = Tensor::empty({c.T});
  const auto reference = [&](const Tensor& from, bool with_parts) {
    LayerNormForward exact{from,
                           operand(with_parts ? bias : Tensor()),
                           operand(with_parts ? residual : Tensor()),
                           c.host.weight,
                           c.host.beta,
                           z,
                           y,
                           mean,
                           rstd,
                           c.host.position,
                           c.host.row_sample,
                           with_parts ? c.host_dropout() : Dropout(),
                           c.eps};
    layer_norm_forward_reference(exact);
  };
  reference(x, true);
  if (!plain) {
    EXPECT_TRUE(near_in("z", on_cpu(*c.z), z, Tolerance::elementwise));
    if (c.dtype != DType::f32) reference(wide(on_cpu(*c.z)), false);  // normalised as it is stored
  }
  EXPECT_TRUE(near_in("y", on_cpu(*c.y), y, Tolerance::reduction));
  // A mean may be near 0: its rounding is relative to the row's elements.
  double largest = 0;
  for (float value : z.span<float>()) largest = std::max<double>(largest, std::abs(value));
  const Tensor got_mean = on_cpu(*c.mean);
  for (int64_t t = 0; t < c.T; ++t)
    EXPECT_NEAR(got_mean.data<float>()[t], mean.data<float>()[t], Tolerance::elementwise * largest);
  EXPECT_TRUE(near("rstd", on_cpu(*c.rstd), rstd, Tolerance::reduction));
}

// The reference's gradients for what the device's forward pass left, added to what is in the outputs.
struct Gradients {
  Tensor dz, dx, dbias, dweight, dbeta;
};
Gradients reference_gradients(const Case& c, const LayerNormBackward& args) {
  const Gradients g{wide(on_cpu(*c.dz)), wide(on_cpu(*c.dx)), on_cpu(*c.dbias), on_cpu(*c.dweight),
                    on_cpu(*c.dbeta)};
  const Tensor dy = wide(c.host.dy), z = wide(args.z.raw() == c.x->raw() ? c.host.x : on_cpu(*c.z)),
               mean = on_cpu(*c.mean), rstd = on_cpu(*c.rstd);
  LayerNormBackward exact = args;
  exact.dy = dy, exact.z = z, exact.mean = mean, exact.rstd = rstd, exact.weight = c.host.weight;
  exact.dz = g.dz, exact.dx = g.dx;
  exact.dbias = g.dbias, exact.dweight = g.dweight, exact.dbeta = g.dbeta;
  exact.position = c.host.position, exact.row_sample = c.host.row_sample;
  if (args.dropout.active()) exact.dropout = c.host_dropout();
  layer_norm_backward_reference(exact);
  return g;
}

void expect_backward_matches(const Case& c, LayerNormBackward args, int rung = kLayerNormRungs) {
  const Gradients expected = reference_gradients(c, args);
  layer_norm_backward_cuda_rung(args, current_stream(), rung);
  EXPECT_TRUE(near_in("dz", on_cpu(*c.dz), expected.dz, Tolerance::gradient));
  if (args.dx.defined()) {
    EXPECT_TRUE(near_in("dx", on_cpu(*c.dx), expected.dx, Tolerance::gradient));
  }
  EXPECT_TRUE(near("dbias", on_cpu(*c.dbias), expected.dbias, Tolerance::gradient));
  EXPECT_TRUE(near("dweight", on_cpu(*c.dweight), expected.dweight, Tolerance::gradient));
  EXPECT_TRUE(near("dbeta", on_cpu(*c.dbeta), expected.dbeta, Tolerance::gradient));
}

void expect_case(const Case& c, int rung) {
  SCOPED_TRACE(fmt::format("{} T {} H {} p {} misaligned {} rung {}", name_of(c.dtype), c.T, c.H,
                           c.parts.p, c.misaligned, rung));
  expect_forward_matches(c, rung);
  // A row of one or two columns normalises to 0 or +-1: its gradient is a difference of equals.
  if (c.H > 2) expect_backward_matches(c, c.backward(), rung);
  if (c.H <= 2) layer_norm_backward_cuda_rung(c.backward(), current_stream(), rung);
  EXPECT_TRUE(c.intact());
}

// Parts of a pack, of a warp's packs, of a block's; each count of packs a lane; beyond registers.
TEST_F(LayerNormCuda, ProductionMatchesReferenceForAllSizes) {
  for (DType dtype : kComputeTypes)
    for (int64_t H :
         {1,   2,   4,   7,   8,   9,   31,  33,   120,  127,  128,  136,  255,  256,  257,
          312, 384, 512, 520, 640, 768, 776, 1016, 1021, 1024, 1028, 1032, 2048, 2050, 4096})
      for (int64_t T : {1, 5})
        for (float p : {0.0f, 0.1f}) expect_case({T, H, {true, true, p}, dtype}, kLayerNormRungs);
}

TEST_F(LayerNormCuda, EachRungMatchesReference) {
  for (DType dtype : kComputeTypes)
    for (int64_t H : {5, 128, 768, 1024, 1032, 1500})
      for (int rung = 1; rung <= kLayerNormRungs; ++rung) expect_case({9, H, kAll, dtype}, rung);
}

TEST_F(LayerNormCuda, EachRungLaunchesItsKernel) {
  const Case c(5, 256, {});
  expect_rungs(
      {"forward_rereading<false, 1, ", "forward_rereading<false, 32, ",
       "forward_rereading<true, 32, ", "forward_in_registers<2, "},
      [&](int rung) { layer_norm_forward_cuda_rung(c.forward(), current_stream(), rung); });
  expect_rungs(
      {"backward_rereading<false, 1, ", "backward_rereading<false, 32, ",
       "backward_rereading<true, 32, ", "backward_in_registers<2, "},
      [&](int rung) { layer_norm_backward_cuda_rung(c.backward(), current_stream(), rung); });
}

TEST_F(LayerNormCuda, RowsOffAlignmentMatchReference) {
  for (DType dtype : kComputeTypes)
    for (int64_t H : {8, 33, 768, 1024, 1280})
      for (int rung = 1; rung <= kLayerNormRungs; ++rung)
        expect_case({6, H, kAll, dtype, /* misaligned= */ true}, rung);
}

// A warp's and a block's rows are cut: 4, 16 and more rows of a block.
TEST_F(LayerNormCuda, RowCountsAroundBlocks) {
  for (DType dtype : kComputeTypes)
    for (int64_t T : {3, 4, 15, 16, 17, 33, 300})
      for (int rung = 1; rung <= kLayerNormRungs; ++rung) expect_case({T, 64, kAll, dtype}, rung);
  for (DType dtype : kComputeTypes) expect_case({4300, 16, kAll, dtype}, kLayerNormRungs);
}

TEST_F(LayerNormCuda, OptionalOperandsCountAsZero) {
  for (DType dtype : kComputeTypes)
    for (int64_t H : {33, 264, 1032})
      for (bool bias : {false, true})
        for (bool residual : {false, true})
          for (float p : {0.0f, 0.3f}) {
            const Case c(5, H, {bias, residual, p}, dtype);
            expect_case(c, kLayerNormRungs);
          }
}

TEST_F(LayerNormCuda, PlainRowsNeedNoZ) {
  for (DType dtype : kComputeTypes) {
    for (int64_t H : {33, 264, 1032}) {
      for (int rung = 1; rung <= kLayerNormRungs; ++rung) {
        const Case c(7, H, kPlain, dtype);
        const Tensor z_before = on_cpu(*c.z);
        expect_forward_matches(c, rung, /* plain= */ true);
        EXPECT_TRUE(same_bits(on_cpu(*c.x), c.host.x));
        EXPECT_TRUE(same_bits(on_cpu(*c.z), z_before));
        LayerNormBackward backward = c.backward();
        backward.z = *c.x;
        backward.dx = backward.position = backward.row_sample = {};
        expect_backward_matches(c, backward, rung);
        EXPECT_TRUE(c.intact());
      }
    }
  }
}

TEST_F(LayerNormCuda, InPlaceGivesTheSameBits) {
  for (DType dtype : kComputeTypes) {
    for (int64_t H : {7, 768, 1032}) {
      const Case c(9, H, kAll, dtype);
      layer_norm_forward(c.forward());
      const Tensor z = on_cpu(*c.z), y = on_cpu(*c.y);
      LayerNormForward in_place = c.forward();
      in_place.z = *c.x;
      layer_norm_forward(in_place);
      EXPECT_TRUE(same_bits(on_cpu(*c.x), z));
      EXPECT_TRUE(same_bits(on_cpu(*c.y), y));
      EXPECT_TRUE(c.intact());
    }
  }
}

TEST_F(LayerNormCuda, AccumulatesWhereAsked) {
  for (DType dtype : kComputeTypes) {
    for (int64_t H : {65, 264}) {
      for (int flags = 0; flags < 16; ++flags) {
        SCOPED_TRACE(fmt::format("{} H {} flags {}", name_of(dtype), H, flags));
        const Case c(9, H, kAll, dtype);
        layer_norm_forward(c.forward());
        LayerNormBackward args = c.backward();
        uint64_t index = 10;
        for (const GuardedCuda* t : {&c.dz, &c.dx, &c.dbias, &c.dweight, &c.dbeta})
          (*t)->copy_from(on_cuda(random_tensor((*t)->shape(), index++, 1.0f, (*t)->dtype())));
        args.accumulate_dz = flags & 1;
        args.accumulate_dbias = flags & 2;
        args.accumulate_dweight = flags & 4;
        args.accumulate_dbeta = flags & 8;
        expect_backward_matches(c, args);
        EXPECT_TRUE(c.intact());
      }
    }
  }
}

TEST_F(LayerNormCuda, SkipsUndefinedGradients) {
  for (int64_t H : {65, 264}) {
    const Case c(21, H, kAll);
    layer_norm_forward(c.forward());
    layer_norm_backward(c.backward());
    const Tensor all[] = {on_cpu(*c.dbias), on_cpu(*c.dweight), on_cpu(*c.dbeta)};
    for (int which = 0; which < 3; ++which) {
      const GuardedCuda* targets[] = {&c.dbias, &c.dweight, &c.dbeta};
      for (const GuardedCuda* t : targets) fill_with(*t, 9);
      LayerNormBackward args = c.backward();
      Operand* skipped[] = {&args.dbias, &args.dweight, &args.dbeta};
      *skipped[which] = {};
      layer_norm_backward(args);
      for (int i = 0; i < 3; ++i) {
        const Tensor nines = Tensor::empty({H});
        std::fill(nines.span<float>().begin(), nines.span<float>().end(), 9.0f);
        EXPECT_TRUE(same_bits(on_cpu(**targets[i]), i == which ? nines : all[i]));
      }
    }
  }
}

TEST_F(LayerNormCuda, NoRowsGiveZeroParameterGradients) {
  const Case c(0, 33, kAll);
  layer_norm_forward(c.forward());
  layer_norm_backward(c.backward());
  for (const Tensor& t : {*c.dbias, *c.dweight, *c.dbeta})
    EXPECT_TRUE(same_bits(on_cpu(t), Tensor::zeros({33})));
  fill_with(c.dbias, 5);
  LayerNormBackward args = c.backward();
  args.accumulate_dbias = true;
  layer_norm_backward(args);
  EXPECT_EQ(on_cpu(*c.dbias).data<float>()[3], 5.0f);
}

// Mean 1e4, deviation 1e-2: f32 has steps of 1e-3 there, so a mean that is rounded to f32, or
// E[z^2] - E[z]^2, would spoil y.
TEST_F(LayerNormCuda, LargeMeanAndSmallDeviationKeepTheirFigures) {
  for (int64_t H : {64, 768, 1021, 1032}) {
    Case c(7, H, kPlain);
    for (float& x : c.host.x.span<float>()) x = 1e4f + 1e-2f * x;
    c.send();
    expect_forward_matches(c);
    expect_backward_matches(c, c.backward());
  }
}

TEST_F(LayerNormCuda, ConstantRowsGiveBeta) {
  for (int64_t H : {48, 50, 1032}) {
    Case c(3, H, kPlain);
    for (float& x : c.host.x.span<float>()) x = 0.75f;
    c.send();
    layer_norm_forward(c.forward());
    const Tensor y = on_cpu(*c.y), rstd = on_cpu(*c.rstd);
    for (int64_t i = 0; i < 3 * H; ++i)
      EXPECT_EQ(y.data<float>()[i], c.host.beta.data<float>()[i % H]);
    for (float value : rstd.span<float>()) EXPECT_NEAR(value, 1e6, 1);
  }
}

// eps is added to the variance: with eps = 3 and a variance of 1, rstd is 1 / 2.
TEST_F(LayerNormCuda, EpsIsInsideTheRoot) {
  for (int64_t H : {48, 50, 1032}) {
    Case c(1, H, kPlain);
    for (int64_t h = 0; h < H; ++h) c.host.x.data<float>()[h] = h % 2 ? 6.0f : 4.0f;
    c.send();
    c.eps = 3;
    layer_norm_forward(c.forward());
    EXPECT_FLOAT_EQ(on_cpu(*c.mean).data<float>()[0], 5.0f);
    EXPECT_FLOAT_EQ(on_cpu(*c.rstd).data<float>()[0], 0.5f);
  }
}

// With x = 1 and neither bias nor residual, z is the mask; with the forward's dropout, dx is dz
// where it is kept.
TEST_F(LayerNormCuda, MaskIsTheExportedOne) {
  for (int64_t H : {5, 64, 101, 264, 1032}) {
    for (float p : {0.1f, 0.5f, 65535.0f / 65536}) {
      Case c(9, H, {false, false, p});
      for (float& x : c.host.x.span<float>()) x = 1;
      c.send();
      layer_norm_forward(c.forward());
      const Tensor z = on_cpu(*c.z), mask = c.mask();
      c.z->copy_from(on_cuda(random_tensor({9, H}, 9)));  // any rows with a gradient will do
      layer_norm_backward(c.backward());
      const Tensor dz = on_cpu(*c.dz), dx = on_cpu(*c.dx);
      for (int64_t i = 0; i < 9 * H; ++i) {
        const float factor = mask.data<uint8_t>()[i] ? c.host_dropout().scale : 0.0f;
        ASSERT_EQ(z.data<float>()[i], factor);
        ASSERT_FLOAT_EQ(dx.data<float>()[i], dz.data<float>()[i] * factor);
      }
    }
  }
}

// A row's result does not depend on its place among the rows, nor on its neighbours.
TEST_F(LayerNormCuda, PackingDoesNotMatter) {
  for (int64_t H : {90, 264}) {
    const Case alone(5, H, kAll);
    Case packed(60, H, kAll);
    const int64_t at = 41;
    packed.host.x.rows(at, 5).copy_from(alone.host.x);
    packed.host.residual.rows(at, 5).copy_from(alone.host.residual);
    packed.host.dy.rows(at, 5).copy_from(alone.host.dy);
    packed.host.position.rows(at, 5).copy_from(alone.host.position);
    packed.host.row_sample.rows(at, 5).copy_from(alone.host.row_sample);
    packed.send();
    for (const Case* c : {&alone, static_cast<const Case*>(&packed)}) {
      layer_norm_forward(c->forward());
      layer_norm_backward(c->backward());
    }
    EXPECT_TRUE(same_bits(on_cpu(*alone.z), on_cpu(packed.z->rows(at, 5))));
    EXPECT_TRUE(same_bits(on_cpu(*alone.y), on_cpu(packed.y->rows(at, 5))));
    EXPECT_TRUE(same_bits(on_cpu(*alone.dz), on_cpu(packed.dz->rows(at, 5))));
    EXPECT_TRUE(same_bits(on_cpu(*alone.dx), on_cpu(packed.dx->rows(at, 5))));
  }
}

// x is infinite or NaN where it is dropped: the rows are those of a finite x, to the bit.
TEST_F(LayerNormCuda, WhatIsDroppedDoesNotReachTheRow) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (DType dtype : kComputeTypes) {
    for (int64_t H : {50, 64}) {
      for (float poison : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
        Case c(8, H, {true, true, 0.3f}, dtype);
        const Tensor mask = c.mask();
        layer_norm_forward(c.forward());
        const Tensor z = on_cpu(*c.z), y = on_cpu(*c.y);
        int64_t planted = 0;
        for (int64_t i = 0; i < 8 * H; ++i)
          if (!mask.data<uint8_t>()[i]) put(c.host.x, i, poison), ++planted;
        EXPECT_GT(planted, 50);
        c.send();
        layer_norm_forward(c.forward());
        EXPECT_TRUE(same_bits(on_cpu(*c.z), z));
        EXPECT_TRUE(same_bits(on_cpu(*c.y), y));
      }
    }
  }
}

// An infinite dy spoils dz of its row, but neither dx nor dbias where the row's element is dropped.
TEST_F(LayerNormCuda, AnInfiniteGradientIsDroppedWithItsElement) {
  for (DType dtype : kComputeTypes) {
    for (int64_t H : {50, 64}) {
      Case c(8, H, {true, true, 0.3f}, dtype), clean(8, H, {true, true, 0.3f}, dtype);
      const Tensor mask = c.mask();
      put(c.host.dy, 2 * H + 7, std::numeric_limits<float>::infinity());
      for (int64_t h = 0; h < H; ++h) put(clean.host.dy, 2 * H + h, 0);
      for (Case* each : {&c, &clean}) {
        each->send();
        layer_norm_forward(each->forward());
        layer_norm_backward(each->backward());
      }
      const Tensor dz = on_cpu(*c.dz), dx = on_cpu(*c.dx), dbias = on_cpu(*c.dbias),
                   clean_dbias = on_cpu(*clean.dbias);
      for (int64_t h = 0; h < H; ++h) {
        const bool keep = mask.data<uint8_t>()[2 * H + h] != 0;
        EXPECT_FALSE(std::isfinite(get(dz, 2 * H + h)));
        EXPECT_EQ(std::isfinite(get(dx, 2 * H + h)), !keep);
        EXPECT_TRUE(keep || get(dx, 2 * H + h) == 0);
        EXPECT_EQ(std::isfinite(get(dbias, h)), !keep);
        if (!keep) {
          EXPECT_NEAR(get(dbias, h), get(clean_dbias, h), Tolerance::gradient);
        }
      }
    }
  }
}

TEST_F(LayerNormCuda, NaNStaysInItsRow) {
  for (int64_t H : {50, 64, 1032}) {
    Case c(4, H, kAll);
    c.host.residual.data<float>()[2 * H + H - 1] = std::numeric_limits<float>::quiet_NaN();
    c.send();
    layer_norm_forward(c.forward());
    const Tensor y = on_cpu(*c.y);
    for (int64_t i = 0; i < 4 * H; ++i) EXPECT_EQ(std::isnan(y.data<float>()[i]), i / H == 2);
    EXPECT_TRUE(std::isnan(on_cpu(*c.rstd).data<float>()[2]));
  }
}

TEST_F(LayerNormCuda, EveryScheduleGivesTheSameBits) {
  for (DType dtype : kComputeTypes) {
    for (int64_t H : {50, 264, 1032}) {
      const Case c(35, H, kAll, dtype);
      for (int rung = 1; rung <= kLayerNormRungs; ++rung) {
        if (rung == 1 && H > 50) continue;  // no thread waits for another
        SCOPED_TRACE(fmt::format("{} H {} rung {}", name_of(dtype), H, rung));
        same_bits_in_every_schedule([&] {
          layer_norm_forward_cuda_rung(c.forward(), current_stream(), rung);
          layer_norm_backward_cuda_rung(c.backward(), current_stream(), rung);
          std::vector<Tensor> results;
          for (const GuardedCuda* t :
               {&c.z, &c.y, &c.mean, &c.rstd, &c.dz, &c.dx, &c.dbias, &c.dweight, &c.dbeta})
            results.push_back((*t)->clone());
          return results;
        });
      }
    }
  }
}

}  // namespace
}  // namespace minibert::testing
