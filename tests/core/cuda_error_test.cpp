// cuda_error_test.cpp: what a failed call of the CUDA runtime, and a refused launch, become.
// Needs no device: the errors are given, not provoked. Built where MINIBERT_CUDA is cuda or simt.
#include "core/cuda_error.h"

#include <gtest/gtest.h>

#include "core/cuda_launch.h"
#include "core/error.h"
#include "core/range.h"

namespace minibert {
namespace {

template <typename E, typename Run>
std::string message_of(const Run& run) {
  try {
    run();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}
bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(CudaError, TheMessageNamesCallErrorAndPlace) {
  const auto failing = [](int) { return cudaErrorInvalidValue; };
  const int line = __LINE__ + 1;
  const std::string text = message_of<InternalError>([&] { MB_CUDA(failing(7)); });
  EXPECT_TRUE(has(text, "failing(7) failed at ")) << text;
  EXPECT_TRUE(has(text, "cuda_error_test.cpp:" + std::to_string(line))) << text;
  EXPECT_TRUE(has(text, "cudaErrorInvalidValue (invalid argument)")) << text;
}

TEST(CudaError, TheMessageNamesTheInnermostOp) {
  const auto failing = [](cudaError_t error) {
    return message_of<InternalError>([error] { MB_CUDA(error); });
  };
  EXPECT_FALSE(has(failing(cudaErrorInvalidValue), "in op")) << "no op is running";
  EXPECT_TRUE(has(failing(cudaErrorIllegalAddress), "in work that was queued before"));
  const OpRange outer("gemm");
  {
    const OpRange inner("column_sum");
    EXPECT_TRUE(has(failing(cudaErrorInvalidValue), "failed in op column_sum at "));
    EXPECT_TRUE(has(failing(cudaErrorLaunchFailure), "in op column_sum, or in work queued before"));
  }
  EXPECT_TRUE(has(failing(cudaErrorInvalidValue), "failed in op gemm at "));
}

TEST(CudaError, MemoryThatIsUsedUpIsACategoryOfItsOwn) {
  EXPECT_FALSE(message_of<OutOfMemory>([] { MB_CUDA(cudaErrorMemoryAllocation); }).empty());
}

TEST(CudaError, SuccessDoesNothing) {
  EXPECT_NO_THROW(MB_CUDA(cudaSuccess));
}

TEST(CudaError, ARefusedLaunchIsNamedWithItsShape) {
  const LaunchShape shape{{7, 2, 1}, {2048, 1, 1}, 333, "some.cu", 12};
  static const int not_a_kernel = 0;
  const OpRange op("cast");
  const std::string text = message_of<InternalError>(
      [&] { launch_failed(cudaErrorInvalidConfiguration, &not_a_kernel, shape); });
  EXPECT_TRUE(has(text, "failed in op cast at some.cu:12: cudaErrorInvalidConfiguration")) << text;
  EXPECT_TRUE(has(text, "7 x 2 x 1 blocks of 2048 x 1 x 1 threads")) << text;
  EXPECT_TRUE(has(text, "333 bytes of dynamic shared memory")) << text;
}

TEST(CudaError, ShapesThatCudaCanNotHoldAreRefused) {
  const auto representable = [](int64_t grid, int64_t block) {
    return detail::representable({{grid, 1, 1}, {block, 1, 1}, 0, "", 0});
  };
  EXPECT_FALSE(representable(int64_t{1} << 31, 32));
  EXPECT_FALSE(representable(-1, 32));
  EXPECT_FALSE(representable(1, 0));
  EXPECT_TRUE(representable((int64_t{1} << 31) - 1, 1024));
}

}  // namespace
}  // namespace minibert
