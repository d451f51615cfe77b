// builtins.h: the names that nvcc knows without a header: a thread's index, and the words that g++
// must not trip over. Real variables, set at each switch of threads: macros would break members of
// the same names in NVIDIA's structs. Easy to break: a bare __shared__ would be an ordinary local
// here, one for each thread, so it does not compile. Test: ctest -R simt_engine_launch.
#pragma once

#include <cuda_runtime_api.h>

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

#undef __shared__
#define __shared__ error_a_bare___shared___use_MB_SHARED_of_core_cuda_kernel_h
#undef __launch_bounds__
#define __launch_bounds__(...)
#define __builtin_assume(condition) ((void)0)
