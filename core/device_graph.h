// device_graph.h: work that is queued once and replayed as a whole: a CUDA graph. One launch in place
// of hundreds, for a step that would otherwise wait for the host to queue it. Used by
// models/training/train_step.cpp. Easy to break: a replay uses the addresses of the capture, so what
// changes from replay to replay is copied into memory that was there before; and what the host
// computed while it queued (shapes, arguments) stays as it was. Test: ctest -R train_step_cuda.
#pragma once

#include <functional>
#include <vector>

namespace minibert {

class DeviceGraph {
 public:
  DeviceGraph() = default;
  ~DeviceGraph();
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  bool captured() const { return graph_ != nullptr; }
  /// Keeps what `queue` queues on the thread's stream, which runs nothing of it. Memory that `queue`
  /// allocates and frees may be used by other work of this stream, but the system does not get it back
  /// while the graph lives. Errors: InternalError if CUDA refuses, UsageError if the allocator is
  /// direct (it gives memory back at once), and whatever `queue` throws; then there is no graph.
  void capture(const std::function<void()>& queue);
  /// Queues it all on the thread's stream.
  void launch() const;
  /// Forgets it.
  void reset() noexcept;

 private:
  void* graph_ = nullptr;      // a cudaGraphExec_t
  std::vector<void*> memory_;  // that its replay uses
};

}  // namespace minibert
