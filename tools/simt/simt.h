// simt.h: everything that g++ must know to compile a kernel file: NVIDIA's types, CUDA's built-in
// names, and the engine's side of core/cuda_kernel.h and core/ptx.h. Included by
// core/cuda_kernel.h alone, when nvcc is not the compiler; the engine knows nothing of the project.
// Easy to break: __CUDACC__ must stay undefined, or NVIDIA's headers expect nvcc.
// How to run a kernel this way: docs/simt.md. Test: ctest -R simt.
#pragma once

#include <cassert>
#include <cstdio>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>  // with the templates that nvcc includes by itself, such as cudaMalloc(T**)
#include <vector_functions.h>
#include <vector_types.h>

#include "tools/simt/arena.h"
#include "tools/simt/async_copy.h"
#include "tools/simt/barrier.h"
#include "tools/simt/builtins.h"
#include "tools/simt/device_math.h"
#include "tools/simt/half_math.h"
#include "tools/simt/launch.h"
#include "tools/simt/memory_functions.h"
#include "tools/simt/tensor_core.h"
#include "tools/simt/warp.h"
