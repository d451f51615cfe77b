// device_graph.cpp: begin, queue, end; the calls of CUDA are in cuda_device.cpp.
#include "core/device_graph.h"

#include "core/device.h"
#include "core/error.h"

namespace minibert {

DeviceGraph::~DeviceGraph() {
  reset();
}

void DeviceGraph::reset() noexcept {
  if (graph_) cuda_end_graph(graph_);
  graph_ = nullptr;
}

void DeviceGraph::capture(const std::function<void()>& queue) {
  reset();
  const Stream stream = current_stream();
  MB_ASSERT(stream.handle, "graph: the default stream can't be captured");
  cuda_begin_capture(stream);
  try {
    queue();
  } catch (...) {
    cuda_drop_capture(stream);
    throw;
  }
  graph_ = cuda_end_capture(stream);
}

void DeviceGraph::launch() const {
  MB_ASSERT(graph_, "graph: nothing was captured");
  cuda_launch_graph(graph_, current_stream());
}

}  // namespace minibert
