// cuda_error.h: failures of the CUDA runtime as exceptions, with the call, CUDA's name and text for
// the error, and the place. Included by the CUDA files of core alone: .cu, cuda_*.cpp and
// *_cublaslt.cpp. Easy to break: an error of an earlier kernel is reported by the next call that looks,
// so the expression named may be innocent; run with CUDA_LAUNCH_BLOCKING=1 to find the guilty one.
// Test: ctest -R core_cuda_error.
#pragma once

#include <cuda_runtime_api.h>

namespace minibert {

/// Throws OutOfMemory for cudaErrorMemoryAllocation and InternalError for any other error, and
/// clears the error where CUDA lets go of it.
[[noreturn]] void cuda_failed(cudaError_t error, const char* expression, const char* file,
                              int line);

}  // namespace minibert

/// MB_CUDA(cudaMemcpyAsync(...)): throws unless the call succeeds.
#define MB_CUDA(expression)                                               \
  do {                                                                    \
    const cudaError_t mb_error = (expression);                            \
    if (mb_error != cudaSuccess) [[unlikely]]                             \
      ::minibert::cuda_failed(mb_error, #expression, __FILE__, __LINE__); \
  } while (false)
