// cross_entropy_test.cpp: loss, log-sum-exp and gradient against the double reference, the
// reference against central differences, and the cases that must not be hidden: NaN, infinities,
// bad labels.
#include "core/kernels/cross_entropy.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
// {classes, V}: one class, tails of every vector length, a column block and its neighbours, padding
constexpr int64_t kWidths[][2] = {{1, 1},       {2, 2},       {2, 64},       {7, 8},
                                  {17, 17},     {33, 64},     {1023, 1024},  {1024, 1024},
                                  {1025, 1088}, {4099, 4160}, {30522, 30528}};

class CrossEntropy : public EachLevel {};

struct Rows {
  CrossEntropyForward forward;
  CrossEntropyBackward backward;
};

Tensor random_labels(int64_t P, int64_t classes) {
  RandomStream stream(5, StreamPurpose::user, 77);
  std::vector<int32_t> label(static_cast<size_t>(P));
  for (int32_t& l : label) l = static_cast<int32_t>(stream.below(static_cast<uint32_t>(classes)));
  return integers(label);
}

// Logits with padding columns that would be noticed if they were read.
Rows make_rows(const Tensor& logits, const Tensor& label, int64_t classes) {
  const int64_t P = logits.dim(0), V = logits.dim(1);
  for (int64_t p = 0; p < P; ++p) {
    for (int64_t v = classes; v < V; ++v) logits.data<float>()[p * V + v] = kNaN;
  }
  Rows rows;
  rows.forward = {
      logits, label, Tensor::empty({P}), Tensor::empty({P}), Tensor::empty({P}, DType::u8),
      classes};
  rows.backward = {logits, label, rows.forward.lse, Tensor::empty({P, V}), classes, 0.37f};
  return rows;
}

Rows random_rows(int64_t P, int64_t classes, int64_t V, float spread) {
  return make_rows(random_tensor({P, V}, 1, spread), random_labels(P, classes), classes);
}

Rows one_row(const std::vector<float>& logits, int32_t label) {
  const auto n = static_cast<int64_t>(logits.size());
  return make_rows(Tensor::from<float>(logits, {1, n}), integers({label}), n);
}

void run(const Rows& rows) {
  cross_entropy_forward(rows.forward);
  cross_entropy_backward(rows.backward);
}

TEST_P(CrossEntropy, ForwardMatchesReference) {
  for (const auto& [classes, V] : kWidths) {
    for (int64_t P : {0, 1, 5}) {
      for (float spread : {0.0f, 1.0f, 30.0f, 1e4f}) {
        SCOPED_TRACE(fmt::format("P {} classes {} V {} spread {}", P, classes, V, spread));
        const Rows got = random_rows(P, classes, V, spread);
        const Rows expected = random_rows(P, classes, V, spread);
        cross_entropy_forward(got.forward);
        cross_entropy_forward_reference(expected.forward);
        EXPECT_TRUE(near("lse", got.forward.lse, expected.forward.lse, Tolerance::reduction));
        for (int64_t p = 0; p < P; ++p) {  // absolute below 1: log(1 + tiny) has no more digits
          const double loss = expected.forward.row_loss.data<float>()[p];
          EXPECT_NEAR(got.forward.row_loss.data<float>()[p], loss,
                      Tolerance::reduction * std::max(1.0, loss));
        }
        EXPECT_TRUE(same_bits(got.forward.correct, expected.forward.correct));
      }
    }
  }
}

TEST_P(CrossEntropy, BackwardMatchesReference) {
  for (const auto& [classes, V] : kWidths) {
    for (int64_t P : {0, 1, 5}) {
      for (float spread : {0.0f, 1.0f, 30.0f}) {
        SCOPED_TRACE(fmt::format("P {} classes {} V {} spread {}", P, classes, V, spread));
        Rows got = random_rows(P, classes, V, spread);
        Guarded dlogits({P, V}, /* misaligned= */ true);
        got.backward.dlogits = *dlogits;
        run(got);
        EXPECT_TRUE(dlogits.intact());
        Rows expected = random_rows(P, classes, V, spread);
        expected.backward.lse = got.forward.lse;
        cross_entropy_backward_reference(expected.backward);
        EXPECT_TRUE(near("dlogits", *dlogits, expected.backward.dlogits, Tolerance::gradient));
      }
    }
  }
}

TEST_P(CrossEntropy, BackwardMayBeInPlace) {
  const Rows rows = random_rows(3, 33, 64, 2);
  run(rows);
  CrossEntropyBackward in_place = rows.backward;
  in_place.dlogits = in_place.logits;
  cross_entropy_backward(in_place);
  EXPECT_TRUE(same_bits(in_place.dlogits, rows.backward.dlogits));
}

TEST_P(CrossEntropy, PaddingGetsZeroGradient) {
  const Rows rows = random_rows(3, 30, 64, 2);
  run(rows);
  for (int64_t p = 0; p < 3; ++p) {
    for (int64_t v = 30; v < 64; ++v)
      EXPECT_EQ(rows.backward.dlogits.data<float>()[p * 64 + v], 0.0f);
  }
}

TEST_P(CrossEntropy, GradientOfASureRightRowKeepsItsDigits) {
  const Rows rows = one_row({30, 0, 0, 0}, 0);  // softmax is 1 - 3 e^-30
  run(rows);
  const double expected = -3 * std::exp(-30.0) * 0.37;
  // lse = 30 + 3e-13 rounds to 30: the loss is lost, and so is its gradient, but nothing is noise
  EXPECT_NEAR(rows.backward.dlogits.data<float>()[0], expected, 1e-12);
  EXPECT_EQ(rows.forward.correct.data<uint8_t>()[0], 1);
}

TEST_P(CrossEntropy, ANotANumberIsNeverHidden) {
  for (int64_t classes : {1, 2, 16, 40, 2000}) {
    for (int64_t at : {int64_t{0}, classes / 2, classes - 1}) {
      SCOPED_TRACE(fmt::format("classes {} NaN at {}", classes, at));
      const Rows clean = random_rows(3, classes, classes, 1),
                 rows = random_rows(3, classes, classes, 1);
      rows.forward.logits.data<float>()[classes + at] = kNaN;
      run(clean);
      run(rows);
      EXPECT_TRUE(std::isnan(rows.forward.lse.data<float>()[1]));
      EXPECT_TRUE(std::isnan(rows.forward.row_loss.data<float>()[1]));
      EXPECT_EQ(rows.forward.correct.data<uint8_t>()[1], 0);
      for (float dx : rows.backward.dlogits.rows(1, 1).span<float>()) EXPECT_TRUE(std::isnan(dx));
      for (int64_t other : {0, 2}) {
        EXPECT_TRUE(same_bits(rows.forward.row_loss.slice(other, {1}),
                              clean.forward.row_loss.slice(other, {1})));
        EXPECT_TRUE(
            same_bits(rows.backward.dlogits.rows(other, 1), clean.backward.dlogits.rows(other, 1)));
      }
    }
  }
}

TEST_P(CrossEntropy, InfinitiesGiveNaNUnlessTheyMeanProbabilityZero) {
  for (const std::vector<float>& logits :
       {std::vector<float>{0, kInfinity, 1},
        std::vector<float>{-kInfinity, -kInfinity, -kInfinity}}) {
    const Rows rows = one_row(logits, 0);
    run(rows);
    EXPECT_TRUE(std::isnan(rows.forward.row_loss.data<float>()[0]));
    EXPECT_TRUE(std::isnan(rows.backward.dlogits.data<float>()[0]));
  }
  const Rows masked = one_row({0, -kInfinity, 0}, 2);
  run(masked);
  EXPECT_NEAR(masked.forward.row_loss.data<float>()[0], std::log(2.0), 1e-6);
  EXPECT_EQ(masked.backward.dlogits.data<float>()[1], 0.0f);
  const Rows impossible = one_row({0, -kInfinity, 0}, 1);
  run(impossible);
  EXPECT_EQ(impossible.forward.row_loss.data<float>()[0], kInfinity);
}

TEST_P(CrossEntropy, CorrectMeansTheFirstOfTheLargest) {
  const std::vector<float> logits = {1, 3, 2, 3, 3};
  const uint8_t expected[] = {0, 1, 0, 0, 0};
  for (int32_t label = 0; label < 5; ++label) {
    const Rows rows = one_row(logits, label);
    cross_entropy_forward(rows.forward);
    EXPECT_EQ(rows.forward.correct.data<uint8_t>()[0], expected[label]) << label;
  }
}

TEST_P(CrossEntropy, ThreadsDoNotMatter) {
  const Rows rows = random_rows(37, 4099, 4160, 3);
  EXPECT_TRUE(threads_do_not_matter(rows.forward.lse, [&] { run(rows); }));
  EXPECT_TRUE(threads_do_not_matter(rows.backward.dlogits, [&] { run(rows); }));
}

// The reference is the formula of the contract; its gradient is checked against its loss.
TEST(CrossEntropyReference, GradientMatchesCentralDifferences) {
  const int64_t C = 11;
  const Rows rows = random_rows(1, C, 16, 1);
  cross_entropy_forward_reference(rows.forward);
  cross_entropy_backward_reference(rows.backward);
  float* x = rows.forward.logits.data<float>();
  for (int64_t v = 0; v < C; ++v) {
    const float before = x[v], h = 1.0f / 256;
    float loss[2];
    for (int side : {0, 1}) {
      x[v] = before + (side == 0 ? -h : h);
      cross_entropy_forward_reference(rows.forward);
      loss[side] = rows.forward.row_loss.data<float>()[0];
    }
    x[v] = before;
    EXPECT_NEAR(rows.backward.dlogits.data<float>()[v], (loss[1] - loss[0]) / (2 * h) * 0.37,
                Tolerance::gradcheck);
  }
}

TEST(CrossEntropyErrors, NameTheFirstLabelOutsideTheClasses) {
  for (int32_t bad : {-1, 30, 63}) {  // 30 .. 63 are padding columns
    Rows rows = random_rows(3, 30, 64, 1);
    rows.forward.label = rows.backward.label = integers({29, bad, -7});
    try {
      cross_entropy_forward(rows.forward);
      FAIL() << "label " << bad << " was accepted";
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr(fmt::format("label 1 is {}, expected 0 to 29", bad)));
    }
    EXPECT_THROW(cross_entropy_backward(rows.backward), DataError);
  }
}

TEST(CrossEntropyErrors, RejectShapesAndTypesThatDisagree) {
  const Rows good = random_rows(3, 30, 64, 1);
  for (int64_t classes : {int64_t{0}, int64_t{65}, int64_t{-1}}) {
    CrossEntropyForward args = good.forward;
    args.classes = classes;
    EXPECT_THROW(cross_entropy_forward(args), UsageError);
  }
  CrossEntropyForward args = good.forward;
  args.row_loss = Tensor::zeros({4});
  EXPECT_THROW(cross_entropy_forward(args), UsageError);
  args = good.forward;
  args.correct = Tensor::zeros({3});
  EXPECT_THROW(cross_entropy_forward(args), UsageError);
  args = good.forward;
  args.label = Tensor::zeros({3});
  EXPECT_THROW(cross_entropy_forward(args), UsageError);
  CrossEntropyBackward backward = good.backward;
  backward.dlogits = Tensor::zeros({3, 30});
  EXPECT_THROW(cross_entropy_backward(backward), UsageError);
  backward = good.backward;
  backward.lse = Tensor();
  EXPECT_THROW(cross_entropy_backward(backward), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Simd, CrossEntropy, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
