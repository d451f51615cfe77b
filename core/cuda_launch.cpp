// cuda_launch.cpp: the part of launch that is the same for every kernel. Under emulation only the
// first half is used: the engine calls the kernel itself. Test: ctest -R core_cuda_error.
#include <climits>

#include "core/cuda_error.h"
#include "core/cuda_kernel.h"

namespace minibert::detail {

namespace {

constexpr size_t kSharedWithoutAsking = 48 * 1024;

/// Whether CUDA's own 32-bit fields can hold the shape; the runtime checks the rest.
bool representable(const LaunchShape& shape) {
  for (int i = 0; i < 3; ++i)
    if (shape.grid[i] < 1 || shape.grid[i] > INT_MAX || shape.block[i] < 1 ||
        shape.block[i] > INT_MAX)
      return false;
  return true;
}

dim3 dim3_of(const int64_t (&n)[3]) {
  return {static_cast<unsigned>(n[0]), static_cast<unsigned>(n[1]), static_cast<unsigned>(n[2])};
}

}  // namespace

void allow_shared(const void* kernel, size_t bytes) {
  if (bytes <= kSharedWithoutAsking) return;
  // What the device refuses here, the launch refuses too, and says it with the shape.
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           static_cast<int>(bytes)) != cudaSuccess)
    cudaGetLastError();
}

cudaError_t launch_values(const void* kernel, const LaunchShape& shape, Stream stream,
                          void** values) {
  if (!representable(shape)) return cudaErrorInvalidConfiguration;
  return cudaLaunchKernel(kernel, dim3_of(shape.grid), dim3_of(shape.block), values,
                          shape.shared_bytes, static_cast<cudaStream_t>(stream.handle));
}

}  // namespace minibert::detail
