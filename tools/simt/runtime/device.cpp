// device.cpp: what devices there are and what they can do.
// Limits are those of the CUDA programming guide's table for compute capability 8.0 and 9.0; name,
// multiprocessors and memory are knobs (control.h). Properties and attributes come from one
// function, so that they agree. Test: ctest -R simt_runtime.
#include <cstdio>
#include <cstring>

#include "tools/simt/memory.h"
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

constexpr size_t kKiB = 1024;

bool valid_device(int device) {
  return device >= 0 && device < runtime().model.devices;
}

cudaDeviceProp properties(int device) {
  const DeviceModel& model = runtime().model;
  const bool hopper = model.major >= 9;
  cudaDeviceProp p{};
  std::snprintf(p.name, sizeof p.name, "%s", model.name.c_str());
  std::snprintf(p.uuid.bytes, sizeof p.uuid.bytes, "simt-device-%d", device);
  p.major = model.major;
  p.minor = model.minor;
  p.multiProcessorCount = model.multiprocessors;
  p.totalGlobalMem = model.memory_bytes;
  p.warpSize = 32;
  p.maxThreadsPerBlock = 1024;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.maxThreadsPerMultiProcessor = 2048;
  p.maxBlocksPerMultiProcessor = 32;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.sharedMemPerBlock = 48 * kKiB;
  p.sharedMemPerMultiprocessor = (hopper ? 228 : 164) * kKiB;
  p.reservedSharedMemPerBlock = 1 * kKiB;
  p.sharedMemPerBlockOptin = p.sharedMemPerMultiprocessor - p.reservedSharedMemPerBlock;
  p.totalConstMem = 64 * kKiB;
  p.l2CacheSize = static_cast<int>((hopper ? 50 : 40) * kKiB * kKiB);
  p.memoryBusWidth = 5120;
  p.memPitch = 0x7fffffff;
  p.textureAlignment = 512;
  p.pciBusID = device + 1;
  p.asyncEngineCount = 2;
  p.unifiedAddressing = p.canMapHostMemory = p.concurrentKernels = 1;
  p.streamPrioritiesSupported = p.memoryPoolsSupported = p.hostRegisterSupported = 1;
  p.globalL1CacheSupported = p.localL1CacheSupported = 1;
  p.clusterLaunch = hopper;
  p.canUseHostPointerForRegisteredMem = 1;
  return p;
}

/// False for attributes that nothing here imitates.
bool attribute(const cudaDeviceProp& p, cudaDeviceAttr which, int* value) {
  const auto as_int = [](size_t v) { return static_cast<int>(v); };
  const std::map<cudaDeviceAttr, int> table = {
      {cudaDevAttrComputeCapabilityMajor, p.major},
      {cudaDevAttrComputeCapabilityMinor, p.minor},
      {cudaDevAttrMultiProcessorCount, p.multiProcessorCount},
      {cudaDevAttrWarpSize, p.warpSize},
      {cudaDevAttrMaxThreadsPerBlock, p.maxThreadsPerBlock},
      {cudaDevAttrMaxThreadsPerMultiProcessor, p.maxThreadsPerMultiProcessor},
      {cudaDevAttrMaxBlocksPerMultiprocessor, p.maxBlocksPerMultiProcessor},
      {cudaDevAttrMaxBlockDimX, p.maxThreadsDim[0]},
      {cudaDevAttrMaxBlockDimY, p.maxThreadsDim[1]},
      {cudaDevAttrMaxBlockDimZ, p.maxThreadsDim[2]},
      {cudaDevAttrMaxGridDimX, p.maxGridSize[0]},
      {cudaDevAttrMaxGridDimY, p.maxGridSize[1]},
      {cudaDevAttrMaxGridDimZ, p.maxGridSize[2]},
      {cudaDevAttrMaxSharedMemoryPerBlock, as_int(p.sharedMemPerBlock)},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, as_int(p.sharedMemPerBlockOptin)},
      {cudaDevAttrMaxSharedMemoryPerMultiprocessor, as_int(p.sharedMemPerMultiprocessor)},
      {cudaDevAttrReservedSharedMemoryPerBlock, as_int(p.reservedSharedMemPerBlock)},
      {cudaDevAttrMaxRegistersPerBlock, p.regsPerBlock},
      {cudaDevAttrMaxRegistersPerMultiprocessor, p.regsPerMultiprocessor},
      {cudaDevAttrTotalConstantMemory, as_int(p.totalConstMem)},
      {cudaDevAttrL2CacheSize, p.l2CacheSize},
      {cudaDevAttrGlobalMemoryBusWidth, p.memoryBusWidth},
      {cudaDevAttrMemoryClockRate, 1'593'000},  // kHz
      {cudaDevAttrClockRate, 1'410'000},        // kHz
      {cudaDevAttrAsyncEngineCount, p.asyncEngineCount},
      {cudaDevAttrConcurrentKernels, p.concurrentKernels},
      {cudaDevAttrUnifiedAddressing, p.unifiedAddressing},
      {cudaDevAttrCanMapHostMemory, p.canMapHostMemory},
      {cudaDevAttrHostRegisterSupported, p.hostRegisterSupported},
      {cudaDevAttrMemoryPoolsSupported, p.memoryPoolsSupported},
      {cudaDevAttrStreamPrioritiesSupported, p.streamPrioritiesSupported},
      {cudaDevAttrClusterLaunch, p.clusterLaunch},
      {cudaDevAttrCooperativeLaunch, p.cooperativeLaunch},
      {cudaDevAttrManagedMemory, p.managedMemory},
      {cudaDevAttrPageableMemoryAccess, p.pageableMemoryAccess},
      {cudaDevAttrIntegrated, p.integrated},
      {cudaDevAttrEccEnabled, p.ECCEnabled},
      {cudaDevAttrComputeMode, cudaComputeModeDefault},
      {cudaDevAttrPciBusId, p.pciBusID},
      {cudaDevAttrPciDeviceId, p.pciDeviceID},
      {cudaDevAttrPciDomainId, p.pciDomainID},
  };
  const auto found = table.find(which);
  if (found == table.end()) return false;
  *value = found->second;
  return true;
}

}  // namespace
}  // namespace simt

using simt::call;
using simt::current_device;
using simt::runtime;

cudaError_t cudaGetDeviceCount(int* count) {
  return call(__func__, simt::kWithoutDevice, [&] {
    if (!count) return cudaErrorInvalidValue;
    *count = runtime().model.devices;
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
  });
}

cudaError_t cudaSetDevice(int device) {
  return call(__func__, simt::kPlain, [&] {
    if (!simt::valid_device(device)) return cudaErrorInvalidDevice;
    current_device() = device;
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return call(__func__, simt::kPlain, [&] {
    if (!device) return cudaErrorInvalidValue;
    *device = current_device();
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return call(__func__, simt::kPlain, [&] {
    if (!properties) return cudaErrorInvalidValue;
    if (!simt::valid_device(device)) return cudaErrorInvalidDevice;
    *properties = simt::properties(device);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
  return call(__func__, simt::kPlain, [&] {
    if (!value) return cudaErrorInvalidValue;
    if (!simt::valid_device(device)) return cudaErrorInvalidDevice;
    const bool known = simt::attribute(simt::properties(device), which, value);
    return known ? cudaSuccess : cudaErrorInvalidValue;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can_access, int device, int peer) {
  return call(__func__, simt::kPlain, [&] {
    if (!can_access) return cudaErrorInvalidValue;
    if (!simt::valid_device(device) || !simt::valid_device(peer)) return cudaErrorInvalidDevice;
    *can_access = device != peer;
    return cudaSuccess;
  });
}

cudaError_t cudaDriverGetVersion(int* version) {
  return call(__func__, simt::kWithoutDevice, [&] {
    if (!version) return cudaErrorInvalidValue;
    *version = runtime().model.devices > 0 ? CUDART_VERSION : 0;  // 0: no driver is installed
    return cudaSuccess;
  });
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  return call(__func__, simt::kWithoutDevice, [&] {
    if (!version) return cudaErrorInvalidValue;
    *version = CUDART_VERSION;
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceSynchronize() {
  return call(__func__, simt::kPlain, [&] {
    simt::Runtime& r = runtime();
    bool capturing = false;
    for (const auto& capture : r.captures) {
      if (capture->origin->device != current_device()) continue;
      simt::invalidate(*capture);
      capturing = true;
    }
    if (capturing) return cudaErrorStreamCaptureUnsupported;
    simt::wait_for_device(current_device());
    return r.sticky;
  });
}

cudaError_t cudaDeviceReset() {
  return call(__func__, simt::kWithoutDevice, [&] {
    simt::free_everything();
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  return call(__func__, simt::kPlain, [&] {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
  });
}
