// device_graph.cpp: begin, queue, end; the calls of CUDA are in cuda_device.cpp.
#include "core/device_graph.h"

#include "core/allocator.h"
#include "core/device.h"
#include "core/error.h"

namespace minibert {

DeviceGraph::~DeviceGraph() {
  reset();
}

void DeviceGraph::reset() noexcept {
  if (graph_) cuda_end_graph(graph_);
  graph_ = nullptr;
  Allocator::instance().let_go(memory_);
  memory_.clear();
}

void DeviceGraph::capture(const std::function<void()>& queue) {
  reset();
  MB_CHECK(
      !Allocator::instance().direct(),
      "graph: MINIBERT_DIRECT_ALLOCATOR is 1, expected it unset: a graph's memory must outlive "
      "the step that is captured. Unset it, or go without --graph.");
  const Stream stream = current_stream();
  MB_ASSERT(stream.handle, "graph: the default stream can't be captured");
  cuda_begin_capture(stream);
  Allocator& memory = Allocator::instance();
  memory.begin_keeping();
  try {
    queue();
  } catch (...) {
    memory.let_go(memory.end_keeping());
    cuda_drop_capture(stream);
    throw;
  }
  memory_ = memory.end_keeping();
  graph_ = cuda_end_capture(stream);
}

void DeviceGraph::launch() const {
  MB_ASSERT(graph_, "graph: nothing was captured");
  cuda_launch_graph(graph_, current_stream());
}

}  // namespace minibert
