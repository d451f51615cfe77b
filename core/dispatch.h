// dispatch.h: picks the CPU or the CUDA implementation of a kernel, and times each call by name.
// Called once in each kernel's public function. Layers never ask which device they are on.
// Test: ctest -R core_dispatch.
#pragma once

#include "core/device.h"
#include "core/profile.h"

namespace minibert {

/// Runs `cpu()` for a CPU tensor; a CUDA tensor gets a clear error in a build without CUDA.
template <typename Cpu>
void dispatch(const char* op, Device device, double flops, double bytes, Cpu&& cpu) {
  ProfileRange range(op, flops, bytes);
  if (device != Device::cpu) cuda_kernel_absent(op);
  cpu();
}

}  // namespace minibert
