// cuda_launch.h: the part of launch that is the same for every kernel, out of line.
// Called by launch in core/cuda_kernel.h, and by nothing else. Test: ctest -R core_cuda_error.
#pragma once

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

namespace minibert {

/// What a launch asked for, to be named when it fails.
struct LaunchShape {
  int64_t grid[3];
  int64_t block[3];
  size_t shared_bytes;
  const char* file;  // of the call of launch
  int line;
};
/// Throws InternalError with the kernel's name and its shape.
[[noreturn]] void launch_failed(cudaError_t error, const void* kernel, const LaunchShape& shape);

namespace detail {
/// Lets the kernel have that much dynamic shared memory; above 48 KB CUDA wants to be asked.
void allow_shared(const void* kernel, size_t bytes);
/// Whether CUDA's 32-bit fields can hold the shape; the runtime checks the rest.
bool representable(const LaunchShape& shape);
}  // namespace detail

}  // namespace minibert
