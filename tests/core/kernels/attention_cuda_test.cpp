// attention_cuda_test.cpp: attention on device cuda against the double reference, in every rung, type
// and head size; the same bits under every schedule of the engine; and what must not matter:
// packing, tail rows, empty sequences, alignment.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/kernels/attention.h"
#include "core/kernels/dropout_mask.h"
#include "tests/core/kernels/attention_case.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

// One below, at and one above the sizes of warps' rows, of tiles and of blocks.
const std::vector<int32_t> kRagged = {0, 1, 7, 16, 17, 63, 64, 65, 127, 128, 129, 200};
// The same in small, for what runs many times.
const std::vector<int32_t> kFew = {33, 0, 1, 130, 64};

// A Case on the device. Outputs start as guard bytes, so what is not written shows.
struct CudaCase {
  const Case& host;
  Tensor qkv, dout, first, number;
  GuardedCuda out, lse, dqkv;
  bool tf32 = false;

  explicit CudaCase(const Case& host, bool misaligned = false)
      : host(host),
        qkv(copied(host.qkv, misaligned)),
        dout(copied(host.dout, misaligned)),
        first(on_cuda(host.first)),
        number(on_cuda(host.number)),
        out(host.out->shape(), host.dtype, misaligned),
        lse(host.lse->shape(), DType::f32, misaligned),
        dqkv(host.dqkv->shape(), host.dtype, misaligned) {}

  // On the device, moved off every 16-byte boundary or not.
  static Tensor copied(const Tensor& from, bool misaligned) {
    if (!misaligned) return on_cuda(from);
    const Tensor image = Tensor::empty({from.numel() + 1}, from.dtype());
    image.slice(1, from.shape()).copy_from(from);
    return on_cuda(image).slice(1, from.shape());
  }
  Dropout dropout() const {
    return make_dropout(host.p, kSeed, cuda_data_step(kMaxDataStep), 23, DropoutPurpose::attention);
  }
  AttentionForward forward() const {
    return {qkv, *out, *lse, first, number, host.scale(), dropout(), tf32};
  }
  AttentionBackward backward() const {
    return {qkv, *out, *lse, dout, *dqkv, first, number, host.scale(), dropout(), tf32};
  }
  void run() const {
    attention_forward(forward());
    attention_backward(backward());
  }
  bool intact() const { return out.intact() && lse.intact() && dqkv.intact(); }
};

// Results, copied to the host.
struct Got {
  Tensor out, lse, dqkv;
  explicit Got(const CudaCase& c)
      : out(on_cpu(*c.out)), lse(on_cpu(*c.lse)), dqkv(on_cpu(*c.dqkv)) {}
};

void expect_zero_from(const Tensor& t, int64_t row) {
  for (float x : floats_of(t.rows(row, t.dim(0) - row))) ASSERT_EQ(x, 0.0f);
}

std::string described(const Case& c) {
  return fmt::format("{} lengths {} A {} D {} p {} tail {}", name_of(c.dtype),
                     fmt::join(c.lengths, ","), c.A, c.D, c.p, c.tail);
}

void expect_forward(const Case& c, const Got& got, const Expected& expected) {
  EXPECT_TRUE(near_in("out", got.out, expected.out, Tolerance::reduction));
  EXPECT_TRUE(near("lse", got.lse, expected.lse, Tolerance::reduction));
  expect_zero_from(got.out, c.T);
  expect_zero_from(got.lse, c.T);
}

// ---- What tensor cores make of the gradients -------------------------------------------------------

// Rows of one head, as doubles: part `which` of [N, parts, A, D] from row `first` on.
std::vector<double> head_of(const Tensor& t, int64_t parts, int64_t which, int64_t first, int64_t S,
                            int64_t A, int64_t a, int64_t D) {
  const std::vector<float> all = floats_of(t);
  std::vector<double> rows;
  for (int64_t i = first; i < first + S; ++i)
    for (int64_t d = 0; d < D; ++d)
      rows.push_back(all[static_cast<size_t>(((i * parts + which) * A + a) * D + d)]);
  return rows;
}

double dot(const std::vector<double>& x, int64_t i, const std::vector<double>& y, int64_t j,
           int64_t D) {
  double sum = 0;
  for (int64_t d = 0; d < D; ++d)
    sum += x[static_cast<size_t>(i * D + d)] * y[static_cast<size_t>(j * D + d)];
  return sum;
}

// The gradients of section 1 in double, but for what section 4 says of tensor cores: p (where it is
// kept) and ds are rounded to `factor_type` before they are factors. `out` is what backward reads.
Tensor gradients_with_rounded_factors(const Case& c, const Tensor& out, DType factor_type) {
  const Tensor dqkv = Tensor::zeros(c.dqkv->shape());
  const Dropout dropout = attention_dropout(c.p);
  const int64_t A = c.A, D = c.D;
  int64_t first = 0;
  for (size_t b = 0; b < c.lengths.size(); first += c.lengths[b++]) {
    const int64_t S = c.lengths[b];
    const int32_t sample = c.number.data<int32_t>()[b];
    for (int64_t a = 0; a < A; ++a) {
      const auto q = head_of(c.qkv, 3, 0, first, S, A, a, D),
                 k = head_of(c.qkv, 3, 1, first, S, A, a, D),
                 v = head_of(c.qkv, 3, 2, first, S, A, a, D),
                 y = head_of(out, 1, 0, first, S, A, a, D),
                 dy = head_of(c.dout, 1, 0, first, S, A, a, D);
      const Tensor kept = Tensor::empty({S, S}), ds = Tensor::empty({S, S});
      for (int64_t i = 0; i < S; ++i) {
        double denominator = 0;
        const double largest = dot(q, i, k, i, D);  // any number near the maximum will do
        for (int64_t j = 0; j < S; ++j)
          denominator += std::exp((dot(q, i, k, j, D) - largest) * c.scale());
        for (int64_t j = 0; j < S; ++j) {
          const double p = std::exp((dot(q, i, k, j, D) - largest) * c.scale()) / denominator;
          const double m = attention_dropout_factor(dropout, i, j, a, sample);
          kept.data<float>()[i * S + j] = static_cast<float>(m == 0 ? 0 : p);
          ds.data<float>()[i * S + j] =
              static_cast<float>(p * (dropped(dot(dy, i, v, j, D), m) - dot(dy, i, y, i, D)));
        }
      }
      const std::vector<float> p = floats_of(kept.to(factor_type)),
                               r = floats_of(ds.to(factor_type));
      for (int64_t j = 0; j < S; ++j) {
        for (int64_t d = 0; d < D; ++d) {
          double dq = 0, dk = 0, dv = 0;
          for (int64_t i = 0; i < S; ++i) {
            const auto column = static_cast<size_t>(i * D + d);
            dq += r[static_cast<size_t>(j * S + i)] * k[column];  // here j is the query
            dk += r[static_cast<size_t>(i * S + j)] * q[column];
            dv += p[static_cast<size_t>(i * S + j)] * dy[column];
          }
          const double results[] = {dq * c.scale(), dk * c.scale(), dv * dropout.scale};
          for (int64_t which = 0; which < 3; ++which)
            dqkv.data<float>()[(((first + j) * 3 + which) * A + a) * D + d] =
                static_cast<float>(results[which]);
        }
      }
    }
  }
  return dqkv;
}

bool on_tensor_cores(const Case& c) {
  return c.dtype != DType::f32 && (c.D == 32 || c.D == 64 || c.D == 128);
}

// Backward alone, from exact `out` (as its type stores it) and lse, so that what forward rounded does
// not count twice. `expected` is in f32.
void expect_backward(const CudaCase& there, const Tensor& expected) {
  const Case& c = there.host;
  const Expected exact(c);
  copy_to_device(exact.out.to(c.dtype).raw(), *there.out);
  copy_to_device(exact.lse.raw(), *there.lse);
  attention_backward(there.backward());
  const Tensor got = on_cpu(*there.dqkv);
  const char* names[] = {"dq", "dk", "dv"};
  for (int64_t which = 0; which < 3; ++which)
    EXPECT_TRUE(
        near_in(names[which], part(got, which), part(expected, which), Tolerance::gradient));
  expect_zero_from(got, c.T);
  EXPECT_TRUE(there.intact());
}

void expect_matches_reference(const Case& c, bool misaligned = false) {
  SCOPED_TRACE(described(c));
  const CudaCase there(c, misaligned);
  const Expected expected(c);
  attention_forward(there.forward());
  expect_forward(c, Got(there), expected);
  const bool rounded = on_tensor_cores(c) && !misaligned;
  expect_backward(there, rounded
                             ? gradients_with_rounded_factors(c, expected.out.to(c.dtype), c.dtype)
                             : expected.dqkv);
}

class AttentionCuda : public CudaTest {};

// Rows beyond T hold NaN. Heads of 32, 64 and 128 are the tensor cores' in 16 bits.
TEST_F(AttentionCuda, MatchesReferenceForRaggedSequences) {
  for (DType dtype : kComputeTypes) {
    for (int64_t D : {32, 64, 128}) {
      expect_matches_reference(Case(kRagged, 1, D, 0.0f, 0, dtype));
      expect_matches_reference(Case(kRagged, 1, D, 0.1f, 3, dtype));
      expect_matches_reference(Case(kFew, 3, D, 0.1f, 70, dtype));
      expect_matches_reference(Case(kFew, 3, D, 0.0f, 129, dtype));
    }
  }
}

TEST_F(AttentionCuda, MatchesReferenceForAnyHeadSize) {
  for (DType dtype : kComputeTypes) {
    for (int64_t D : {1, 7, 20, 33, 63, 96, 129, 256})
      expect_matches_reference(Case({5, 0, 34, 1, 66}, 2, D, 0.1f, 1, dtype));
  }
}

TEST_F(AttentionCuda, MatchesReferenceForMisalignedRows) {
  for (DType dtype : kComputeTypes)
    for (int64_t D : {32, 64, 128})
      expect_matches_reference(Case({5, 0, 34, 1, 66}, 2, D, 0.1f, 1, dtype), true);
}

// Factors that tf32 holds exactly, and results looked at in f16, whose mantissa is as long.
TEST_F(AttentionCuda, Tf32MatchesReference) {
  for (int64_t D : {32, 64, 128}) {
    for (float p : {0.0f, 0.1f}) {
      Case c(kFew, 2, D, p, 3);
      SCOPED_TRACE(described(c));
      c.qkv = wide(c.qkv.to(DType::f16));
      c.dout = wide(c.dout.to(DType::f16));
      CudaCase there(c);
      attention_forward(there.forward());
      const Tensor exact_bits = on_cpu(*there.out);
      there.tf32 = true;
      attention_forward(there.forward());
      const Got got(there);
      const Expected expected(c);
      EXPECT_FALSE(same_bits(got.out, exact_bits)) << "tf32 was not used";
      EXPECT_TRUE(near_in("out", got.out.to(DType::f16), expected.out, Tolerance::reduction));
      EXPECT_TRUE(near("lse", got.lse, expected.lse, Tolerance::reduction));
      copy_to_device(expected.out.raw(), *there.out);
      attention_backward(there.backward());
      const Tensor gradients = on_cpu(*there.dqkv),
                   wanted = gradients_with_rounded_factors(c, expected.out, DType::f16);
      for (int64_t which = 0; which < 3; ++which)
        EXPECT_TRUE(near_in("gradient", part(gradients, which).to(DType::f16), part(wanted, which),
                            Tolerance::gradient));
      EXPECT_TRUE(there.intact());
    }
  }
}

TEST_F(AttentionCuda, EveryRungMatchesReference) {
  for (DType dtype : kComputeTypes) {
    for (int64_t D : {20, 32, 64, 128}) {
      const Case c({17, 0, 70, 1}, 2, D, 0.1f, 3, dtype);
      const Expected expected(c);
      for (int rung = 1; rung <= kAttentionForwardRungs; ++rung) {
        SCOPED_TRACE(fmt::format("rung {} {}", rung, described(c)));
        const CudaCase there(c);
        attention_forward_cuda_rung(there.forward(), current_stream(), rung);
        expect_forward(c, Got(there), expected);
        EXPECT_TRUE(there.intact());
      }
    }
  }
}

TEST_F(AttentionCuda, EachRungLaunchesItsKernel) {
  const CudaCase there(Case({17, 3}, 2, 64, 0.1f, 0, DType::bf16));
  expect_rungs(
      {"forward_naive<", "forward_tiled<",
       "forward_tensor<attention_cuda::HalfCore<__nv_bfloat16>, 64, false>",
       "forward_tensor<attention_cuda::HalfCore<__nv_bfloat16>, 64, true>"},
      [&](int rung) { attention_forward_cuda_rung(there.forward(), current_stream(), rung); });
}

TEST_F(AttentionCuda, SameBitsInEverySchedule) {
  for (DType dtype : kComputeTypes) {
    for (int64_t D : {20, 32, 64, 128}) {
      const Case c({2, 0, 65, 129}, 1, D, 0.1f, 2, dtype);
      SCOPED_TRACE(described(c));
      const CudaCase there(c);
      const std::vector<Tensor> results = same_bits_in_every_schedule([&] {
        there.run();
        return std::vector<Tensor>{*there.out, *there.lse, *there.dqkv};
      });
      EXPECT_TRUE(near_in("out", results[0], Expected(c).out, Tolerance::reduction));
    }
  }
}

TEST_F(AttentionCuda, SameBitsInEveryScheduleForRungsAndTf32) {
  const Case c({2, 0, 70}, 1, 64, 0.1f, 2, DType::bf16), f32({2, 0, 70}, 1, 64, 0.1f, 2);
  for (int rung = 1; rung < kAttentionForwardRungs; ++rung) {
    SCOPED_TRACE(rung);
    const CudaCase there(c);
    same_bits_in_every_schedule([&] {
      attention_forward_cuda_rung(there.forward(), current_stream(), rung);
      return std::vector<Tensor>{*there.out, *there.lse};
    });
  }
  CudaCase there(f32);
  there.tf32 = true;
  same_bits_in_every_schedule([&] {
    there.run();
    return std::vector<Tensor>{*there.out, *there.lse, *there.dqkv};
  });
}

TEST_F(AttentionCuda, EmptyBatchesAreFine) {
  for (DType dtype : kComputeTypes) {
    for (const Case& c : {Case({}, 2, 64, 0.1f, 0, dtype), Case({0}, 2, 64, 0.1f, 0, dtype),
                          Case({0, 0}, 1, 64, 0.0f, 130, dtype)}) {
      const CudaCase there(c);
      there.run();
      const Got got(there);
      expect_zero_from(got.out, 0);
      expect_zero_from(got.lse, 0);
      expect_zero_from(got.dqkv, 0);
      EXPECT_TRUE(there.intact());
    }
  }
}

// The same sequence alone, and after others and before empty ones and a tail: the same mask, and the
// same bits of everything.
TEST_F(AttentionCuda, PackingDoesNotMatter) {
  for (int32_t S : {37, 150}) {
    Case alone({S}, 2, 64, 0.3f, 0, DType::bf16),
        packed({5, 50, S, 16, 0, 0}, 2, 64, 0.3f, 40, DType::bf16);
    alone.number = integers({4321});
    packed.number.data<int32_t>()[2] = 4321;
    packed.qkv.rows(55, S).copy_from(alone.qkv);
    packed.dout.rows(55, S).copy_from(alone.dout);
    const CudaCase one(alone), many(packed);
    one.run();
    many.run();
    const Got lone(one), among(many);
    EXPECT_TRUE(same_bits(lone.out, among.out.rows(55, S)));
    EXPECT_TRUE(same_bits(lone.lse, among.lse.rows(55, S)));
    EXPECT_TRUE(same_bits(lone.dqkv, among.dqkv.rows(55, S)));
    alone.number = integers({4322});  // and another sample has another mask
    const CudaCase other(alone);
    other.run();
    EXPECT_FALSE(same_bits(Got(other).out, lone.out));
  }
}

// With q = 0 all probabilities are 1 / S; with v (or dout) the identity, out_ij = p_ij m_ij and
// dv_ji = p_ij m_ij: the kernel's mask can be read off, and must be the exported one. S = D: one block
// of keys finishes dq at D = 64, two are needed at 128.
TEST_F(AttentionCuda, MaskIsTheExportedOne) {
  for (DType dtype : kComputeTypes) {
    for (int64_t D : {64, 128}) {
      const int64_t S = D, A = 2;
      for (float p : {0.1f, 65535.0f / 65536}) {
        Case c({static_cast<int32_t>(S)}, A, D, p, 0, dtype);
        c.number = integers({-7});
        const Tensor qkv = Tensor::zeros({S, 3, A, D}), dout = Tensor::zeros({S, A, D});
        for (int64_t i = 0; i < S; ++i) {
          for (int64_t a = 0; a < A; ++a) {
            qkv.data<float>()[((i * 3 + 2) * A + a) * D + i] = 1;
            dout.data<float>()[(i * A + a) * D + i] = 1;
          }
        }
        c.qkv = qkv.to(dtype);
        c.dout = dout.to(dtype);
        const CudaCase there(c);
        there.run();
        const std::vector<float> out = floats_of(on_cpu(*there.out)),
                                 dqkv = floats_of(on_cpu(*there.dqkv));
        const double kept = c.forward().dropout.scale / static_cast<double>(S);
        const double allowed = kept * (dtype == DType::f32   ? 1e-6
                                       : dtype == DType::f16 ? 0x1p-10
                                                             : 0x1p-7);
        const bool overflows = dtype == DType::f16 && p > 0.9f;
        for (int64_t a = 0; a < A; ++a) {
          const Tensor mask = export_attention_dropout_mask(c.forward().dropout, S, a, -7);
          for (int64_t i = 0; i < S; ++i) {
            for (int64_t j = 0; j < S; ++j) {
              const double wanted = mask.data<uint8_t>()[i * S + j] ? kept : 0;
              const double in_out = out[static_cast<size_t>((i * A + a) * D + j)],
                           in_dv = dqkv[static_cast<size_t>(((j * 3 + 2) * A + a) * D + i)];
              if (overflows && wanted > 65504) continue;
              ASSERT_NEAR(in_out, wanted, allowed) << described(c) << " " << i << " " << j;
              ASSERT_NEAR(in_dv, wanted, allowed) << described(c) << " " << i << " " << j;
            }
          }
        }
      }
    }
  }
}

// Query 3 alone has a gradient, and its product with the dropped value j overflows f32 (f16 cannot
// overflow f32; there it is only large): da_ij is infinite, and has no part in ds_ij.
TEST_F(AttentionCuda, DroppedElementsAreSelectedOut) {
  for (DType dtype : kComputeTypes) {
    for (int32_t S : {24, 150}) {
      const int64_t D = 64, i = 3;
      Case c({S}, 1, D, 0.25f, 0, dtype);
      const Tensor mask = export_attention_dropout_mask(c.forward().dropout, S, 0, 5);
      int64_t j = 0;
      while (mask.data<uint8_t>()[i * S + j]) ++j;
      ASSERT_LT(j, S);
      const float large_v = dtype == DType::f16 ? 60000.0f : 1e38f,
                  large_dout = dtype == DType::f16 ? 100.0f : 1e5f;
      Tensor qkv = wide(c.qkv), dout = Tensor::zeros({S, 1, D});
      qkv.data<float>()[(j * 3 + 2) * D] = large_v;
      for (int64_t row = 0; row < S; ++row) {
        if (row == j) continue;
        for (int64_t d = 0; d < D; ++d) qkv.data<float>()[(row * 3 + 2) * D + d] *= 1e-3f;
      }
      dout.data<float>()[i * D] = large_dout;
      c.qkv = qkv.to(dtype);
      c.dout = dout.to(dtype);
      SCOPED_TRACE(described(c));
      const CudaCase there(c);
      there.run();
      for (float x : floats_of(on_cpu(*there.dqkv))) ASSERT_TRUE(std::isfinite(x));
      const Expected expected(c);
      expect_backward(there, on_tensor_cores(c)
                                 ? gradients_with_rounded_factors(c, expected.out.to(dtype), dtype)
                                 : expected.dqkv);
    }
  }
}

TEST_F(AttentionCuda, LargeScoresDoNotOverflow) {
  for (DType dtype : kComputeTypes) {
    Case c({40, 140}, 1, 64, 0.0f, 0, dtype);
    const Tensor qkv = wide(c.qkv);
    for (int64_t i = 0; i < qkv.numel(); ++i)
      qkv.data<float>()[i] = i / 64 % 3 == 2 ? 1.0f : 50.0f * qkv.data<float>()[i];
    c.qkv = qkv.to(dtype);
    const CudaCase there(c);
    there.run();
    const Got got(there);
    const Expected expected(c);
    EXPECT_TRUE(near("lse", got.lse, expected.lse, Tolerance::reduction));
    EXPECT_GT(expected.lse.data<float>()[0], 1000.0f);
    EXPECT_TRUE(near_in("out", got.out, expected.out, Tolerance::reduction));
    for (float x : floats_of(got.dqkv)) ASSERT_TRUE(std::isfinite(x));
  }
}

// Overflow detection relies on it: what is not finite must stay visible.
TEST_F(AttentionCuda, NaNReachesEveryRowThatReadsIt) {
  for (DType dtype : kComputeTypes) {
    for (float p : {0.0f, 0.5f}) {
      for (int64_t which : {0, 1}) {
        Case c({20, 70}, 1, 64, p, 0, dtype);
        const Tensor qkv = wide(c.qkv);
        qkv.data<float>()[(23 * 3 + which) * 64 + 5] = kNaN;
        c.qkv = qkv.to(dtype);
        const CudaCase there(c);
        there.run();
        const std::vector<float> out = floats_of(on_cpu(*there.out)),
                                 lse = floats_of(on_cpu(*there.lse));
        for (size_t i = 0; i < 90; ++i) {
          const bool hit = which == 0 ? i == 23 : i >= 20;
          EXPECT_EQ(std::isnan(out[i * 64]), hit) << described(c) << " " << i;
          EXPECT_EQ(std::isnan(lse[i]), hit) << described(c) << " " << i;
        }
      }
    }
  }
}

// One sequence's head is not finite, in all of its query, key, value and gradient: every other head
// and sequence keeps its bits.
TEST_F(AttentionCuda, WhatIsNotFiniteStaysInItsHead) {
  const std::vector<int32_t> lengths = {17, 70, 33};
  const int64_t A = 3, D = 32, first = 17, last = 87, head = 1;
  for (DType dtype : kComputeTypes) {
    for (float p : {0.0f, 0.1f}) {
      const Case plain(lengths, A, D, p, 0, dtype);
      const CudaCase clean(plain);
      clean.run();
      const Tensor pairs_clean[] = {wide(on_cpu(*clean.out)), wide(on_cpu(*clean.dqkv))};
      for (float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
        Case poisoned(lengths, A, D, p, 0, dtype);
        const Tensor qkv = wide(plain.qkv), dout = wide(plain.dout);
        for (int64_t row = first; row < last; ++row) {
          for (int64_t d = 0; d < D; ++d) {
            for (int64_t which = 0; which < 3; ++which)
              qkv.data<float>()[((row * 3 + which) * A + head) * D + d] = bad;
            dout.data<float>()[(row * A + head) * D + d] = bad;
          }
        }
        poisoned.qkv = qkv.to(dtype);
        poisoned.dout = dout.to(dtype);
        const CudaCase there(poisoned);
        there.run();
        const Tensor got[] = {wide(on_cpu(*there.out)), wide(on_cpu(*there.dqkv))};
        for (int which = 0; which < 2; ++which) {
          const int64_t rows = got[which].dim(0), width = got[which].numel() / rows;
          for (int64_t i = 0; i < got[which].numel(); ++i) {
            const bool hit = i / width >= first && i / width < last && i / D % A == head;
            const float x = got[which].data<float>()[i];
            ASSERT_EQ(!std::isfinite(x), hit) << described(poisoned) << " " << i;
            if (!hit) ASSERT_EQ(x, pairs_clean[which].data<float>()[i]) << i;
          }
        }
      }
    }
  }
}

// The host knows N and B, not the lengths: the same launch serves any of them.
TEST_F(AttentionCuda, LengthsAreReadOnTheDevice) {
  const Case c({20, 100, 0, 8}, 2, 64, 0.1f, 0, DType::bf16);
  const CudaCase there(c);
  const AttentionForward forward = there.forward();
  const AttentionBackward backward = there.backward();
  for (const std::vector<int32_t>& lengths :
       {std::vector<int32_t>{128, 0, 0, 0}, {1, 1, 1, 1}, {0, 0, 0, 125}, {32, 32, 32, 32}}) {
    Case other(lengths, 2, 64, 0.1f, 128 - Case::sum(lengths), DType::bf16);
    other.number = c.number;
    copy_to_device(other.first.raw(), there.first);
    copy_to_device(other.qkv.raw(), there.qkv);
    copy_to_device(other.dout.raw(), there.dout);
    attention_forward(forward);
    attention_backward(backward);
    const CudaCase fresh(other);
    fresh.run();
    const Got got(there), expected(fresh);
    SCOPED_TRACE(described(other));
    EXPECT_TRUE(same_bits(got.out, expected.out));
    EXPECT_TRUE(same_bits(got.lse, expected.lse));
    EXPECT_TRUE(same_bits(got.dqkv, expected.dqkv));
    expect_forward(other, got, Expected(other));
    EXPECT_TRUE(there.intact());
  }
}

}  // namespace
}  // namespace minibert::testing
