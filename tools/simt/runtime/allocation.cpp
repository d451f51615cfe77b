// allocation.cpp: device memory, pinned host memory, and where an address lies.
// Pinned memory has pages of its own behind a guard page and is filled with 0xFF, as device memory
// is. cudaFree and cudaFreeHost wait for the device first, as CUDA's do, so a program that frees
// too early is only found out with cudaFreeAsync. Test: ctest -R simt_memory.
#include <algorithm>
#include <cstring>

#include <sys/mman.h>

#include "tools/simt/memory.h"
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

constexpr size_t kPage = 4096;

/// The pinned range that holds this address, or the end.
auto pinned_at(const void* address) {
  auto& pinned = runtime().pinned;
  const auto* byte = static_cast<const std::byte*>(address);
  auto next = pinned.upper_bound(byte);
  if (next == pinned.begin()) return pinned.end();
  --next;
  return byte < next->first + next->second.bytes ? next : pinned.end();
}

cudaError_t allocate_pinned(void** pointer, size_t bytes, unsigned flags) {
  const unsigned known = cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined;
  if (!pointer || (flags & ~known)) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  const size_t data_bytes = (bytes + kPage - 1) / kPage * kPage;
  const size_t mapped_bytes = data_bytes + kPage;
  void* mapped = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return cudaErrorMemoryAllocation;
  mprotect(static_cast<std::byte*>(mapped) + data_bytes, kPage, PROT_NONE);
  std::memset(mapped, 0xFF, bytes);
  runtime().pinned[static_cast<std::byte*>(mapped)] = {bytes, flags, mapped_bytes};
  *pointer = mapped;
  return cudaSuccess;
}

void free_pools() {
  Runtime& r = runtime();
  r.pooled.clear();
  r.current_pools.clear();
  r.default_pools.clear();
  for (cudaMemPool_t pool : r.pools) delete pool;
  r.pools.clear();
}

}  // namespace

Residence residence_of(const void* address, size_t bytes) {
  if (is_device_address(address))
    return in_device_memory(address, bytes) ? Residence::device : Residence::invalid;
  const auto range = pinned_at(address);
  if (range == runtime().pinned.end()) return Residence::pageable;
  const size_t offset = static_cast<const std::byte*>(address) - range->first;
  return bytes <= range->second.bytes - offset ? Residence::pinned : Residence::invalid;
}

// What cudaDeviceReset does. Queued work is dropped; its closures may hold anything.
void free_everything() {
  Runtime& r = runtime();
  r.null_streams.clear();
  r.thread_streams.clear();
  r.zombies.clear();
  r.captures.clear();
  for (CUstream_st* stream : r.streams) delete stream;
  for (CUevent_st* event : r.events) delete event;
  for (CUgraph_st* graph : r.graphs) delete graph;
  for (CUgraphExec_st* exec : r.graph_execs) delete exec;
  r.streams.clear();
  r.events.clear();
  r.graphs.clear();
  r.graph_execs.clear();
  free_pools();
  for (const auto& [address, range] : r.pinned)
    if (range.mapped_bytes > 0) munmap(const_cast<std::byte*>(address), range.mapped_bytes);
  r.pinned.clear();
  r.dynamic_shared.clear();
  free_all_device_memory();
  r.sticky = cudaSuccess;
  r.host_ns = 0;
}

}  // namespace simt

using simt::call;
using simt::runtime;

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return call(__func__, simt::kUnsafeInCapture, [&] {
    if (!pointer) return cudaErrorInvalidValue;
    *pointer = simt::device_allocate(bytes, simt::current_device());
    return *pointer || bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation;
  });
}

cudaError_t cudaFree(void* pointer) {
  return call(__func__, simt::kUnsafeInCapture, [&] {
    if (!pointer) return cudaSuccess;
    const auto found = simt::find_allocation(pointer);
    if (!found || !found->live || found->base != pointer) return cudaErrorInvalidValue;
    simt::wait_for_device(found->device);
    simt::forget_pooled(pointer);
    simt::device_free(pointer);
    return runtime().sticky;
  });
}

cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return call(__func__, simt::kUnsafeInCapture,
              [&] { return simt::allocate_pinned(pointer, bytes, cudaHostAllocDefault); });
}

cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags) {
  return call(__func__, simt::kUnsafeInCapture,
              [&] { return simt::allocate_pinned(pointer, bytes, flags); });
}

cudaError_t cudaFreeHost(void* pointer) {
  return call(__func__, simt::kUnsafeInCapture, [&] {
    if (!pointer) return cudaSuccess;
    const auto range = simt::pinned_at(pointer);
    if (range == runtime().pinned.end() || range->first != pointer ||
        range->second.mapped_bytes == 0)
      return cudaErrorInvalidValue;
    for (int device = 0; device < runtime().model.devices; ++device) simt::wait_for_device(device);
    munmap(pointer, range->second.mapped_bytes);
    runtime().pinned.erase(range);
    return runtime().sticky;
  });
}

cudaError_t cudaHostRegister(void* pointer, size_t bytes, unsigned flags) {
  return call(__func__, simt::kUnsafeInCapture, [&] {
    const unsigned known = cudaHostRegisterPortable | cudaHostRegisterMapped |
                           cudaHostRegisterIoMemory | cudaHostRegisterReadOnly;
    if (!pointer || bytes == 0 || (flags & ~known)) return cudaErrorInvalidValue;
    const auto* begin = static_cast<const std::byte*>(pointer);
    for (const auto& [start, range] : runtime().pinned)
      if (begin < start + range.bytes && start < begin + bytes)
        return cudaErrorHostMemoryAlreadyRegistered;
    runtime().pinned[begin] = {bytes, flags, 0};
    return cudaSuccess;
  });
}

cudaError_t cudaHostUnregister(void* pointer) {
  return call(__func__, simt::kUnsafeInCapture, [&] {
    const auto range = simt::pinned_at(pointer);
    if (range == runtime().pinned.end()) return cudaErrorHostMemoryNotRegistered;
    if (range->first != pointer || range->second.mapped_bytes > 0) return cudaErrorInvalidValue;
    runtime().pinned.erase(range);
    return cudaSuccess;
  });
}

// One address space: the device sees pinned memory where the host sees it.
cudaError_t cudaHostGetDevicePointer(void** device_pointer, void* pointer, unsigned flags) {
  return call(__func__, simt::kPlain, [&] {
    if (!device_pointer || flags != 0) return cudaErrorInvalidValue;
    if (simt::pinned_at(pointer) == runtime().pinned.end()) return cudaErrorInvalidValue;
    *device_pointer = pointer;
    return cudaSuccess;
  });
}

cudaError_t cudaHostGetFlags(unsigned* flags, void* pointer) {
  return call(__func__, simt::kPlain, [&] {
    const auto range = simt::pinned_at(pointer);
    if (!flags || range == runtime().pinned.end() || range->second.mapped_bytes == 0)
      return cudaErrorInvalidValue;
    *flags = range->second.flags | cudaHostAllocMapped;  // always so with unified addressing
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return call(__func__, simt::kPlain, [&] {
    if (!free || !total) return cudaErrorInvalidValue;
    *total = runtime().model.memory_bytes;
    *free = *total - simt::device_bytes_in_use(simt::current_device());
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return call(__func__, simt::kPlain, [&] {
    if (!attributes) return cudaErrorInvalidValue;
    *attributes = {};
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = cudaInvalidDeviceId;
    const auto found = simt::find_allocation(pointer);
    if (simt::in_device_memory(pointer, 1)) {
      attributes->type = cudaMemoryTypeDevice;
      attributes->device = found->device;
      attributes->devicePointer = const_cast<void*>(pointer);
    } else if (simt::pinned_at(pointer) != runtime().pinned.end()) {
      attributes->type = cudaMemoryTypeHost;
      attributes->device = simt::current_device();
      attributes->devicePointer = attributes->hostPointer = const_cast<void*>(pointer);
    }
    return cudaSuccess;
  });
}
