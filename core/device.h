// device.h: where a tensor lives, and the stream that a kernel is queued on.
// The CPU runs kernels at the call and ignores streams. CUDA is not part of this build:
// core/cuda_absent.cpp answers for it with a clear error, and is the only file that knows.
// Test: ctest -R core_device.
#pragma once

#include <cstddef>
#include <string>

namespace minibert {

enum class Device { cpu, cuda };

const char* name_of(Device device);
/// "cpu" or "cuda". Errors: UsageError for another name.
Device parse_device(const std::string& name);

/// Queue of a device's work. The default value is the CPU's: work is done when the call returns.
struct Stream {
  void* handle = nullptr;
};

// ---- The CUDA backend's entry points: core/cuda_absent.cpp in a build without it ---------------
/// Whether kernels can run on a CUDA device here.
bool cuda_available();
/// Why not, and what to do about it.
std::string cuda_unavailable_reason();
void* cuda_allocate(size_t bytes);
void cuda_free(void* pointer) noexcept;
/// Throws UsageError: `op` was called on a CUDA tensor and this build has no CUDA kernels.
[[noreturn]] void cuda_kernel_absent(const char* op);

}  // namespace minibert
