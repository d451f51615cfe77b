// cuda_error.cpp: words for the failures of the CUDA runtime. Test: ctest -R core_cuda_error.
#include "core/cuda_error.h"

#include "core/error.h"

namespace minibert {

void cuda_failed(cudaError_t error, const char* expression, const char* file, int line) {
  cudaGetLastError();  // else the next call reports it again
  const std::string message = fmt::format("cuda: {} failed at {}:{}: {} ({})", expression, file,
                                          line, cudaGetErrorName(error), cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory(message);
  throw InternalError(message);
}

}  // namespace minibert
