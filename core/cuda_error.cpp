// cuda_error.cpp: words for the failures of the CUDA runtime. Test: ctest -R core_cuda_error.
#include "core/cuda_error.h"

#include "core/cuda_failure.h"
#include "core/current_op.h"
#include "core/error.h"

namespace minibert {

namespace {

/// Faults of running kernels: whichever call comes next reports them.
bool is_late(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::string place_of_failure(cudaError_t error) {
  const char* op = current_op();
  if (!op) return is_late(error) ? " (in work that was queued before)" : "";
  return fmt::format(" in op {}{}", op, is_late(error) ? ", or in work queued before it" : "");
}

void cuda_failed(cudaError_t error, const char* expression, const char* file, int line) {
  cudaGetLastError();  // else the next call reports it again
  const std::string message =
      fmt::format("cuda: {} failed{} at {}:{}: {} ({})", expression, place_of_failure(error), file,
                  line, cudaGetErrorName(error), cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) throw OutOfMemory(message);
  throw InternalError(message);
}

}  // namespace minibert
