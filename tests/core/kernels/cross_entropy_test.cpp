// cross_entropy_test.cpp: loss, log-sum-exp and gradient in each type against the double reference,
// the reference against central differences, ignored rows, what is counted, and the cases that must
// not be hidden: NaN and infinities.
#include "core/kernels/cross_entropy.h"

#include <cmath>
#include <limits>

#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kScale = 0.37f, kUpstream = 1.5f;
// {classes, V}: one class, tails of every vector length, a column block and its neighbours, padding
constexpr int64_t kWidths[][2] = {{1, 1},       {2, 2},       {2, 64},       {7, 8},
                                  {17, 17},     {33, 64},     {1023, 1024},  {1024, 1024},
                                  {1025, 1088}, {4099, 4160}, {30522, 30528}};

class CrossEntropy : public EachLevel {};

std::vector<int32_t> random_labels(int64_t P, int64_t classes) {
  RandomStream stream(5, StreamPurpose::user, 77);
  std::vector<int32_t> label(static_cast<size_t>(P));
  for (int32_t& l : label) l = static_cast<int32_t>(stream.below(static_cast<uint32_t>(classes)));
  return label;
}

/// Tensors of both passes; the arguments point to them.
struct Rows {
  Tensor logits, label, lse, loss, dy, dlogits;
  int64_t classes;
  float scale = kScale;
  LossCounts counts = {};

  Rows(const Tensor& values, const std::vector<int32_t>& labels, int64_t n)
      : logits(values), label(integers(labels)), classes(n) {
    const int64_t P = logits.dim(0);
    lse = Tensor::empty({P});
    loss = Tensor::empty({});
    dy = Tensor::empty({});
    *dy.data<float>() = kUpstream;
    dlogits = Tensor::empty(logits.shape(), logits.dtype());
  }
  CrossEntropyForward forward() { return {logits, label, lse, loss, {&scale, &counts}, classes}; }
  CrossEntropyBackward backward() const {
    return {logits, label, lse, dy, dlogits, &scale, classes};
  }
  void run() {
    cross_entropy_forward(forward());
    cross_entropy_backward(backward());
  }
  float loss_of(int64_t p) const {  // of one row, unscaled, by a forward pass on that row alone
    Rows row(logits.rows(p, 1), {label.data<int32_t>()[p]}, classes);
    cross_entropy_forward(row.forward());
    return static_cast<float>(row.counts.loss_sum);
  }
};

// Logits with padding columns that would be noticed if they were read.
Rows make_rows(const Tensor& logits, const std::vector<int32_t>& label, int64_t classes,
               DType dtype = DType::f32) {
  const int64_t P = logits.dim(0), V = logits.dim(1);
  for (int64_t p = 0; p < P; ++p) {
    for (int64_t v = classes; v < V; ++v) logits.data<float>()[p * V + v] = kNaN;
  }
  return {dtype == DType::f32 ? logits : logits.to(dtype), label, classes};
}

Rows random_rows(int64_t P, int64_t classes, int64_t V, float spread, DType dtype = DType::f32) {
  return make_rows(random_tensor({P, V}, 1, spread), random_labels(P, classes), classes, dtype);
}

Rows one_row(const std::vector<float>& logits, int32_t label) {
  const auto n = static_cast<int64_t>(logits.size());
  return make_rows(Tensor::from<float>(logits, {1, n}), {label}, n);
}

void expect_counts(const LossCounts& got, const LossCounts& expected) {
  EXPECT_NEAR(got.loss_sum, expected.loss_sum,
              Tolerance::reduction * std::max(1.0, std::abs(expected.loss_sum)));
  EXPECT_EQ(got.rows, expected.rows);
  EXPECT_EQ(got.correct, expected.correct);
}

TEST_P(CrossEntropy, ForwardMatchesReference) {
  for (DType dtype : kComputeTypes) {
    for (const auto& [classes, V] : kWidths) {
      for (int64_t P : {0, 1, 5}) {
        for (float spread : {0.0f, 1.0f, 30.0f, 1e4f}) {
          SCOPED_TRACE(fmt::format("{} P {} classes {} V {} spread {}", name_of(dtype), P, classes,
                                   V, spread));
          Rows got = random_rows(P, classes, V, spread, dtype);
          Rows expected = random_rows(P, classes, V, spread, dtype);
          if (P == 5) got.label.data<int32_t>()[1] = expected.label.data<int32_t>()[1] = -1;
          const Guarded lse({P}, /* misaligned= */ true);
          got.lse = *lse;
          cross_entropy_forward(got.forward());
          cross_entropy_forward_reference(expected.forward());
          EXPECT_TRUE(near("lse", got.lse, expected.lse, Tolerance::reduction));
          EXPECT_TRUE(lse.intact());
          // Absolute below 1: log(1 + tiny) has no more digits.
          const double loss = expected.loss.item();
          EXPECT_NEAR(got.loss.item(), loss, Tolerance::reduction * std::max(1.0, loss));
          expect_counts(got.counts, expected.counts);
        }
      }
    }
  }
}

TEST_P(CrossEntropy, BackwardMatchesReference) {
  for (DType dtype : kComputeTypes) {
    for (const auto& [classes, V] : kWidths) {
      for (int64_t P : {0, 1, 5}) {
        for (float spread : {0.0f, 1.0f, 30.0f}) {
          SCOPED_TRACE(fmt::format("P {} classes {} V {} spread {}", P, classes, V, spread));
          Rows got = random_rows(P, classes, V, spread, dtype);
          if (P == 5) got.label.data<int32_t>()[1] = -1;
          const Guarded dlogits({P, V}, /* misaligned= */ true, dtype);
          got.dlogits = *dlogits;
          got.run();
          EXPECT_TRUE(dlogits.intact());
          Rows expected = got;  // the same logits as f32, so that the result is not rounded again
          expected.logits = got.logits.to(DType::f32);
          expected.dlogits = Tensor::empty({P, V});
          cross_entropy_backward_reference(expected.backward());
          EXPECT_TRUE(near_in("dlogits", *dlogits, expected.dlogits, Tolerance::gradient));
        }
      }
    }
  }
}

TEST_P(CrossEntropy, BackwardMayBeInPlace) {
  for (DType dtype : kComputeTypes) {
    Rows rows = random_rows(3, 33, 64, 2, dtype);
    rows.label.data<int32_t>()[1] = -1;
    rows.run();
    Rows in_place = rows;
    in_place.dlogits = in_place.logits;
    cross_entropy_backward(in_place.backward());
    EXPECT_TRUE(same_bits(in_place.dlogits, rows.dlogits));
  }
}

TEST_P(CrossEntropy, PaddingGetsZeroGradient) {
  for (DType dtype : kComputeTypes) {
    Rows rows = random_rows(3, 30, 64, 2, dtype);
    rows.run();
    const std::vector<float> dlogits = floats_of(rows.dlogits);
    for (size_t i = 0; i < dlogits.size(); ++i)
      EXPECT_EQ(dlogits[i] == 0, i % 64 >= 30) << name_of(dtype) << " " << i;
  }
}

// Each row with a label has the bits that it has alone; the others are as if they were not there.
TEST_P(CrossEntropy, IgnoredRowsAreAsIfTheyWereNotThere) {
  for (DType dtype : kComputeTypes) {
    const Rows clean = [&] {
      Rows rows = random_rows(5, 33, 64, 1, dtype);
      rows.run();
      return rows;
    }();
    Rows rows = random_rows(5, 33, 64, 1, dtype);
    const std::vector<int64_t> ignored = {0, 3};
    double kept = 0;
    for (int64_t p : {1, 2, 4}) kept += clean.loss_of(p);
    const Tensor poisoned = rows.logits.to(DType::f32);
    for (int64_t p : ignored) {
      rows.label.data<int32_t>()[p] = -1;
      std::fill_n(poisoned.data<float>() + p * 64, 64, p == 0 ? kNaN : kInfinity);
    }
    rows.logits = poisoned.to(dtype);
    rows.run();
    EXPECT_NEAR(rows.counts.loss_sum, kept, 1e-5);
    EXPECT_NEAR(rows.loss.item(), kept * kScale, 1e-5);
    EXPECT_EQ(rows.counts.rows, 3);
    for (int64_t p : {1, 2, 4})
      EXPECT_TRUE(same_bits(rows.dlogits.rows(p, 1), clean.dlogits.rows(p, 1)));
    for (int64_t p : ignored) {
      EXPECT_EQ(rows.lse.data<float>()[p], 0);
      for (float dx : floats_of(rows.dlogits.rows(p, 1))) EXPECT_EQ(dx, 0);
    }
  }
}

TEST_P(CrossEntropy, AllRowsIgnoredIsNoLoss) {
  for (DType dtype : kComputeTypes) {
    Rows rows = random_rows(3, 33, 64, 1, dtype);
    rows.label = integers({-1, -1, -1});
    rows.run();
    EXPECT_EQ(rows.loss.item(), 0);
    EXPECT_EQ(rows.counts.loss_sum, 0);
    EXPECT_EQ(rows.counts.rows, 0);
    EXPECT_EQ(rows.counts.correct, 0);
    for (float dx : floats_of(rows.dlogits)) EXPECT_EQ(dx, 0);
  }
}

TEST_P(CrossEntropy, CountsAddUpOverCallsAndMayBeLeftOut) {
  Rows rows = random_rows(5, 33, 64, 1);
  cross_entropy_forward(rows.forward());
  const LossCounts once = rows.counts;
  EXPECT_EQ(once.rows, 5);
  const Tensor loss = rows.loss.clone();
  cross_entropy_forward(rows.forward());
  EXPECT_EQ(rows.counts.rows, 10);
  EXPECT_EQ(rows.counts.correct, 2 * once.correct);
  EXPECT_EQ(rows.counts.loss_sum, 2 * once.loss_sum);
  CrossEntropyForward uncounted = rows.forward();
  uncounted.site.counts = nullptr;
  cross_entropy_forward(uncounted);
  EXPECT_EQ(rows.counts.rows, 10);
  EXPECT_TRUE(same_bits(rows.loss, loss));
}

TEST_P(CrossEntropy, GradientOfASureRightRowKeepsItsDigits) {
  Rows rows = one_row({30, 0, 0, 0}, 0);  // softmax is 1 - 3 e^-30
  rows.run();
  const double expected = -3 * std::exp(-30.0) * kScale * kUpstream;
  // lse = 30 + 3e-13 rounds to 30: the loss is lost, and so is its gradient, but nothing is noise
  EXPECT_NEAR(rows.dlogits.data<float>()[0], expected, 1e-12);
  EXPECT_EQ(rows.counts.correct, 1);
}

TEST_P(CrossEntropy, ANotANumberIsNeverHidden) {
  for (DType dtype : kComputeTypes) {
    for (int64_t classes : {1, 2, 16, 40, 2000}) {
      for (int64_t at : {int64_t{0}, classes / 2, classes - 1}) {
        SCOPED_TRACE(fmt::format("{} classes {} NaN at {}", name_of(dtype), classes, at));
        Rows clean = random_rows(3, classes, classes, 1, dtype);
        const Tensor poisoned = random_tensor({3, classes}, 1);
        poisoned.data<float>()[classes + at] = kNaN;
        Rows rows = make_rows(poisoned, random_labels(3, classes), classes, dtype);
        clean.run();
        rows.run();
        EXPECT_TRUE(std::isnan(rows.lse.data<float>()[1]));
        EXPECT_TRUE(std::isnan(rows.loss.item()));
        EXPECT_TRUE(std::isnan(rows.counts.loss_sum));
        EXPECT_EQ(rows.counts.rows, 3);
        for (float dx : floats_of(rows.dlogits.rows(1, 1))) EXPECT_TRUE(std::isnan(dx));
        for (int64_t other : {0, 2}) {
          EXPECT_TRUE(same_bits(rows.lse.slice(other, {1}), clean.lse.slice(other, {1})));
          EXPECT_TRUE(same_bits(rows.dlogits.rows(other, 1), clean.dlogits.rows(other, 1)));
        }
      }
    }
  }
}

TEST_P(CrossEntropy, ARowWithANotANumberIsNoHit) {
  for (const std::vector<float>& logits :
       {std::vector<float>{3, kNaN, 1}, {3, 1, kNaN}, {kNaN, 1, 0}}) {
    Rows rows = one_row(logits, 0);
    cross_entropy_forward(rows.forward());
    EXPECT_EQ(rows.counts.rows, 1);
    EXPECT_EQ(rows.counts.correct, 0);
  }
}

TEST_P(CrossEntropy, InfinitiesGiveNaNUnlessTheyMeanProbabilityZero) {
  for (const std::vector<float>& logits :
       {std::vector<float>{0, kInfinity, 1},
        std::vector<float>{-kInfinity, -kInfinity, -kInfinity}}) {
    Rows rows = one_row(logits, 0);
    rows.run();
    EXPECT_TRUE(std::isnan(rows.loss.item()));
    EXPECT_TRUE(std::isnan(rows.dlogits.data<float>()[0]));
  }
  Rows masked = one_row({0, -kInfinity, 0}, 2);
  masked.run();
  EXPECT_NEAR(masked.counts.loss_sum, std::log(2.0), 1e-6);
  EXPECT_EQ(masked.dlogits.data<float>()[1], 0.0f);
  Rows impossible = one_row({0, -kInfinity, 0}, 1);
  impossible.run();
  EXPECT_EQ(impossible.loss.item(), kInfinity);
}

TEST_P(CrossEntropy, CorrectMeansTheFirstOfTheLargest) {
  const int64_t expected[] = {0, 1, 0, 0, 0};
  for (int64_t shift : {0, 19}) {  // beyond a vector too
    for (int32_t label = 0; label < 5; ++label) {
      std::vector<float> logits(static_cast<size_t>(shift), -1);
      for (float x : {1, 3, 2, 3, 3}) logits.push_back(x);
      Rows rows = one_row(logits, static_cast<int32_t>(shift) + label);
      cross_entropy_forward(rows.forward());
      EXPECT_EQ(rows.counts.correct, expected[label]) << label;
    }
  }
}

TEST_P(CrossEntropy, ThreadsDoNotMatter) {
  for (DType dtype : kComputeTypes) {
    Rows rows = random_rows(37, 4099, 4160, 3, dtype);  // three blocks of rows
    for (const Tensor& output : {rows.lse, rows.loss, rows.dlogits})
      EXPECT_TRUE(threads_do_not_matter(output, [&] { rows.run(); }));
  }
}

// The reference is the formula of the contract; its gradient is checked against its loss.
TEST(CrossEntropyReference, GradientMatchesCentralDifferences) {
  const int64_t C = 11;
  Rows rows = random_rows(2, C, 16, 1);
  rows.label.data<int32_t>()[1] = -1;
  cross_entropy_forward_reference(rows.forward());
  cross_entropy_backward_reference(rows.backward());
  float* x = rows.logits.data<float>();
  for (int64_t p : {0, 1}) {
    for (int64_t v = 0; v < C; ++v) {
      float& place = x[p * 16 + v];
      const float before = place, h = 1.0f / 256;
      float loss[2];
      for (int side : {0, 1}) {
        place = before + (side == 0 ? -h : h);
        cross_entropy_forward_reference(rows.forward());
        loss[side] = rows.loss.item();
      }
      place = before;
      EXPECT_NEAR(rows.dlogits.data<float>()[p * 16 + v], (loss[1] - loss[0]) / (2 * h) * kUpstream,
                  Tolerance::gradcheck);
    }
  }
}

TEST(CrossEntropyErrors, RejectShapesAndTypesThatDisagree) {
  Rows rows = random_rows(3, 30, 64, 1);
  const auto refuses = [&](auto change) {
    CrossEntropyForward args = rows.forward();
    change(args);
    EXPECT_THROW(cross_entropy_forward(args), UsageError);
  };
  const Tensor four = Tensor::zeros({4}), three = Tensor::zeros({3}),
               narrow = Tensor::zeros({3, 30}), half = Tensor::zeros({3, 64}, DType::bf16);
  for (int64_t classes : {0, 65, -1})
    refuses([&](CrossEntropyForward& args) { args.classes = classes; });
  refuses([&](CrossEntropyForward& args) { args.lse = four; });
  refuses([&](CrossEntropyForward& args) { args.loss = three; });
  refuses([&](CrossEntropyForward& args) { args.label = three; });
  refuses([&](CrossEntropyForward& args) { args.logits = rows.label; });
  refuses([&](CrossEntropyForward& args) { args.site.scale = nullptr; });
  const auto refuses_backward = [&](auto change) {
    CrossEntropyBackward args = rows.backward();
    change(args);
    EXPECT_THROW(cross_entropy_backward(args), UsageError);
  };
  refuses_backward([&](CrossEntropyBackward& args) { args.dlogits = narrow; });
  refuses_backward([&](CrossEntropyBackward& args) { args.dlogits = half; });
  refuses_backward([&](CrossEntropyBackward& args) { args.dy = three; });
  refuses_backward([&](CrossEntropyBackward& args) { args.lse = {}; });
  refuses_backward([&](CrossEntropyBackward& args) { args.scale = nullptr; });
}

INSTANTIATE_TEST_SUITE_P(Simd, CrossEntropy, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
