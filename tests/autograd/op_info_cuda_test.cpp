// op_info_cuda_test.cpp: every op on every sample of its OpInfo on device cuda, in f32, bf16 and f16:
// what op_info_test.cpp asks of the CPU, within the same tolerances, and the same bits in every
// schedule that the engine of tools/simt offers. Our own GEMM and cuBLASLt's both.
#include "core/kernels/gemm_cuda_choice.h"
#include "tests/autograd/samples.h"
#include "tests/core/kernels/cuda_fixture.h"

namespace minibert {
namespace {

using testing::OpCase;

class EachCudaOp : public ::testing::TestWithParam<OpCase> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
    before_ = gemm_cuda_backend();
    gemm_cuda_use(GemmCudaBackend::ours);
  }
  void TearDown() override { gemm_cuda_use(before_); }
  std::vector<OpSample> samples() const { return GetParam().samples(testing::kSeed); }
  /// body() with each GEMM; ops without products run once.
  template <typename Body>
  void with_each_gemm(const Body& body) const {
    body();
    const std::string& name = GetParam().op.name;
    const bool has_product = name.starts_with("linear") || name == "feed_forward_add_norm" ||
                             name == "qkv_attention" || name == "masked_lm_loss";
    if (!has_product) return;
    SCOPED_TRACE("cuBLASLt");
    gemm_cuda_use(GemmCudaBackend::cublaslt);
    body();
    gemm_cuda_use(GemmCudaBackend::ours);
  }

 private:
  GemmCudaBackend before_ = GemmCudaBackend::fastest;
};

TEST_P(EachCudaOp, ForwardIsAsNearToTheFormulaAsPlainLoops) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    with_each_gemm([&] { testing::expect_forward_as_near_as_plain_loops(GetParam(), sample); });
  }
}

TEST_P(EachCudaOp, GradientsMatchDifferencesOfTheFormula) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    with_each_gemm([&] { testing::expect_gradients_of_the_formula(GetParam(), sample); });
  }
}

TEST_P(EachCudaOp, EachGradientAloneIsAsAllTogether) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    // The product of a weight's gradient sums the bias's too, but in f32; alone it is column_sum's.
    testing::expect_each_gradient_alone_as_together(GetParam(), sample,
                                                    testing::Tolerance::gradient);
  }
}

TEST_P(EachCudaOp, SchedulesDoNotChangeBits) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    testing::same_bits_in_every_schedule([&] {
      std::vector<Tensor> results;
      for (const Tensor& t : testing::result_and_gradients(sample))
        if (t.defined()) results.push_back(t);
      return results;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(OpInfo, EachCudaOp,
                         ::testing::ValuesIn(testing::in_each_type(all_ops(), Device::cuda)),
                         testing::name_of_case);

}  // namespace
}  // namespace minibert
