// precision_test.cpp: precisions by name, and what a CPU refuses.
#include "core/precision.h"

#include <gtest/gtest.h>

#include "core/simd.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

using testing::usage_error_of;

TEST(PrecisionTest, NamesAreReadBackAndOthersRefused) {
  for (const Precision p : {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16})
    EXPECT_EQ(parse_precision(name_of(p)), p);
  for (const char* name : {"", "FP16", "fp8", "half"})
    EXPECT_NE(usage_error_of([&] { parse_precision(name); }).find("expected fp32, tf32, bf16"),
              std::string::npos);
  EXPECT_NE(usage_error_of([] { parse_precision("bf61"); }).find("bf16?"), std::string::npos);
}

TEST(PrecisionTest, ComputeTypes) {
  EXPECT_EQ(compute_type(Precision::fp32), DType::f32);
  EXPECT_EQ(compute_type(Precision::tf32), DType::f32);
  EXPECT_EQ(compute_type(Precision::bf16), DType::bf16);
  EXPECT_EQ(compute_type(Precision::fp16), DType::f16);
}

// The advice in the message is carried out.
TEST(PrecisionTest, ACpuRefusesTf32AndNamesWhatWorks) {
  const std::string message = usage_error_of([] { check_precision(Precision::tf32, Device::cpu); });
  EXPECT_NE(message.find("Use --precision fp32"), std::string::npos) << message;
  EXPECT_NO_THROW(check_precision(Precision::fp32, Device::cpu));
}

TEST(PrecisionTest, CudaIsRefusedWithTheReasonWhereItCanNotBeUsed) {
  if (cuda_available()) GTEST_SKIP() << "needs a build or a machine without CUDA";
  for (const Precision p : {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16}) {
    const std::string message = usage_error_of([&] { check_precision(p, Device::cuda); });
    EXPECT_NE(message.find(cuda_unavailable_reason()), std::string::npos) << message;
  }
}

TEST(PrecisionTest, Fp16NeedsF16C) {
  const SimdLevel before = simd_level();
  set_simd_level(SimdLevel::v2);
  const std::string message = usage_error_of([] { check_precision(Precision::fp16, Device::cpu); });
  EXPECT_NE(message.find("F16C"), std::string::npos) << message;
  EXPECT_NE(message.find("Use --precision bf16"), std::string::npos) << message;
  EXPECT_NO_THROW(check_precision(Precision::bf16, Device::cpu));
  if (simd_level_supported(SimdLevel::v3)) {
    set_simd_level(SimdLevel::v3);
    EXPECT_NO_THROW(check_precision(Precision::fp16, Device::cpu));
  }
  set_simd_level(before);
}

}  // namespace
}  // namespace minibert
