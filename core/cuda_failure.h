// cuda_failure.h: where a thread was when a call of CUDA or cuBLASLt failed, for the message of the
// error. Called by cuda_error.cpp, cuda_launch.cpp and gemm_cublaslt.cpp. Easy to break: faults of
// running kernels are reported by whichever call comes next. Test: ctest -R core_cuda_error.
#pragma once

#include <string>

#include <cuda_runtime_api.h>

namespace minibert {

/// " in op layer_norm", and whether an earlier op may be meant; empty outside of ops.
std::string place_of_failure(cudaError_t error);

}  // namespace minibert
