// attention_test.cpp: attention against the double reference at every instruction set, the
// reference against a formula of its own and central differences, and what must not matter:
// packing, threads, tail rows.
#include "core/kernels/attention.h"

#include <bit>
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

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr uint64_t kSeed = 0xFEDCBA9876543210ull;

Dropout attention_dropout(float p) {
  return make_dropout(p, kSeed, kMaxDataStep, 23, DropoutPurpose::attention);
}

// Random inputs for sequences of these lengths, with `tail` more rows, and guarded outputs.
struct Case {
  std::vector<int32_t> lengths;
  int64_t A, D;
  float p;
  int64_t tail = 0;
  int64_t T = 0;
  std::vector<int32_t> first, number;
  Tensor qkv, dout;
  Guarded out, lse, dqkv;

  Case(std::vector<int32_t> lengths, int64_t A, int64_t D, float p, int64_t tail = 0)
      : lengths(lengths),
        A(A),
        D(D),
        p(p),
        tail(tail),
        T(sum(lengths)),
        qkv(Tensor::empty({T + tail, 3, A, D})),
        dout(Tensor::empty({T + tail, A, D})),
        out({T + tail, A, D}, true),
        lse({T + tail, A}, true),
        dqkv({T + tail, 3, A, D}, true) {
    first.push_back(0);
    for (int32_t length : lengths) {
      first.push_back(first.back() + length);
      number.push_back(static_cast<int32_t>(number.size() * 1000003 + 5));
    }
    fill_normal(qkv.rows(0, T), 1);
    fill_normal(dout.rows(0, T), 2);
    for (const Tensor& t : {qkv, dout})
      for (float& x : t.rows(T, tail).span<float>()) x = kNaN;
  }

  static int64_t sum(const std::vector<int32_t>& lengths) {
    int64_t total = 0;
    for (int32_t length : lengths) total += length;
    return total;
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(D)); }
  AttentionForward forward() const {
    return {qkv, *out, *lse, integers(first), integers(number), scale(), attention_dropout(p)};
  }
  AttentionBackward backward() const {
    return {qkv,
            *out,
            *lse,
            dout,
            *dqkv,
            integers(first),
            integers(number),
            scale(),
            attention_dropout(p)};
  }
  bool intact() const { return out.intact() && lse.intact() && dqkv.intact(); }
};

// Query, key or value part of a [N, 3, A, D] tensor, as a tensor of its own.
Tensor part(const Tensor& qkv, int64_t which) {
  const int64_t N = qkv.dim(0), width = qkv.dim(2) * qkv.dim(3);
  const Tensor t = Tensor::empty({N, width});
  for (int64_t n = 0; n < N; ++n)
    for (int64_t c = 0; c < width; ++c)
      t.data<float>()[n * width + c] = qkv.data<float>()[(n * 3 + which) * width + c];
  return t;
}

void expect_matches_reference(const Case& c) {
  SCOPED_TRACE(fmt::format("T {} A {} D {} p {} tail {}", c.T, c.A, c.D, c.p, c.tail));
  attention_forward(c.forward());
  attention_backward(c.backward());
  AttentionForward forward = c.forward();
  forward.out = Tensor::empty(c.out->shape());
  forward.lse = Tensor::empty(c.lse->shape());
  attention_forward_reference(forward);
  AttentionBackward backward = c.backward();
  backward.dqkv = Tensor::empty(c.dqkv->shape());
  attention_backward_reference(backward);
  EXPECT_TRUE(near("out", *c.out, forward.out, Tolerance::reduction));
  EXPECT_TRUE(near("lse", *c.lse, forward.lse, Tolerance::reduction));
  const char* names[] = {"dq", "dk", "dv"};
  for (int64_t which = 0; which < 3; ++which) {
    EXPECT_TRUE(
        near(names[which], part(*c.dqkv, which), part(backward.dqkv, which), Tolerance::gradient));
  }
  EXPECT_TRUE(c.intact());
}

class Attention : public EachLevel {};

const std::vector<int32_t> kRagged = {0, 1, 7, 16, 17, 63, 64, 65, 0, 128, 200};

TEST_P(Attention, MatchesReferenceForRaggedSequences) {
  for (float p : {0.0f, 0.1f, 0.5f}) expect_matches_reference(Case(kRagged, 2, 64, p));
  expect_matches_reference(Case(kRagged, 3, 32, 0.1f, 3));
  expect_matches_reference(Case(kRagged, 1, 128, 0.1f, 3));
  expect_matches_reference(Case({512}, 1, 64, 0.1f));
}

TEST_P(Attention, MatchesReferenceForAnyHeadSize) {
  for (int64_t D : {1, 2, 3, 15, 16, 17, 20, 31, 33, 63, 65, 96, 127, 129, 160, 255, 256}) {
    expect_matches_reference(Case({5, 0, 34, 1, 49}, 2, D, 0.1f, 1));
    expect_matches_reference(Case({19, 2}, 3, D, 0.0f));
  }
}

TEST_P(Attention, EveryLengthMatchesReference) {
  for (int32_t length = 1; length <= 50; ++length)
    expect_matches_reference(Case({length}, 1, 8, 0.25f, 1));
}

TEST_P(Attention, EmptyBatchesAreFine) {
  for (const Case& c :
       {Case({}, 2, 64, 0.1f), Case({0}, 2, 64, 0.1f), Case({0, 0}, 1, 7, 0.0f, 5)}) {
    attention_forward(c.forward());
    attention_backward(c.backward());
    for (const Tensor& t : {*c.out, *c.lse, *c.dqkv})
      for (float x : t.span<float>()) EXPECT_EQ(x, 0.0f);
    EXPECT_TRUE(c.intact());
  }
}

TEST_P(Attention, ThreadsDoNotMatter) {
  const Case c({33, 128, 1, 65}, 3, 64, 0.1f);
  EXPECT_TRUE(threads_do_not_matter(*c.out, [&] { attention_forward(c.forward()); }));
  EXPECT_TRUE(threads_do_not_matter(*c.dqkv, [&] { attention_backward(c.backward()); }));
}

// The same sequence alone and behind others: the same mask, and the same bits of everything.
TEST_P(Attention, PackingDoesNotMatter) {
  Case alone({37}, 2, 64, 0.3f), packed({5, 50, 37, 16}, 2, 64, 0.3f);
  alone.number = {4321};
  packed.number[2] = 4321;
  packed.qkv.rows(55, 37).copy_from(alone.qkv);
  packed.dout.rows(55, 37).copy_from(alone.dout);
  for (const Case* c : {&alone, &packed}) {
    attention_forward(c->forward());
    attention_backward(c->backward());
  }
  EXPECT_TRUE(same_bits(*alone.out, packed.out->rows(55, 37)));
  EXPECT_TRUE(same_bits(*alone.lse, packed.lse->rows(55, 37)));
  EXPECT_TRUE(same_bits(*alone.dqkv, packed.dqkv->rows(55, 37)));
  alone.number = {4322};  // and another sample has another mask
  attention_forward(alone.forward());
  EXPECT_FALSE(same_bits(*alone.out, packed.out->rows(55, 37)));
}

TEST_P(Attention, PoisonedTailRowsChangeNoBit) {
  for (int64_t D : {64, 20}) {
    const Case plain({33, 7, 128}, 2, D, 0.1f);
    attention_forward(plain.forward());
    attention_backward(plain.backward());
    for (int64_t tail : {1, 64, 1000}) {
      const Case poisoned({33, 7, 128}, 2, D, 0.1f, tail);
      attention_forward(poisoned.forward());
      for (const Tensor& t : {*poisoned.out, *poisoned.lse}) {
        for (float& x : t.rows(plain.T, tail).span<float>()) {
          EXPECT_EQ(x, 0.0f);
          x = kNaN;
        }
      }
      attention_backward(poisoned.backward());
      EXPECT_TRUE(same_bits(*plain.out, poisoned.out->rows(0, plain.T)));
      EXPECT_TRUE(same_bits(*plain.lse, poisoned.lse->rows(0, plain.T)));
      EXPECT_TRUE(same_bits(*plain.dqkv, poisoned.dqkv->rows(0, plain.T)));
      for (float x : poisoned.dqkv->rows(plain.T, tail).span<float>()) EXPECT_EQ(x, 0.0f);
    }
  }
}

// With q = 0 all probabilities are 1 / S; with v (or dout) the identity, out_ij = p_ij m_ij and
// dv_ji = p_ij m_ij: the kernel's mask can be read off, and must be the exported one.
TEST_P(Attention, MaskIsTheExportedOne) {
  const int64_t S = 201, A = 2, D = 256;
  for (float p : {0.1f, 0.5f, 1.0f / 65536, 65535.0f / 65536}) {
    Case c({S}, A, D, p);
    c.number = {-7};
    c.qkv.fill_zero();
    c.dout.fill_zero();
    for (int64_t i = 0; i < S; ++i) {
      for (int64_t a = 0; a < A; ++a) {
        c.qkv.data<float>()[((i * 3 + 2) * A + a) * D + i] = 1;
        c.dout.data<float>()[(i * A + a) * D + i] = 1;
      }
    }
    attention_forward(c.forward());
    attention_backward(c.backward());
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
  attention_forward(c.forward());
  attention_backward(c.backward());
  AttentionForward reference = c.forward();
  reference.out = Tensor::empty(c.out->shape());
  reference.lse = Tensor::empty(c.lse->shape());
  attention_forward_reference(reference);
  EXPECT_TRUE(near("lse", *c.lse, reference.lse, Tolerance::reduction));
  EXPECT_GT(reference.lse.data<float>()[0], 1000.0f);
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
          // The counter in words, as core/random.h lays it out.
          const PhiloxOutput words =
              philox4x32({static_cast<uint32_t>(j / 2),
                          static_cast<uint32_t>((i / 16 * 16 + i % 8) | (a << 16)), sample,
                          dropout.step_layer_purpose},
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
    c.number = {12};
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

TEST(AttentionCost, CountsTwoAndFiveProducts) {
  const Case c({3, 0, 10}, 2, 8, 0.0f, 4);
  EXPECT_EQ(attention_forward_flops(c.forward()), 2.0 * 2 * 2 * 8 * (9 + 100));
  EXPECT_EQ(attention_backward_flops(c.backward()), 5.0 * 2 * 2 * 8 * (9 + 100));
}

TEST(AttentionCost, IsReportedToTheProfile) {
  const Case c({3, 0, 10}, 2, 8, 0.0f, 4);
  set_profiling(true);
  attention_forward(c.forward());
  attention_backward(c.backward());
  set_profiling(false);
  const auto entries = profile_entries();
  const ProfileEntry forward = entries.at("attention_forward"),
                     backward = entries.at("attention_backward");
  EXPECT_EQ(forward.flops, attention_forward_flops(c.forward()));
  EXPECT_EQ(backward.flops, attention_backward_flops(c.backward()));
  EXPECT_EQ(forward.bytes, 4.0 * 13 * 2 * (4 * 8 + 1));
  EXPECT_EQ(backward.bytes, 4.0 * 13 * 2 * (9 * 8 + 1));
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
  const auto forward = [&](auto change, std::initializer_list<const char*> parts) {
    AttentionForward args = c.forward();
    change(args);
    expect_usage_error([&] { attention_forward(args); }, parts);
    expect_usage_error([&] { attention_forward_reference(args); }, parts);
  };
  forward([](auto& a) { a.out = Tensor::zeros({7, 2, 8}); }, {"out", "[7, 2, 8]", "[8, 2, 8]"});
  forward([](auto& a) { a.lse = Tensor::zeros({8, 3}); }, {"lse", "[8, 3]", "[8, 2]"});
  forward([](auto& a) { a.qkv = Tensor::zeros({8, 2, 2, 8}); }, {"qkv", "[8, 2, 2, 8]"});
  forward([](auto& a) { a.qkv = Tensor::zeros({8, 3, 2, 257}); }, {"257", "256"});
  forward([](auto& a) { a.cu_seqlens = integers({0, 3, 9}); }, {"cu_seqlens", "9", "8"});
  forward([](auto& a) { a.cu_seqlens = integers({0, 3, 2}); }, {"cu_seqlens", "falls", "3", "2"});
  forward([](auto& a) { a.cu_seqlens = integers({1, 3, 7}); }, {"cu_seqlens", "starts with 1"});
  forward([](auto& a) { a.sample = integers({1}); }, {"sample", "[1]", "[2]"});
  forward([](auto& a) { a.sample = Tensor(); }, {"sample", "[2]"});
  forward([](auto& a) { a.qkv = Tensor(); }, {"qkv"});

  const auto backward = [&](auto change, std::initializer_list<const char*> parts) {
    AttentionBackward args = c.backward();
    change(args);
    expect_usage_error([&] { attention_backward(args); }, parts);
    expect_usage_error([&] { attention_backward_reference(args); }, parts);
  };
  backward([](auto& a) { a.dout = Tensor::zeros({8, 2, 7}); }, {"dout", "[8, 2, 7]", "[8, 2, 8]"});
  backward(
      [](auto& a) {
        a.dqkv = Tensor::zeros({8, 2, 8});
      },
      {"dqkv", "[8, 2, 8]", "[8, 3, 2, 8]"});
  backward([](auto& a) { a.lse = Tensor::zeros({8}); }, {"lse", "[8]", "[8, 2]"});
  backward([](auto& a) { a.out = Tensor::zeros({8, 16}); }, {"out", "[8, 16]", "[8, 2, 8]"});
}

TEST(AttentionErrors, RefuseSizesThatTheCounterCannotHold) {
  const auto forward = [](int64_t N, int64_t A, int64_t D, float p) {
    const Tensor qkv = Tensor::zeros({N, 3, A, D}), out = Tensor::zeros({N, A, D});
    attention_forward({qkv, out, Tensor::zeros({N, A}), integers({0, static_cast<int32_t>(N)}),
                       integers({0}), 1.0f, attention_dropout(p)});
  };
  expect_usage_error([&] { forward(65537, 1, 1, 0.1f); }, {"65537", "65536"});
  expect_usage_error([&] { forward(1, 65536, 1, 0.1f); }, {"65536", "65535"});
  EXPECT_NO_THROW(forward(1, 65535, 1, 0.1f));
  expect_usage_error([&] { forward(1, 0, 4, 0.0f); }, {"heads", "0"});
  expect_usage_error([&] { forward(1, 4, 0, 0.0f); }, {"head size", "0"});
}

TEST(AttentionErrors, SampleIsOptionalWithoutDropout) {
  const Case c({3, 4}, 2, 8, 0.0f);
  AttentionForward args = c.forward();
  args.sample = Tensor();
  EXPECT_NO_THROW(attention_forward(args));
}

}  // namespace
}  // namespace minibert::testing
