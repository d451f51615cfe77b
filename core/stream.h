// stream.h: the queue of a device's work that kernels of this thread go to, and whether their products
// may be rounded to tf32.
// Read by core/dispatch.h, which hands it to CUDA kernels; set by DeviceStream (device_stream.h),
// which training and every verb that runs a model hold. The CPU runs a kernel at the call and ignores
// it. Easy to break: the default stream of CUDA can't be captured into a graph, so a DeviceStream
// makes one of its own.
// Test: ctest -R core_dispatch.
#pragma once

namespace minibert {

/// A CUDA stream, or null on the CPU.
struct Stream {
  void* handle = nullptr;
};

/// Whether products that this thread asks for may round f32 factors to tf32: what the arguments of
/// gemm and attention say unless told otherwise. Set by TensorFloat32Scope; off at first.
bool tf32_allowed();

class TensorFloat32Scope {
 public:
  explicit TensorFloat32Scope(bool allowed);
  ~TensorFloat32Scope();
  TensorFloat32Scope(const TensorFloat32Scope&) = delete;
  TensorFloat32Scope& operator=(const TensorFloat32Scope&) = delete;

 private:
  bool before_;
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
