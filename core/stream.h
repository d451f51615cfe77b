// stream.h: the queue of a device's work that kernels of this thread go to.
// Read by core/dispatch.h, which hands it to CUDA kernels; set by whoever owns a device's work (the
// training step). The CPU runs a kernel at the call and ignores it. Easy to break: the default
// stream of CUDA can't be captured into a graph, so a training thread makes one of its own.
// Test: ctest -R core_dispatch.
#pragma once

namespace minibert {

/// A CUDA stream, or null on the CPU.
struct Stream {
  void* handle = nullptr;
};

/// The stream of the calling thread.
Stream current_stream();

/// Sets it while it lives.
class StreamScope {
 public:
  explicit StreamScope(Stream stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Stream before_;
};

}  // namespace minibert
