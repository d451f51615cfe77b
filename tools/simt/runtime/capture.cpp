// capture.cpp: recording streams into a graph instead of running them.
// A capturing stream keeps the nodes that its next node comes after, its frontier. A stream joins a
// capture by waiting for an event recorded in it, and its work must lead back to the origin the
// same way. A call that a capture forbids makes it invalid: everything recorded later, and the end
// of the capture, then report cudaErrorStreamCaptureInvalidated. Test: ctest -R simt_graph.
#include <algorithm>

#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

thread_local cudaStreamCaptureMode t_mode = cudaStreamCaptureModeGlobal;

void add_to_frontier(std::vector<size_t>& frontier, const std::vector<size_t>& nodes) {
  for (size_t node : nodes)
    if (std::find(frontier.begin(), frontier.end(), node) == frontier.end())
      frontier.push_back(node);
}

/// Whether every node that any stream of the capture ends with comes before the origin's end.
bool all_joined(const Capture& capture) {
  std::set<size_t> before;
  std::vector<size_t> open = capture.origin->frontier;
  while (!open.empty()) {
    const size_t node = open.back();
    open.pop_back();
    if (!before.insert(node).second) continue;
    const auto& after = capture.graph->nodes[node]->after;
    open.insert(open.end(), after.begin(), after.end());
  }
  for (const CUstream_st* stream : capture.streams)
    for (size_t node : stream->frontier)
      if (!before.count(node)) return false;
  return true;
}

void leave(const std::shared_ptr<Capture>& capture) {
  for (CUstream_st* stream : capture->streams) {
    stream->capture.reset();
    stream->frontier.clear();
  }
  capture->streams.clear();
  runtime().captures.erase(capture);
}

bool is_active(const Capture& capture) {
  return !capture.streams.empty();
}

cudaError_t begin(CUstream_st& stream, cudaStreamCaptureMode mode) {
  if (mode != cudaStreamCaptureModeGlobal && mode != cudaStreamCaptureModeThreadLocal &&
      mode != cudaStreamCaptureModeRelaxed)
    return cudaErrorInvalidValue;
  if (stream.is_null()) return cudaErrorStreamCaptureUnsupported;
  if (stream.capture) return cudaErrorIllegalState;
  Runtime& r = runtime();
  auto capture = std::make_shared<Capture>();
  capture->id = ++r.last_capture_id;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = &stream;
  capture->graph = std::make_unique<CUgraph_st>();
  capture->streams.insert(&stream);
  stream.capture = capture;
  r.captures.insert(capture);
  return cudaSuccess;
}

cudaError_t end(CUstream_st& stream, cudaGraph_t* graph) {
  const std::shared_ptr<Capture> capture = stream.capture;
  if (!capture) return cudaErrorIllegalState;
  if (capture->mode != cudaStreamCaptureModeRelaxed &&
      capture->thread != std::this_thread::get_id())
    return cudaErrorStreamCaptureWrongThread;
  if (capture->origin != &stream) {
    invalidate(*capture);
    return cudaErrorStreamCaptureUnmatched;
  }
  const bool joined = all_joined(*capture);
  leave(capture);
  *graph = nullptr;
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (!joined) return cudaErrorStreamCaptureUnjoined;
  *graph = capture->graph.release();
  runtime().graphs.insert(*graph);
  return cudaSuccess;
}

}  // namespace

void invalidate(Capture& capture) {
  if (is_active(capture)) capture.invalid = true;
}

bool capture_forbids_unsafe_call() {
  if (t_mode == cudaStreamCaptureModeRelaxed) return false;
  bool forbidden = false;
  for (const auto& capture : runtime().captures) {
    const bool own = capture->thread == std::this_thread::get_id();
    const bool forbids =
        (capture->mode == cudaStreamCaptureModeGlobal && t_mode == cudaStreamCaptureModeGlobal) ||
        (capture->mode != cudaStreamCaptureModeRelaxed && own);
    if (forbids) invalidate(*capture);
    forbidden |= forbids;
  }
  return forbidden;
}

cudaError_t record_node(CUstream_st& stream, Work work) {
  Capture& capture = *stream.capture;
  if (capture.invalid) return cudaErrorStreamCaptureInvalidated;
  auto node = std::make_unique<CUgraphNode_st>();
  node->work = std::move(work);
  node->after = stream.frontier;
  node->index = capture.graph->nodes.size();
  stream.frontier = {node->index};
  capture.graph->nodes.push_back(std::move(node));
  return cudaSuccess;
}

cudaError_t wait_in_capture(CUstream_st& stream, CUevent_st& event) {
  const auto refuse = [&](cudaError_t error) {
    if (stream.capture) invalidate(*stream.capture);
    if (event.capture) invalidate(*event.capture);
    return error;
  };
  if (stream.capture && stream.capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (!event.capture) return event.recorded ? refuse(cudaErrorStreamCaptureIsolation) : cudaSuccess;
  if (!is_active(*event.capture)) return refuse(cudaErrorCapturedEvent);
  if (event.capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (stream.is_null()) return refuse(cudaErrorStreamCaptureImplicit);
  if (stream.capture && stream.capture != event.capture) return refuse(cudaErrorStreamCaptureMerge);
  if (!stream.capture) {
    stream.capture = event.capture;
    stream.capture->streams.insert(&stream);
  }
  add_to_frontier(stream.frontier, event.frontier);
  return cudaSuccess;
}

}  // namespace simt

using simt::call;
using simt::resolve;

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = resolve(handle);
    return stream ? simt::begin(*stream, mode) : cudaErrorInvalidResourceHandle;
  });
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  return call(__func__, simt::kPlain, [&] {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    return graph ? simt::end(*stream, graph) : cudaErrorInvalidValue;
  });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return call(__func__, simt::kPlain, [&] {
    const CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!status) return cudaErrorInvalidValue;
    *status = cudaStreamCaptureStatusNone;
    if (stream->capture)
      *status = stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return call(__func__, simt::kPlain, [&] {
    if (!mode) return cudaErrorInvalidValue;
    std::swap(*mode, simt::t_mode);
    return cudaSuccess;
  });
}
