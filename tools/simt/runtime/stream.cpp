// stream.cpp: making, ordering and waiting for streams, and functions that run on the host.
// Test: ctest -R simt_queue.
#include <algorithm>

#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

cudaError_t create(cudaStream_t* handle, unsigned flags, int priority) {
  if (!handle || (flags & ~cudaStreamNonBlocking)) return cudaErrorInvalidValue;
  Runtime& r = runtime();
  auto* stream = new CUstream_st;
  stream->id = ++r.last_stream_id;
  stream->device = current_device();
  stream->flags = flags;
  stream->urgency = random_urgency();
  stream->priority = std::clamp(priority, -5, 0);
  r.streams.insert(stream);
  *handle = stream;
  return cudaSuccess;
}

/// For calls about the progress of a stream, which a capture forbids.
cudaError_t refuse_if_capturing(CUstream_st& stream) {
  if (!stream.capture) return cudaSuccess;
  invalidate(*stream.capture);
  return cudaErrorStreamCaptureUnsupported;
}

}  // namespace
}  // namespace simt

using simt::call;
using simt::resolve;
using simt::runtime;

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return call(__func__, simt::kPlain, [&] { return simt::create(stream, cudaStreamDefault, 0); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return call(__func__, simt::kPlain, [&] { return simt::create(stream, flags, 0); });
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return call(__func__, simt::kPlain, [&] { return simt::create(stream, flags, priority); });
}

// Returns at once; what is queued still runs.
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return call(__func__, simt::kPlain, [&] {
    simt::Runtime& r = runtime();
    if (!r.streams.count(handle)) return cudaErrorInvalidResourceHandle;
    if (handle->capture) {
      simt::invalidate(*handle->capture);
      handle->capture->streams.erase(handle);
      if (handle->capture->origin == handle) r.captures.erase(handle->capture);
      handle->capture.reset();
    }
    r.streams.erase(handle);
    std::unique_ptr<CUstream_st> stream(handle);
    if (!stream->queue.empty()) r.zombies.push_back(std::move(stream));
    return cudaSuccess;
  });
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = simt::refuse_if_capturing(*stream);
    if (refused != cudaSuccess) return refused;
    simt::wait_for_stream(*stream);
    return runtime().sticky;
  });
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = simt::refuse_if_capturing(*stream);
    if (refused != cudaSuccess) return refused;
    const bool done = simt::poll(stream->last);
    if (runtime().sticky != cudaSuccess) return runtime().sticky;
    return done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = resolve(handle);
    if (!stream || !runtime().events.count(event)) return cudaErrorInvalidResourceHandle;
    if (flags != cudaEventWaitDefault) return cudaErrorInvalidValue;
    if (stream->capture || event->capture) return simt::wait_in_capture(*stream, *event);
    if (!event->recorded) return cudaSuccess;
    return simt::submit(*stream, {cudaGraphNodeTypeWaitEvent, "wait for event", {}, 0, {}}, nullptr,
                        {event->recorded});
  });
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
  return call(__func__, simt::kPlain, [&] {
    const CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!flags) return cudaErrorInvalidValue;
    *flags = stream->flags;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return call(__func__, simt::kPlain, [&] {
    const CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!priority) return cudaErrorInvalidValue;
    *priority = stream->priority;
    return cudaSuccess;
  });
}

cudaError_t cudaStreamGetId(cudaStream_t handle, unsigned long long* id) {
  return call(__func__, simt::kPlain, [&] {
    const CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!id) return cudaErrorInvalidValue;
    *id = stream->id;
    return cudaSuccess;
  });
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* user_data) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!function) return cudaErrorInvalidValue;
    constexpr double kCost = 1000;  // ns on the virtual clock
    return simt::submit(*stream, {cudaGraphNodeTypeHost,
                                  "host function",
                                  [function, user_data] { function(user_data); },
                                  kCost,
                                  {}});
  });
}
