// event.cpp: marks in streams, waiting for them, and the virtual time between them.
// Time is not measured: each operation costs a fixed time (a kernel 5 us, a copy by its bytes), and
// an event has the time at which everything before it would end if streams ran side by side. So
// elapsed times are the same in every run and under every schedule. Test: ctest -R simt_queue.
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

/// Events that were last recorded in a capture have no progress and no time.
cudaError_t refuse_captured(CUevent_st& event) {
  if (!event.capture) return cudaSuccess;
  invalidate(*event.capture);
  return cudaErrorCapturedEvent;
}

}  // namespace
}  // namespace simt

using simt::call;
using simt::runtime;

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return call(__func__, simt::kPlain, [&] {
    const unsigned known = cudaEventBlockingSync | cudaEventDisableTiming;  // no interprocess
    if (!event || (flags & ~known)) return cudaErrorInvalidValue;
    *event = new CUevent_st;
    (*event)->flags = flags;
    (*event)->device = simt::current_device();
    runtime().events.insert(*event);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call(__func__, simt::kPlain, [&] {
    if (runtime().events.erase(event) == 0) return cudaErrorInvalidResourceHandle;
    delete event;
    return cudaSuccess;
  });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = simt::resolve(handle);
    if (!stream || !runtime().events.count(event)) return cudaErrorInvalidResourceHandle;
    if (event->device != stream->device) return cudaErrorInvalidResourceHandle;
    if (stream->capture) {
      if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
      event->recorded.reset();
      event->capture = stream->capture;
      event->frontier = stream->frontier;
      return cudaSuccess;
    }
    event->capture.reset();
    return simt::submit(*stream, {cudaGraphNodeTypeEventRecord, "record event", {}, 0, {}},
                        &event->recorded);
  });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call(__func__, simt::kPlain, [&] {
    if (!runtime().events.count(event)) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = simt::refuse_captured(*event);
    if (refused != cudaSuccess) return refused;
    const bool done = simt::poll(event->recorded);
    if (runtime().sticky != cudaSuccess) return runtime().sticky;
    return done ? cudaSuccess : cudaErrorNotReady;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call(__func__, simt::kPlain, [&] {
    if (!runtime().events.count(event)) return cudaErrorInvalidResourceHandle;
    const cudaError_t refused = simt::refuse_captured(*event);
    if (refused != cudaSuccess) return refused;
    simt::wait_for(event->recorded);
    return runtime().sticky;
  });
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return call(__func__, simt::kPlain, [&] {
    if (!milliseconds) return cudaErrorInvalidValue;
    for (CUevent_st* event : {start, end}) {
      if (!runtime().events.count(event)) return cudaErrorInvalidResourceHandle;
      const cudaError_t refused = simt::refuse_captured(*event);
      if (refused != cudaSuccess) return refused;
      if (!event->recorded || (event->flags & cudaEventDisableTiming))
        return cudaErrorInvalidResourceHandle;
    }
    if (!start->recorded->done || !end->recorded->done) return cudaErrorNotReady;
    *milliseconds = static_cast<float>((end->recorded->end_ns - start->recorded->end_ns) / 1e6);
    return cudaSuccess;
  });
}
