// function.cpp: attributes of kernels and how many blocks fit on a multiprocessor.
// The stand-in knows a kernel by its address alone, so registers and static shared memory count as
// none: occupancy here is an upper bound. Test: ctest -R simt_runtime.
#include <algorithm>

#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

constexpr size_t kDefaultDynamicShared = 48 * 1024;

cudaDeviceProp properties_now() {
  cudaDeviceProp properties{};
  cudaGetDeviceProperties(&properties, current_device());
  return properties;
}

cudaError_t blocks_per_multiprocessor(int* blocks, int block_size, size_t shared_bytes) {
  const cudaDeviceProp p = properties_now();
  if (!blocks || block_size < 1) return cudaErrorInvalidValue;
  *blocks = 0;
  if (block_size > p.maxThreadsPerBlock || shared_bytes > p.sharedMemPerBlockOptin)
    return cudaSuccess;
  const int warps = (block_size + p.warpSize - 1) / p.warpSize;
  const size_t shared_of_block = shared_bytes + p.reservedSharedMemPerBlock;
  *blocks =
      std::min({p.maxBlocksPerMultiProcessor, p.maxThreadsPerMultiProcessor / (warps * p.warpSize),
                static_cast<int>(p.sharedMemPerMultiprocessor / shared_of_block)});
  return cudaSuccess;
}

}  // namespace

size_t dynamic_shared_limit(const void* function) {
  std::lock_guard lock(runtime().mutex);
  const auto found = runtime().dynamic_shared.find(function);
  return found == runtime().dynamic_shared.end() ? kDefaultDynamicShared : found->second;
}

}  // namespace simt

using simt::call;

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute which, int value) {
  return call(__func__, simt::kPlain, [&] {
    if (!function) return cudaErrorInvalidDeviceFunction;
    switch (which) {
      case cudaFuncAttributeMaxDynamicSharedMemorySize: {
        const size_t most = simt::properties_now().sharedMemPerBlockOptin;
        if (value < 0 || static_cast<size_t>(value) > most) return cudaErrorInvalidValue;
        simt::runtime().dynamic_shared[function] = value;
        return cudaSuccess;
      }
      case cudaFuncAttributePreferredSharedMemoryCarveout:  // a hint: percent, or -1
        return value >= -1 && value <= 100 ? cudaSuccess : cudaErrorInvalidValue;
      case cudaFuncAttributeNonPortableClusterSizeAllowed:
        return value == 0 || value == 1 ? cudaSuccess : cudaErrorInvalidValue;
      default:
        return cudaErrorInvalidValue;
    }
  });
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return call(__func__, simt::kPlain, [&] {
    if (!attributes) return cudaErrorInvalidValue;
    if (!function) return cudaErrorInvalidDeviceFunction;
    const cudaDeviceProp p = simt::properties_now();
    *attributes = {};
    attributes->maxThreadsPerBlock = p.maxThreadsPerBlock;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(simt::dynamic_shared_limit(function));
    attributes->ptxVersion = attributes->binaryVersion = 10 * p.major + p.minor;
    attributes->preferredShmemCarveout = -1;
    return cudaSuccess;
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                          int block_size, size_t shared_bytes) {
  return call(__func__, simt::kPlain, [&] {
    if (!function) return cudaErrorInvalidDeviceFunction;
    return simt::blocks_per_multiprocessor(blocks, block_size, shared_bytes);
  });
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks,
                                                                   const void* function,
                                                                   int block_size,
                                                                   size_t shared_bytes, unsigned) {
  return call(__func__, simt::kPlain, [&] {
    if (!function) return cudaErrorInvalidDeviceFunction;
    return simt::blocks_per_multiprocessor(blocks, block_size, shared_bytes);
  });
}
