// attention_test.cpp: attention against the double reference at every instruction set, the
// reference against a formula of its own and central differences, and what must not matter:
// packing, threads, tail rows, empty sequences.
#include "core/kernels/attention.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "core/kernels/dropout_mask.h"
#include "core/profile.h"
#include "tests/core/kernels/attention_case.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

void expect_matches_reference(const Case& c) {
  SCOPED_TRACE(fmt::format("{} lengths {} A {} D {} p {} tail {}", name_of(c.dtype),
                           fmt::join(c.lengths, ","), c.A, c.D, c.p, c.tail));
  c.run();
  const Expected expected(c);
  EXPECT_TRUE(near_in("out", *c.out, expected.out, Tolerance::reduction));
  EXPECT_TRUE(near("lse", *c.lse, expected.lse, Tolerance::reduction));
  const char* names[] = {"dq", "dk", "dv"};
  for (int64_t which = 0; which < 3; ++which) {
    EXPECT_TRUE(near_in(names[which], part(*c.dqkv, which), part(expected.dqkv, which),
                        Tolerance::gradient));
  }
  EXPECT_TRUE(c.intact());
}

class Attention : public EachLevel {};

const std::vector<int32_t> kRagged = {0, 1, 7, 16, 17, 63, 64, 65, 0, 128, 200};

TEST_P(Attention, MatchesReferenceForRaggedSequences) {
  for (DType dtype : kComputeTypes) {
    for (float p : {0.0f, 0.1f})
      expect_matches_reference(Case(kRagged, 2, 64, p, /* tail= */ 0, dtype));
    expect_matches_reference(Case(kRagged, 3, 32, 0.1f, 3, dtype));
    expect_matches_reference(Case(kRagged, 1, 128, 0.1f, 3, dtype));
  }
  expect_matches_reference(Case(kRagged, 2, 64, 0.5f));
  expect_matches_reference(Case({512}, 1, 64, 0.1f));
}

TEST_P(Attention, MatchesReferenceForAnyHeadSize) {
  for (DType dtype : kComputeTypes) {
    for (int64_t D : {1, 2, 3, 15, 16, 17, 20, 31, 33, 63, 65, 96, 127, 129, 160, 255, 256}) {
      expect_matches_reference(Case({5, 0, 34, 1, 49}, 2, D, 0.1f, 1, dtype));
      expect_matches_reference(Case({19, 2}, 3, D, 0.0f, 0, dtype));
    }
  }
}

TEST_P(Attention, EveryLengthMatchesReference) {
  for (DType dtype : kComputeTypes)
    for (int32_t length = 2; length <= 50; ++length)
      expect_matches_reference(Case({length}, 1, 8, 0.25f, 1, dtype));
}

// A softmax over one key is 1 whatever the score.
TEST_P(Attention, OneTokenIsItsOwnValue) {
  for (DType dtype : kComputeTypes) {
    const Case c({1}, 3, 8, 0.0f, 1, dtype);
    c.run();
    const Tensor zeros = Tensor::zeros({2, 24});
    EXPECT_TRUE(near("dq", wide(part(*c.dqkv, 0)), zeros, Tolerance::gradient));
    EXPECT_TRUE(near("dk", wide(part(*c.dqkv, 1)), zeros, Tolerance::gradient));
    const Tensor v = part(c.qkv, 2).rows(0, 1), dv = part(*c.dqkv, 2).rows(0, 1);
    EXPECT_TRUE(same_bits(c.out->rows(0, 1), v.reshape({1, 3, 8})));
    EXPECT_TRUE(near_in("dv", dv, wide(c.dout).rows(0, 1).reshape({1, 24}), Tolerance::gradient));
    EXPECT_TRUE(c.intact());
  }
}

// Section 4: against gradients in exact arithmetic, the rounding of out moves dq_i by no more than
// scale * u * sum_d |dout_id out_id| * max |k|, and dk likewise, beside their own rounding.
TEST_P(Attention, RoundingOfOutMovesGradientsAsMuchAsPromised) {
  for (DType dtype : {DType::bf16, DType::f16}) {
    for (float p : {0.0f, 0.1f}) {
      const Case c({1, 2, 3, 9, 70}, 1, 32, p, 0, dtype);
      c.run();
      Case exact(c.lengths, 1, 32, p);
      exact.qkv = wide(c.qkv);
      exact.dout = wide(c.dout);
      const Expected expected(exact);
      const std::vector<float> out = floats_of(*c.out), dout = floats_of(c.dout),
                               qkv = floats_of(c.qkv);
      double products = 0, largest = 0;
      for (size_t row = 0; row < out.size() / 32; ++row) {
        double sum = 0;
        for (size_t i = row * 32; i < (row + 1) * 32; ++i) sum += std::abs(dout[i] * out[i]);
        products = std::max(products, sum);
      }
      for (float x : qkv) largest = std::max<double>(largest, std::abs(x));
      const double u = dtype == DType::bf16 ? 0x1p-9 : 0x1p-11;
      const double moved = c.scale() * u * products * largest;
      const std::vector<float> got = floats_of(*c.dqkv), wanted = floats_of(expected.dqkv);
      for (size_t i = 0; i < got.size(); ++i) {
        const double rounding = 2 * u * std::abs(wanted[i]) + Tolerance::gradient;
        ASSERT_LE(std::abs(got[i] - wanted[i]), moved + rounding) << name_of(dtype) << " " << i;
      }
    }
  }
}

TEST_P(Attention, EmptyBatchesAreFine) {
  for (DType dtype : kComputeTypes) {
    for (const Case& c : {Case({}, 2, 64, 0.1f, 0, dtype), Case({0}, 2, 64, 0.1f, 0, dtype),
                          Case({0, 0}, 1, 7, 0.0f, 5, dtype)}) {
      c.run();
      for (const Tensor& t : {*c.out, *c.lse, *c.dqkv})
        for (float x : floats_of(t)) EXPECT_EQ(x, 0.0f);
      EXPECT_TRUE(c.intact());
    }
  }
}

// Fixed shapes: capacity for more sequences and rows than there are.
TEST_P(Attention, EmptySequencesAtTheEndChangeNoBit) {
  for (DType dtype : kComputeTypes) {
    for (float p : {0.0f, 0.1f}) {
      const Case plain({33, 7, 128}, 2, 64, p, 0, dtype),
          padded({33, 7, 128, 0, 0, 0, 0}, 2, 64, p, 24, dtype);
      for (const Case* c : {&plain, &padded}) c->run();
      EXPECT_TRUE(same_bits(*plain.out, padded.out->rows(0, plain.T)));
      EXPECT_TRUE(same_bits(*plain.lse, padded.lse->rows(0, plain.T)));
      EXPECT_TRUE(same_bits(*plain.dqkv, padded.dqkv->rows(0, plain.T)));
      EXPECT_TRUE(padded.intact());
    }
  }
}

TEST_P(Attention, ThreadsDoNotMatter) {
  for (DType dtype : kComputeTypes) {
    const Case c({33, 128, 1, 65}, 3, 64, 0.1f, 0, dtype);
    EXPECT_TRUE(threads_do_not_matter(*c.out, [&] { attention_forward(c.forward()); }));
    EXPECT_TRUE(threads_do_not_matter(*c.dqkv, [&] { attention_backward(c.backward()); }));
  }
}

// The same sequence alone and after others: the same mask, and the same bits of everything.
TEST_P(Attention, PackingDoesNotMatter) {
  Case alone({37}, 2, 64, 0.3f), packed({5, 50, 37, 16}, 2, 64, 0.3f);
  alone.number = integers({4321});
  packed.number.data<int32_t>()[2] = 4321;
  packed.qkv.rows(55, 37).copy_from(alone.qkv);
  packed.dout.rows(55, 37).copy_from(alone.dout);
  for (const Case* c : {&alone, &packed}) c->run();
  EXPECT_TRUE(same_bits(*alone.out, packed.out->rows(55, 37)));
  EXPECT_TRUE(same_bits(*alone.lse, packed.lse->rows(55, 37)));
  EXPECT_TRUE(same_bits(*alone.dqkv, packed.dqkv->rows(55, 37)));
  alone.number = integers({4322});  // and another sample has another mask
  attention_forward(alone.forward());
  EXPECT_FALSE(same_bits(*alone.out, packed.out->rows(55, 37)));
}

TEST_P(Attention, PoisonedTailRowsChangeNoBit) {
  for (DType dtype : kComputeTypes) {
    for (int64_t D : {64, 20}) {
      const Case plain({33, 7, 128}, 2, D, 0.1f, 0, dtype);
      plain.run();
      for (int64_t tail : {1, 64, 1000}) {
        const Case poisoned({33, 7, 128}, 2, D, 0.1f, tail, dtype);
        attention_forward(poisoned.forward());
        for (const Tensor& t : {*poisoned.out, *poisoned.lse}) {
          const Tensor rows = t.rows(plain.T, tail);
          for (float x : floats_of(rows)) EXPECT_EQ(x, 0.0f);
          std::memset(rows.raw(), 0xFF, static_cast<size_t>(rows.bytes()));  // NaN
        }
        attention_backward(poisoned.backward());
        EXPECT_TRUE(same_bits(*plain.out, poisoned.out->rows(0, plain.T)));
        EXPECT_TRUE(same_bits(*plain.lse, poisoned.lse->rows(0, plain.T)));
        EXPECT_TRUE(same_bits(*plain.dqkv, poisoned.dqkv->rows(0, plain.T)));
        for (float x : floats_of(poisoned.dqkv->rows(plain.T, tail))) EXPECT_EQ(x, 0.0f);
      }
    }
  }
}

// With q = 0 all probabilities are 1 / S; with v (or dout) the identity, out_ij = p_ij m_ij and
// dv_ji = p_ij m_ij: the kernel's mask can be read off, and must be the exported one.
TEST_P(Attention, MaskIsTheExportedOne) {
  const int64_t S = 201, A = 2, D = 256;
  for (float p : {0.1f, 0.5f, 1.0f / 65536, 65535.0f / 65536}) {
    Case c({S}, A, D, p);
    c.number = integers({-7});
    c.qkv.fill_zero();
    c.dout.fill_zero();
    for (int64_t i = 0; i < S; ++i) {
      for (int64_t a = 0; a < A; ++a) {
        c.qkv.data<float>()[((i * 3 + 2) * A + a) * D + i] = 1;
        c.dout.data<float>()[(i * A + a) * D + i] = 1;
      }
    }
    c.run();
    const double kept = c.forward().dropout.scale / static_cast<double>(S);
    for (int64_t a = 0; a < A; ++a) {
      const Tensor mask = export_attention_dropout_mask(c.forward().dropout, S, a, -7);
      for (int64_t i = 0; i < S; ++i) {
        for (int64_t j = 0; j < S; ++j) {
          const double expected = mask.data<uint8_t>()[i * S + j] ? kept : 0;
          ASSERT_NEAR(c.out->data<float>()[(i * A + a) * D + j], expected, 1e-6 * kept);
          ASSERT_NEAR(c.dqkv->data<float>()[((j * 3 + 2) * A + a) * D + i], expected, 1e-6 * kept);
        }
      }
    }
  }
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  const Case c({40}, 1, 64, 0.0f);
  for (int64_t i = 0; i < c.qkv.numel(); ++i)
    c.qkv.data<float>()[i] = i / 64 % 3 == 2 ? 1.0f : 50.0f * c.qkv.data<float>()[i];
  c.run();
  const Expected expected(c);
  EXPECT_TRUE(near("lse", *c.lse, expected.lse, Tolerance::reduction));
  EXPECT_GT(expected.lse.data<float>()[0], 1000.0f);
  for (float x : c.out->span<float>()) ASSERT_NEAR(x, 1.0, Tolerance::reduction);
  for (float x : c.dqkv->span<float>()) ASSERT_TRUE(std::isfinite(x));
}

// Overflow detection relies on it: what is not finite must stay visible.
TEST_P(Attention, NaNReachesEveryRowThatReadsIt) {
  for (uint32_t bits : {0x7FC00000u, 0x7FFFFFFFu, 0xFFABCDEFu}) {  // payloads too
    const float nan = std::bit_cast<float>(bits);
    for (float p : {0.0f, 0.5f}) {
      const Case in_query({20, 20}, 1, 64, p), in_key({20, 20}, 1, 64, p);
      in_query.qkv.data<float>()[(3 * 3 + 0) * 64 + 5] = nan;
      in_key.qkv.data<float>()[(3 * 3 + 1) * 64 + 5] = nan;
      attention_forward(in_query.forward());
      attention_forward(in_key.forward());
      for (int64_t i = 0; i < 40; ++i) {
        EXPECT_EQ(std::isnan(in_query.out->data<float>()[i * 64]), i == 3) << i;
        EXPECT_EQ(std::isnan(in_key.out->data<float>()[i * 64]), i < 20) << i;
        EXPECT_EQ(std::isnan(in_key.lse->data<float>()[i]), i < 20) << i;
      }
    }
  }
}

// One sequence's head is not finite, in all of its query, key, value and gradient: every other head
// and sequence keeps its bits, though one thread's scratch serves them all.
TEST_P(Attention, WhatIsNotFiniteStaysInItsHead) {
  set_num_threads(1);
  const std::vector<int32_t> lengths = {17, 40, 33};
  const int64_t A = 3, D = 20, first = 17, last = 57, head = 1;
  for (DType dtype : kComputeTypes) {
    for (float p : {0.0f, 0.1f}) {
      const Case plain(lengths, A, D, p, 0, dtype);
      plain.run();
      const Tensor clean_qkv = wide(plain.qkv), clean_dout = wide(plain.dout);
      for (float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
        Case poisoned(lengths, A, D, p, 0, dtype);
        const Tensor qkv = clean_qkv.clone(), dout = clean_dout.clone();
        for (int64_t row = first; row < last; ++row) {
          for (int64_t d = 0; d < D; ++d) {
            for (int64_t which = 0; which < 3; ++which)
              qkv.data<float>()[((row * 3 + which) * A + head) * D + d] = bad;
            dout.data<float>()[(row * A + head) * D + d] = bad;
          }
        }
        poisoned.qkv = qkv.to(dtype);
        poisoned.dout = dout.to(dtype);
        poisoned.run();
        const Tensor pairs[][2] = {{wide(*plain.out), wide(*poisoned.out)},
                                   {wide(*plain.dqkv), wide(*poisoned.dqkv)}};
        for (const auto& [clean, got] : pairs) {
          const int64_t rows = clean.dim(0), width = clean.numel() / rows;
          for (int64_t i = 0; i < clean.numel(); ++i) {
            const bool hit = i / width >= first && i / width < last && i / D % A == head;
            const float x = got.data<float>()[i];
            ASSERT_EQ(!std::isfinite(x), hit) << i;
            if (!hit) ASSERT_EQ(x, clean.data<float>()[i]) << i;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, Attention, ::testing::ValuesIn(simd_levels()), level_name);

// ---- The reference itself ----------------------------------------------------------------------

// sum over heads, queries and columns of weight * attention(qkv), straight from the formula of
// attention.h in double: one sequence, q, k, v [S, 3, A, D].
double weighted_attention(const std::vector<double>& qkv, int64_t S, int64_t A, int64_t D,
                          const Dropout& dropout, uint32_t sample, const float* weight,
                          std::vector<double>* out = nullptr) {
  const auto at = [&](int64_t row, int64_t which, int64_t a, int64_t d) {
    return qkv[static_cast<size_t>(((row * 3 + which) * A + a) * D + d)];
  };
  double loss = 0;
  for (int64_t i = 0; i < S; ++i) {
    for (int64_t a = 0; a < A; ++a) {
      std::vector<double> e(static_cast<size_t>(S));
      double denominator = 0;
      for (int64_t j = 0; j < S; ++j) {
        double s = 0;
        for (int64_t d = 0; d < D; ++d) s += at(i, 0, a, d) * at(j, 1, a, d);
        denominator += e[j] = std::exp(s / std::sqrt(static_cast<double>(D)));
      }
      for (int64_t d = 0; d < D; ++d) {
        double sum = 0;
        for (int64_t j = 0; j < S; ++j) {
          // The counter in words, as core/philox.h lays it out.
          const PhiloxOutput words =
              philox4x32({static_cast<uint32_t>(j / 2),
                          static_cast<uint32_t>((i / 16 * 16 + i % 8) | (a << 16)), sample,
                          dropout.step_layer_purpose()},
                         dropout.seed);
          const uint32_t word = words[static_cast<size_t>(i % 16 / 8 * 2 + j % 2)];
          const bool keep = word / 65536 >= dropout.threshold;
          sum +=
              keep ? e[j] / denominator * 65536 / (65536 - dropout.threshold) * at(j, 2, a, d) : 0;
        }
        loss += weight[(i * A + a) * D + d] * sum;
        if (out) out->push_back(sum);
      }
    }
  }
  return loss;
}

TEST(AttentionReference, EqualsTheFormulaAndItsCentralDifferences) {
  const int64_t S = 19, A = 2, D = 5;
  for (float p : {0.0f, 0.3f}) {
    Case c({S}, A, D, p);
    c.number = integers({12});
    std::vector<double> qkv(c.qkv.span<float>().begin(), c.qkv.span<float>().end()), out;
    const Dropout dropout = c.forward().dropout;
    const auto loss = [&](std::vector<double>* y) {
      return weighted_attention(qkv, S, A, D, dropout, 12, c.dout.data<float>(), y);
    };
    loss(&out);
    AttentionForward forward = c.forward();
    forward.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(D)));
    attention_forward_reference(forward);
    const std::vector<float> expected(out.begin(), out.end());
    EXPECT_TRUE(near("out", c.out->span<float>(), expected, Tolerance::elementwise));

    std::vector<float> gradient;
    for (double& x : qkv) {
      const double saved = x, step = 1e-5;
      x = saved + step;
      const double above = loss(nullptr);
      x = saved - step;
      gradient.push_back(static_cast<float>((above - loss(nullptr)) / (2 * step)));
      x = saved;
    }
    attention_backward_reference(c.backward());
    EXPECT_TRUE(near("dqkv", c.dqkv->span<float>(), gradient, Tolerance::elementwise));
  }
}

// It reads and writes the types as they are: exact inputs, one rounding of each result.
TEST(AttentionReference, RoundsOnlyWhatItStores) {
  for (DType dtype : {DType::bf16, DType::f16}) {
    const Case c({5, 0, 12}, 2, 6, 0.1f, 2, dtype);
    attention_forward_reference(c.forward());
    attention_backward_reference(c.backward());
    const Expected expected(c);
    EXPECT_TRUE(same_bits(*c.out, expected.out.to(dtype)));
    EXPECT_TRUE(same_bits(*c.lse, expected.lse));
    EXPECT_TRUE(same_bits(*c.dqkv, expected.dqkv.to(dtype)));
    EXPECT_TRUE(c.intact());
  }
}

// Two products forward and five backward; 13 rows of two heads of 8 columns, and lse.
TEST(AttentionCost, IsReportedToTheProfile) {
  for (DType dtype : kComputeTypes) {
    const Case c({3, 0, 10}, 2, 8, 0.0f, 4, dtype);
    set_profiling(true);
    c.run();
    set_profiling(false);
    const auto entries = profile_entries();
    const ProfileEntry forward = entries.at("attention_forward"),
                       backward = entries.at("attention_backward");
    const double element = dtype == DType::f32 ? 4 : 2;
    EXPECT_EQ(forward.flops, 2.0 * 2 * 2 * 8 * (9 + 100));
    EXPECT_EQ(backward.flops, 5.0 * 2 * 2 * 8 * (9 + 100));
    EXPECT_EQ(forward.bytes, 13 * 2 * (4 * 8 * element + 4));
    EXPECT_EQ(backward.bytes, 13 * 2 * (9 * 8 * element + 4));
  }
}

// ---- Errors ------------------------------------------------------------------------------------

void expect_usage_error(const std::function<void()>& call,
                        std::initializer_list<const char*> parts) {
  try {
    call();
    ADD_FAILURE() << "a wrong argument was taken";
  } catch (const UsageError& error) {
    for (const char* part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(AttentionErrors, NameBothShapes) {
  const Case c({3, 4}, 2, 8, 0.1f, 1);
  const auto forward = [&](Operand AttentionForward::*field, const Tensor& wrong,
                           std::initializer_list<const char*> parts) {
    AttentionForward args = c.forward();
    args.*field = wrong;
    expect_usage_error([&] { attention_forward(args); }, parts);
    expect_usage_error([&] { attention_forward_reference(args); }, parts);
  };
  using F = AttentionForward;
  forward(&F::out, Tensor::zeros({7, 2, 8}), {"out", "[7, 2, 8]", "[8, 2, 8]"});
  forward(&F::lse, Tensor::zeros({8, 3}), {"lse", "[8, 3]", "[8, 2]"});
  forward(&F::qkv, Tensor::zeros({8, 2, 2, 8}), {"qkv", "[8, 2, 2, 8]"});
  forward(&F::qkv, Tensor::zeros({8, 3, 2, 257}), {"257", "256"});
  forward(&F::qkv, Tensor::zeros({1, 3, 65536, 1}), {"65536", "65535"});
  forward(&F::qkv, Tensor::zeros({1, 3, 0, 4}), {"heads", "0"});
  forward(&F::qkv, Tensor::zeros({1, 3, 4, 0}), {"head size", "0"});
  forward(&F::qkv, Tensor(), {"qkv"});
  forward(&F::cu_seqlens, Tensor::zeros({3}), {"cu_seqlens", "f32", "i32"});
  forward(&F::cu_seqlens, integers({}), {"cu_seqlens", "[0]", "[B+1]"});
  forward(&F::sample, integers({1}), {"sample", "[1]", "[2]"});
  forward(&F::sample, Tensor(), {"sample", "[2]"});

  const auto backward = [&](Operand AttentionBackward::*field, const Tensor& wrong,
                            std::initializer_list<const char*> parts) {
    AttentionBackward args = c.backward();
    args.*field = wrong;
    expect_usage_error([&] { attention_backward(args); }, parts);
    expect_usage_error([&] { attention_backward_reference(args); }, parts);
  };
  using B = AttentionBackward;
  backward(&B::dout, Tensor::zeros({8, 2, 7}), {"dout", "[8, 2, 7]", "[8, 2, 8]"});
  backward(&B::dqkv, Tensor::zeros({8, 2, 8}), {"dqkv", "[8, 2, 8]", "[8, 3, 2, 8]"});
  backward(&B::lse, Tensor::zeros({8}), {"lse", "[8]", "[8, 2]"});
  backward(&B::out, Tensor::zeros({8, 16}), {"out", "[8, 16]", "[8, 2, 8]"});
}

TEST(AttentionErrors, NameBothTypes) {
  const Case c({3, 4}, 2, 8, 0.0f, 1, DType::bf16);
  const Tensor f32 = Tensor::zeros({8, 2, 8}), lse = Tensor::zeros({8, 2}, DType::bf16);
  AttentionForward forward = c.forward();
  forward.out = f32;
  expect_usage_error([&] { attention_forward(forward); }, {"out", "f32", "bf16"});
  forward = c.forward();
  forward.lse = lse;
  expect_usage_error([&] { attention_forward(forward); }, {"lse", "bf16", "f32"});
  forward = c.forward();
  const Tensor whole = Tensor::zeros({8, 3, 2, 8}, DType::i32);
  forward.qkv = whole;
  expect_usage_error([&] { attention_forward(forward); }, {"qkv", "i32", "f32, bf16 or f16"});
  AttentionBackward backward = c.backward();
  backward.dout = f32;
  expect_usage_error([&] { attention_backward(backward); }, {"dout", "f32", "bf16"});
}

TEST(AttentionErrors, ScaleIsAboveZero) {
  const Case c({3, 4}, 2, 8, 0.0f, 1);
  for (float scale : {0.0f, -0.125f, kNaN}) {
    AttentionForward forward = c.forward();
    AttentionBackward backward = c.backward();
    forward.scale = backward.scale = scale;
    expect_usage_error([&] { attention_forward(forward); }, {"scale", "above 0", "sqrt(8)"});
    expect_usage_error([&] { attention_backward(backward); }, {"scale", "above 0"});
  }
}

TEST(AttentionErrors, TakesAsManyHeadsAsTheCounterHolds) {
  const Case c({1}, 65535, 1, 0.1f);
  EXPECT_NO_THROW(attention_forward(c.forward()));
}

TEST(AttentionErrors, SampleIsOptionalWithoutDropout) {
  const Case c({3, 4}, 2, 8, 0.0f);
  AttentionForward args = c.forward();
  args.sample = Operand();
  EXPECT_NO_THROW(attention_forward(args));
}

}  // namespace
}  // namespace minibert::testing
