// cuda_machine.cpp: asks the CUDA runtime; what it doesn't answer stays 0 or empty.
#include "core/cuda_machine.h"

#include <cuda_runtime_api.h>

#include "core/device.h"

namespace minibert {
namespace {

CudaGpu describe(int device) {
  CudaGpu gpu;
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, device) == cudaSuccess)
    gpu = {properties.name, properties.major, properties.minor,
           static_cast<int64_t>(properties.totalGlobalMem)};
  size_t free = 0, total = 0;
  if (cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess)
    gpu.free_bytes = static_cast<int64_t>(free);
  return gpu;
}

bool reaches(int device, int peer) {
  int can = 0;
  return cudaDeviceCanAccessPeer(&can, device, peer) == cudaSuccess && can;
}

}  // namespace

CudaMachine cuda_machine() {
  CudaMachine machine{.in_build = true};
  cudaDriverGetVersion(&machine.driver);
  cudaRuntimeGetVersion(&machine.runtime);
  int count = 0, current = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    machine.error = cuda_unavailable_reason();
    return machine;
  }
  cudaGetDevice(&current);
  for (int device = 0; device < count; ++device) {
    machine.gpus.push_back(describe(device));
    for (int peer = 0; peer < device; ++peer)
      if (!reaches(device, peer) || !reaches(peer, device))
        machine.apart.emplace_back(peer, device);
  }
  cudaSetDevice(current);
  cudaGetLastError();  // else the next launch would be taken for a call above that failed
  return machine;
}

}  // namespace minibert
