// cuda_error.cpp: words for the failures of the CUDA runtime. Test: ctest -R core_cuda_error.
#include "core/cuda_error.h"

#include <cstdlib>
#include <memory>

#include <cxxabi.h>

#include "core/error.h"

namespace minibert {
namespace {

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

void cuda_failed(cudaError_t error, const char* expression, const char* file, int line) {
  cudaGetLastError();  // else the next call reports it again
  const std::string message = fmt::format("cuda: {} failed at {}:{}: {} ({})", expression, file,
                                          line, cudaGetErrorName(error), cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory(message);
  throw InternalError(message);
}

void launch_failed(cudaError_t error, const void* kernel, const LaunchShape& shape) {
  cudaGetLastError();
  fail<InternalError>(
      "cuda: launch of {} failed at {}:{}: {} ({}); {} x {} x {} blocks of {} x {} x {} threads, "
      "{} "
      "bytes of dynamic shared memory",
      kernel_name(kernel), shape.file, shape.line, cudaGetErrorName(error),
      cudaGetErrorString(error), shape.grid[0], shape.grid[1], shape.grid[2], shape.block[0],
      shape.block[1], shape.block[2], shape.shared_bytes);
}

}  // namespace minibert
