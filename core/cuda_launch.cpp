// cuda_launch.cpp: asks for shared memory, launches, and names what CUDA refused.
// Test: ctest -R core_cuda_error.
#include "core/cuda_launch.h"

#include <climits>
#include <cstdlib>
#include <memory>

#include <cxxabi.h>

#include "core/cuda_failure.h"
#include "core/error.h"

namespace minibert {
namespace {

constexpr size_t kSharedWithoutAsking = 48 * 1024;

/// The kernel's name in the source, or its address where CUDA does not know it.
std::string kernel_name(const void* kernel) {
  const char* mangled = nullptr;
  if (cudaFuncGetName(&mangled, kernel) != cudaSuccess || !mangled) {
    cudaGetLastError();
    return fmt::format("kernel at {}", kernel);
  }
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), std::free);
  return status == 0 ? name.get() : mangled;
}

}  // namespace

void launch_failed(cudaError_t error, const void* kernel, const LaunchShape& shape) {
  cudaGetLastError();
  fail<InternalError>(
      "cuda: launch of {} failed{} at {}:{}: {} ({}); {} x {} x {} blocks of {} x {} x {} "
      "threads, {} bytes of dynamic shared memory",
      kernel_name(kernel), place_of_failure(error), shape.file, shape.line, cudaGetErrorName(error),
      cudaGetErrorString(error), shape.grid[0], shape.grid[1], shape.grid[2], shape.block[0],
      shape.block[1], shape.block[2], shape.shared_bytes);
}

void detail::allow_shared(const void* kernel, size_t bytes) {
  if (bytes <= kSharedWithoutAsking) return;
  // What the device refuses here, the launch refuses too, and says it with the shape.
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes)) != cudaSuccess)
    cudaGetLastError();
}

bool detail::representable(const LaunchShape& shape) {
  for (int i = 0; i < 3; ++i)
    if (shape.grid[i] < 1 || shape.grid[i] > INT_MAX || shape.block[i] < 1 ||
        shape.block[i] > INT_MAX)
      return false;
  return true;
}

}  // namespace minibert
