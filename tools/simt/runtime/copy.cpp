// copy.cpp: memcpy and memset in all kinds, with CUDA's rules on what waits for what.
// From the runtime's manual, "API synchronization behavior": a copy from pageable memory has read
// its source when it returns, whatever its name says; one into pageable memory or between host
// memories is over when it returns; a plain cudaMemcpy from pageable memory may return before the
// device has the bytes, and one within the device returns at once. Pinned memory alone makes
// cudaMemcpyAsync asynchronous, so pageable ones are counted. Stricter than CUDA: a copy from or to
// pageable memory is refused in a capture. Test: ctest -R simt_copy.
#include <cstring>
#include <memory>

#include "tools/simt/memory.h"
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

constexpr double kCopyLatency = 2000;       // ns on the virtual clock
constexpr double kHostBytesPerNs = 25;      // between host and device
constexpr double kDeviceBytesPerNs = 1000;  // within the device

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  Residence to_where, from_where;

  bool to_device() const { return to_where == Residence::device; }
  bool from_device() const { return from_where == Residence::device; }
  bool from_pageable() const { return from_where == Residence::pageable; }
  bool to_pageable() const { return to_where == Residence::pageable; }
  double cost_ns() const {
    const bool inside = to_device() && from_device();
    return kCopyLatency + bytes / (inside ? kDeviceBytesPerNs : kHostBytesPerNs);
  }
};

cudaError_t check(const Copy& copy, cudaMemcpyKind kind) {
  if (copy.to_where == Residence::invalid || copy.from_where == Residence::invalid)
    return cudaErrorInvalidValue;
  bool to_device = copy.to_device(), from_device = copy.from_device();
  switch (kind) {
    case cudaMemcpyDefault:
      return cudaSuccess;
    case cudaMemcpyHostToHost:
      to_device = from_device = false;
      break;
    case cudaMemcpyHostToDevice:
      to_device = true, from_device = false;
      break;
    case cudaMemcpyDeviceToHost:
      to_device = false, from_device = true;
      break;
    case cudaMemcpyDeviceToDevice:
      to_device = from_device = true;
      break;
    default:
      return cudaErrorInvalidMemcpyDirection;
  }
  const bool as_said = to_device == copy.to_device() && from_device == copy.from_device();
  return as_said ? cudaSuccess : cudaErrorInvalidValue;
}

// Checked again when it runs, because memory may have been freed since.
void move_bytes(void* to, const void* from, size_t bytes) {
  for (const void* address : {static_cast<const void*>(to), from})
    if (is_device_address(address) && !in_device_memory(address, bytes))
      throw DeviceFault("a copy of " + std::to_string(bytes) + " bytes touches memory " +
                            describe_address(address),
                        cudaErrorIllegalAddress);
  std::memmove(to, from, bytes);
}

Work work_of(const Copy& copy) {
  return {cudaGraphNodeTypeMemcpy,
          "memcpy",
          [copy] { move_bytes(copy.to, copy.from, copy.bytes); },
          copy.cost_ns(),
          {}};
}

/// The bytes as they are now: what CUDA's staging buffer holds.
Work staged_work_of(const Copy& copy) {
  const auto* bytes = static_cast<const std::byte*>(copy.from);
  const auto staged = std::make_shared<std::vector<std::byte>>(bytes, bytes + copy.bytes);
  return {cudaGraphNodeTypeMemcpy,
          "memcpy",
          [copy, staged] { move_bytes(copy.to, staged->data(), copy.bytes); },
          copy.cost_ns(),
          {}};
}

cudaError_t copy_in_stream(CUstream_st& stream, const Copy& copy, bool host_waits) {
  const bool pageable = copy.from_pageable() || copy.to_pageable();
  if (stream.capture && pageable) {
    invalidate(*stream.capture);
    return cudaErrorStreamCaptureUnsupported;
  }
  const bool staged = copy.to_device() && copy.from_pageable();
  const bool host_only = !copy.to_device() && !copy.from_device();
  OperationPtr queued;
  const cudaError_t result = submit(stream, staged ? staged_work_of(copy) : work_of(copy), &queued);
  if (result != cudaSuccess) return result;
  if (!queued || !(host_waits || host_only || copy.to_pageable())) return cudaSuccess;
  wait_for(queued);
  return runtime().sticky;
}

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t handle,
                 bool asynchronous) {
  CUstream_st* stream = resolve(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (!to || !from) return cudaErrorInvalidValue;
  const Copy copy{to, from, bytes, residence_of(to, bytes), residence_of(from, bytes)};
  const cudaError_t result = check(copy, kind);
  if (result != cudaSuccess) return result;
  if (asynchronous) {
    runtime().pageable_async_copies += copy.from_pageable() || copy.to_pageable();
    return copy_in_stream(*stream, copy, false);
  }
  if (copy.to_device() && copy.from_pageable()) {
    wait_for_stream(*stream);
    return copy_in_stream(*stream, copy, false);
  }
  return copy_in_stream(*stream, copy, !(copy.to_device() && copy.from_device()));
}

cudaError_t set(void* to, int value, size_t bytes, cudaStream_t handle, bool asynchronous) {
  CUstream_st* stream = resolve(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  const Residence where = residence_of(to, bytes);
  if (where != Residence::device && where != Residence::pinned) return cudaErrorInvalidValue;
  const auto fill = [to, value, bytes] {
    if (is_device_address(to) && !in_device_memory(to, bytes))
      throw DeviceFault("a memset touches memory " + describe_address(to), cudaErrorIllegalAddress);
    std::memset(to, value, bytes);
  };
  OperationPtr queued;
  const double cost_ns = kCopyLatency + bytes / kDeviceBytesPerNs;
  const cudaError_t result =
      submit(*stream, {cudaGraphNodeTypeMemset, "memset", fill, cost_ns, {}}, &queued);
  if (result != cudaSuccess || asynchronous || where != Residence::pinned) return result;
  wait_for(queued);
  return runtime().sticky;
}

}  // namespace
}  // namespace simt

using simt::call;

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return call(__func__, simt::kUnsafeInCapture, [&] {
    return simt::copy(to, from, bytes, kind, nullptr, /* asynchronous= */ false);
  });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return call(__func__, simt::kPlain,
              [&] { return simt::copy(to, from, bytes, kind, stream, /* asynchronous= */ true); });
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return call(__func__, simt::kUnsafeInCapture,
              [&] { return simt::set(to, value, bytes, nullptr, /* asynchronous= */ false); });
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return call(__func__, simt::kPlain,
              [&] { return simt::set(to, value, bytes, stream, /* asynchronous= */ true); });
}
