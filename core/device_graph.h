// device_graph.h: work that is queued once and replayed as a whole: a CUDA graph. One launch in place
// of hundreds, for a step that would otherwise wait for the host to queue it. Used by
// models/training/train_step.cpp. Easy to break: a replay uses the addresses of the capture, so what
// changes from replay to replay is copied into memory that was there before; and what the host
// computed while it queued (shapes, arguments) stays as it was. Test: ctest -R train_step_cuda.
#pragma once

#include <functional>

namespace minibert {

class DeviceGraph {
 public:
  DeviceGraph() = default;
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  bool captured() const { return graph_ != nullptr; }
  /// Keeps what `queue` queues on the thread's stream, which runs nothing of it. Memory that is freed
  /// meanwhile may be used by later work of this stream; it must have been had before the capture.
  /// Errors: InternalError if CUDA refuses, and whatever `queue` throws; then there is no graph.
  void capture(const std::function<void()>& queue);
  /// Queues it all on the thread's stream.
  void launch() const;
  /// Forgets it.
  void reset() noexcept;

 private:
  void* graph_ = nullptr;  // a cudaGraphExec_t
};

}  // namespace minibert
