// error_test.cpp: error codes by name and text, as NVIDIA's runtime and cuBLASLt have them.
#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "tests/tools/simt/real_library.h"

namespace simt {
namespace {

TEST(ErrorText, NamesWhatItKnows) {
  EXPECT_STREQ("cudaErrorMemoryAllocation", cudaGetErrorName(cudaErrorMemoryAllocation));
  EXPECT_STREQ("out of memory", cudaGetErrorString(cudaErrorMemoryAllocation));
  EXPECT_STREQ("unrecognized error code", cudaGetErrorName(static_cast<cudaError_t>(9999)));
  EXPECT_STREQ("CUBLAS_STATUS_NOT_SUPPORTED", cublasLtGetStatusName(CUBLAS_STATUS_NOT_SUPPORTED));
  EXPECT_STREQ("unrecognized status", cublasLtGetStatusString(static_cast<cublasStatus_t>(99)));
}

TEST(ErrorText, EqualsTheRealRuntimes) {
  const RealLibrary real("MINIBERT_REAL_CUDART");
  if (!real.found()) GTEST_SKIP() << "libcudart is not installed";
  const auto name = SIMT_REAL(real, cudaGetErrorName);
  const auto text = SIMT_REAL(real, cudaGetErrorString);
  int known = 0;
  for (int code = 0; code < 1000; ++code) {
    const auto error = static_cast<cudaError_t>(code);
    if (std::string("unrecognized error code") == cudaGetErrorName(error)) continue;
    ++known;
    EXPECT_STREQ(name(error), cudaGetErrorName(error));
    EXPECT_STREQ(text(error), cudaGetErrorString(error)) << name(error);
  }
  EXPECT_GE(known, 40);
  EXPECT_STREQ(name(static_cast<cudaError_t>(9999)),
               cudaGetErrorName(static_cast<cudaError_t>(9999)));
}

TEST(ErrorText, EqualsTheRealCublasLts) {
  const RealLibrary real("MINIBERT_REAL_CUBLASLT");
  if (!real.found()) GTEST_SKIP() << "libcublasLt is not installed";
  for (int code = 0; code < 100; ++code) {
    const auto status = static_cast<cublasStatus_t>(code);
    EXPECT_STREQ(SIMT_REAL(real, cublasLtGetStatusName)(status), cublasLtGetStatusName(status));
    EXPECT_STREQ(SIMT_REAL(real, cublasLtGetStatusString)(status), cublasLtGetStatusString(status));
  }
}

}  // namespace
}  // namespace simt
