// optimizer_test.cpp: steps against the double reference over tensors of odd sizes with poisoned
// gaps between them, norms against a loop in double, and the edge cases of the trust ratio.
// Trajectories and named optimizers: tests/optim/optimizer_test.cpp.
#include "core/kernels/optimizer.h"

#include <cmath>
#include <limits>

#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr int64_t kCounts[] = {1,
                               3,
                               0,
                               15,
                               16,
                               17,
                               63,
                               kOptimizerChunk - 1,
                               kOptimizerChunk,
                               kOptimizerChunk + 1,
                               2 * kOptimizerChunk + 5};

class OptimizerKernel : public EachLevel {};

// Buffers with tensors of kCounts elements, `gap` elements of NaN before each and after the last.
OptimizerStepArgs random_step(int64_t gap) {
  OptimizerStepArgs args;
  int64_t size = gap;
  for (int64_t count : kCounts) {
    const bool decays = args.tensors.size() % 3 != 1;
    args.tensors.push_back({size, count, decays ? 0.01f : 0.0f, decays});
    size += count + gap;
  }
  args.weights = random_tensor({size}, 1, 0.05f);
  args.gradients = random_tensor({size}, 2, 0.01f);
  args.first_moment = random_tensor({size}, 3, 0.01f);
  args.second_moment = random_tensor({size}, 4, 0.01f);
  for (float& v : args.second_moment.span<float>()) v *= v;
  std::vector<bool> used(static_cast<size_t>(size), false);
  for (const OptimizerTensor& t : args.tensors)
    std::fill(used.begin() + t.offset, used.begin() + t.offset + t.count, true);
  for (const Tensor* buffer :
       {&args.weights, &args.gradients, &args.first_moment, &args.second_moment}) {
    for (int64_t i = 0; i < size; ++i) {
      if (!used[static_cast<size_t>(i)]) buffer->data<float>()[i] = kNaN;
    }
  }
  args.adam = {.beta1 = 0.9,
               .beta2 = 0.999,
               .eps = 1e-6f,
               .m_correction = 1.3f,
               .v_correction = 2.7f,
               .gradient_scale = 0.4f};
  args.learning_rate = 0.01f;
  return args;
}

OptimizerStepArgs copy_of(OptimizerStepArgs args) {
  for (Tensor* buffer : {&args.weights, &args.first_moment, &args.second_moment})
    *buffer = buffer->clone();
  return args;
}

// Also holds NaN equal to NaN, and so the gaps untouched.
void expect_near(const OptimizerStepArgs& got, const OptimizerStepArgs& expected) {
  EXPECT_TRUE(near("weights", got.weights, expected.weights, Tolerance::elementwise));
  EXPECT_TRUE(near("m", got.first_moment, expected.first_moment, Tolerance::elementwise));
  EXPECT_TRUE(near("v", got.second_moment, expected.second_moment, Tolerance::elementwise));
}

TEST_P(OptimizerKernel, LambMatchesReference) {
  for (int64_t gap : {0, 1, 64}) {
    SCOPED_TRACE(fmt::format("gap {}", gap));
    const OptimizerStepArgs got = random_step(gap), expected = copy_of(got);
    std::vector<TensorNorms> norms, expected_norms;
    lamb_step(got, norms);
    lamb_step_reference(expected, expected_norms);
    expect_near(got, expected);
    ASSERT_EQ(norms.size(), std::size(kCounts));
    for (size_t k = 0; k < norms.size(); ++k) {
      const TensorNorms &n = norms[k], &e = expected_norms[k];
      EXPECT_NEAR(n.weight, e.weight, e.weight * Tolerance::reduction) << k;
      EXPECT_NEAR(n.update, e.update, e.update * Tolerance::reduction) << k;
      EXPECT_NEAR(n.trust_ratio, e.trust_ratio, e.trust_ratio * Tolerance::reduction) << k;
    }
  }
}

TEST_P(OptimizerKernel, AdamWMatchesReferenceInBothOrders) {
  for (bool decay_first : {false, true}) {
    for (int64_t gap : {0, 1, 64}) {
      SCOPED_TRACE(fmt::format("decay_first {} gap {}", decay_first, gap));
      const OptimizerStepArgs got = random_step(gap), expected = copy_of(got);
      adamw_step(got, decay_first);
      adamw_step_reference(expected, decay_first);
      expect_near(got, expected);
    }
  }
}

TEST_P(OptimizerKernel, NormsMatchReferenceWithoutGaps) {
  const OptimizerStepArgs args = random_step(3);
  const std::vector<double> got = tensor_norms(args.gradients, args.tensors);
  const std::vector<double> expected = tensor_norms_reference(args.gradients, args.tensors);
  ASSERT_EQ(got.size(), expected.size());
  for (size_t k = 0; k < got.size(); ++k) EXPECT_NEAR(got[k], expected[k], expected[k] * 1e-12);
}

TEST_P(OptimizerKernel, NormsNeitherOverflowNorUnderflow) {
  for (float value : {1e-30f, 1e30f, std::numeric_limits<float>::max()}) {
    const Tensor x = Tensor::empty({100});
    for (float& element : x.span<float>()) element = value;
    EXPECT_NEAR(tensor_norms(x, {{0, 100}})[0] / value, 10, 1e-12);
  }
}

TEST_P(OptimizerKernel, NormsShowEveryNonFiniteElement) {
  const std::vector<OptimizerTensor> tensors = {{0, 37}, {37, 100}};
  for (float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
    for (int64_t at : {0, 15, 36}) {
      Tensor x = random_tensor({137}, 1);
      x.data<float>()[at] = bad;
      const std::vector<double> norms = tensor_norms(x, tensors);
      EXPECT_FALSE(std::isfinite(norms[0])) << at;
      EXPECT_TRUE(std::isfinite(norms[1])) << at;
    }
  }
}

TEST_P(OptimizerKernel, TrustRatioIsOneWhereANormIsZeroOrTheTensorIsNotAdapted) {
  OptimizerStepArgs args;
  args.tensors = {{0, 4, 0, true}, {4, 4, 0, true}, {8, 4, 0.01f, false}, {12, 4, 0.01f, true}};
  args.weights = random_tensor({16}, 1);
  args.gradients = random_tensor({16}, 2);
  args.first_moment = Tensor::zeros({16});
  args.second_moment = Tensor::zeros({16});
  args.learning_rate = 0.5f;
  for (int64_t i = 0; i < 4; ++i) args.weights.data<float>()[i] = 0;    // zero weight
  for (int64_t i = 4; i < 8; ++i) args.gradients.data<float>()[i] = 0;  // zero update
  const Tensor before = args.weights.clone();
  std::vector<TensorNorms> norms;
  lamb_step(args, norms);
  EXPECT_EQ(norms[0].weight, 0);
  EXPECT_GT(norms[0].update, 0);
  EXPECT_EQ(norms[0].trust_ratio, 1.0f);
  EXPECT_EQ(norms[1].update, 0);
  EXPECT_EQ(norms[1].trust_ratio, 1.0f);
  EXPECT_TRUE(same_bits(args.weights.slice(4, {4}), before.slice(4, {4})));
  EXPECT_GT(norms[2].weight / norms[2].update, 0);  // norms are reported all the same
  EXPECT_EQ(norms[2].trust_ratio, 1.0f);
  EXPECT_FLOAT_EQ(norms[3].trust_ratio, static_cast<float>(norms[3].weight / norms[3].update));
  for (int64_t i = 0; i < 4; ++i) EXPECT_NE(args.weights.data<float>()[i], 0.0f);
}

TEST_P(OptimizerKernel, ThreadsDoNotMatter) {
  const OptimizerStepArgs start = random_step(1);
  std::vector<OptimizerStepArgs> runs;
  std::vector<TensorNorms> norms[2];
  std::vector<double> gradient_norms[2];
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    runs.push_back(copy_of(start));
    lamb_step(runs.back(), norms[threads - 1]);
    adamw_step(runs.back(), true);
    gradient_norms[threads - 1] = tensor_norms(start.gradients, start.tensors);
  }
  EXPECT_TRUE(same_bits(runs[0].weights, runs[1].weights));
  EXPECT_TRUE(same_bits(runs[0].first_moment, runs[1].first_moment));
  EXPECT_TRUE(same_bits(runs[0].second_moment, runs[1].second_moment));
  EXPECT_EQ(gradient_norms[0], gradient_norms[1]);
  for (size_t k = 0; k < norms[0].size(); ++k) {
    EXPECT_EQ(norms[0][k].weight, norms[1][k].weight);
    EXPECT_EQ(norms[0][k].update, norms[1][k].update);
  }
}

TEST_P(OptimizerKernel, WritesNothingOutsideTheBuffers) {
  Guarded w({37}, true), m({37}, true), v({37}, true);
  for (const Guarded* buffer : {&w, &m, &v}) (*buffer)->fill_zero();
  const OptimizerStepArgs args{*w,  random_tensor({37}, 1), *m, *v, {{0, 37, 0.01f, true}}, {},
                               0.1f};
  std::vector<TensorNorms> norms;
  lamb_step(args, norms);
  adamw_step(args, false);
  EXPECT_TRUE(w.intact() && m.intact() && v.intact());
}

TEST(OptimizerKernelErrors, RejectBuffersAndRangesThatDisagree) {
  const OptimizerStepArgs good = random_step(0);
  std::vector<TensorNorms> norms;
  OptimizerStepArgs args = good;
  args.gradients = Tensor::zeros({5});
  EXPECT_THROW(lamb_step(args, norms), UsageError);
  EXPECT_THROW(adamw_step(args, true), UsageError);
  args = good;
  args.second_moment = Tensor();
  EXPECT_THROW(lamb_step(args, norms), UsageError);
  const int64_t size = good.weights.numel();
  for (const OptimizerTensor& bad : {OptimizerTensor{size - 1, 2}, OptimizerTensor{-1, 2},
                                     OptimizerTensor{0, -1}, OptimizerTensor{0, size + 1}}) {
    args = good;
    args.tensors = {bad};
    EXPECT_THROW(lamb_step(args, norms), UsageError);
    EXPECT_THROW(tensor_norms(good.weights, {bad}), UsageError);
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, OptimizerKernel, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
