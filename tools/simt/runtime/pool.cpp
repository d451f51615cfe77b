// pool.cpp: memory allocated and freed in stream order, and pools of it.
// cudaMallocAsync hands out memory at the call; cudaFreeAsync frees it when its stream gets there,
// so another stream that still uses it without having waited faults under a lazy or random
// schedule. A pool keeps no freed memory: every reserved byte is in use. Not in a capture: memory
// nodes of graphs are not imitated. Test: ctest -R simt_memory.
#include <algorithm>

#include "tools/simt/memory.h"
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

cudaMemPool_t default_pool(int device) {
  Runtime& r = runtime();
  while (static_cast<int>(r.default_pools.size()) <= device) {
    r.default_pools.push_back(std::make_unique<CUmemPoolHandle_st>());
    r.default_pools.back()->device = static_cast<int>(r.default_pools.size()) - 1;
    r.default_pools.back()->is_default = true;
    r.current_pools.push_back(r.default_pools.back().get());
  }
  return r.default_pools[device].get();
}

bool exists(cudaMemPool_t pool) {
  const Runtime& r = runtime();
  return r.pools.count(pool) > 0 ||
         std::any_of(r.default_pools.begin(), r.default_pools.end(),
                     [&](const auto& standard) { return standard.get() == pool; });
}

cudaError_t allocate(void** pointer, size_t bytes, cudaMemPool_t pool, cudaStream_t handle) {
  CUstream_st* stream = resolve(handle);
  if (!pointer || !exists(pool)) return cudaErrorInvalidValue;
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (stream->capture) {
    invalidate(*stream->capture);
    return cudaErrorStreamCaptureUnsupported;
  }
  *pointer = device_allocate(bytes, pool->device);
  if (!*pointer && bytes > 0) {
    wait_for_device(pool->device);  // frees that are queued may make room
    *pointer = device_allocate(bytes, pool->device);
  }
  if (!*pointer) return bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation;
  runtime().pooled[*pointer] = {pool, bytes};
  pool->used += bytes;
  pool->used_high = std::max(pool->used_high, pool->used);
  return submit(*stream, {cudaGraphNodeTypeMemAlloc, "cudaMallocAsync", {}, 0, {}});
}

}  // namespace

void forget_pooled(void* pointer) {
  const auto found = runtime().pooled.find(pointer);
  if (found == runtime().pooled.end()) return;
  found->second.pool->used -= found->second.bytes;
  runtime().pooled.erase(found);
}

}  // namespace simt

using simt::call;
using simt::runtime;

cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t stream) {
  return call(__func__, simt::kPlain, [&] {
    const int device = simt::current_device();
    simt::default_pool(device);
    return simt::allocate(pointer, bytes, runtime().current_pools[device], stream);
  });
}

cudaError_t cudaMallocFromPoolAsync(void** pointer, size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t stream) {
  return call(__func__, simt::kPlain, [&] { return simt::allocate(pointer, bytes, pool, stream); });
}

cudaError_t cudaFreeAsync(void* pointer, cudaStream_t handle) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = simt::resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!pointer) return cudaSuccess;
    const auto found = simt::find_allocation(pointer);
    if (!found || !found->live || found->base != pointer) return cudaErrorInvalidValue;
    if (stream->capture) {
      simt::invalidate(*stream->capture);
      return cudaErrorStreamCaptureUnsupported;
    }
    const auto free_now = [pointer] {
      simt::forget_pooled(pointer);
      simt::device_free(pointer);
    };
    return simt::submit(*stream, {cudaGraphNodeTypeMemFree, "cudaFreeAsync", free_now, 0, {}});
  });
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return call(__func__, simt::kPlain, [&] {
    if (!pool) return cudaErrorInvalidValue;
    if (device < 0 || device >= runtime().model.devices) return cudaErrorInvalidDevice;
    *pool = simt::default_pool(device);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return call(__func__, simt::kPlain, [&] {
    if (!pool) return cudaErrorInvalidValue;
    if (device < 0 || device >= runtime().model.devices) return cudaErrorInvalidDevice;
    simt::default_pool(device);
    *pool = runtime().current_pools[device];
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSetMemPool(int device, cudaMemPool_t pool) {
  return call(__func__, simt::kPlain, [&] {
    if (device < 0 || device >= runtime().model.devices) return cudaErrorInvalidDevice;
    simt::default_pool(device);
    if (!simt::exists(pool) || pool->device != device) return cudaErrorInvalidValue;
    runtime().current_pools[device] = pool;
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  return call(__func__, simt::kPlain, [&] {
    if (!pool || !properties) return cudaErrorInvalidValue;
    const bool ours = properties->allocType == cudaMemAllocationTypePinned &&
                      properties->location.type == cudaMemLocationTypeDevice &&
                      properties->handleTypes == cudaMemHandleTypeNone;
    const int device = properties->location.id;
    if (!ours || device < 0 || device >= runtime().model.devices) return cudaErrorInvalidValue;
    *pool = new CUmemPoolHandle_st;
    (*pool)->device = device;
    runtime().pools.insert(*pool);
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  return call(__func__, simt::kPlain, [&] {
    simt::Runtime& r = runtime();
    // A pool with memory in use would have to live on until that is freed; nothing here needs it.
    if (!r.pools.count(pool) || pool->used > 0) return cudaErrorInvalidValue;
    for (cudaMemPool_t& current : r.current_pools)
      if (current == pool) current = simt::default_pool(pool->device);
    r.pools.erase(pool);
    delete pool;
    return cudaSuccess;
  });
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t) {
  return call(__func__, simt::kPlain,
              [&] { return simt::exists(pool) ? cudaSuccess : cudaErrorInvalidValue; });
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr which, void* value) {
  return call(__func__, simt::kPlain, [&] {
    if (!simt::exists(pool) || !value) return cudaErrorInvalidValue;
    switch (which) {
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies:
        return cudaSuccess;  // nothing is reused
      case cudaMemPoolAttrReleaseThreshold:
        pool->release_threshold = *static_cast<uint64_t*>(value);
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh:  // may only be reset
        if (*static_cast<uint64_t*>(value) != 0) return cudaErrorInvalidValue;
        pool->used_high = pool->used;
        return cudaSuccess;
      default:
        return cudaErrorInvalidValue;
    }
  });
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr which, void* value) {
  return call(__func__, simt::kPlain, [&] {
    if (!simt::exists(pool) || !value) return cudaErrorInvalidValue;
    switch (which) {
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies:
        *static_cast<int*>(value) = 1;
        return cudaSuccess;
      case cudaMemPoolAttrReleaseThreshold:
        *static_cast<uint64_t*>(value) = pool->release_threshold;
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemCurrent:
      case cudaMemPoolAttrUsedMemCurrent:
        *static_cast<uint64_t*>(value) = pool->used;
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh:
        *static_cast<uint64_t*>(value) = pool->used_high;
        return cudaSuccess;
      default:
        return cudaErrorInvalidValue;
    }
  });
}
