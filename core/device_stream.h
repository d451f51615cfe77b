// device_stream.h: where a thread's work on a device is queued. Made once by whoever owns that work:
// training, evaluation, a verb that runs a model, a test. Easy to break: one thread, one stream at a
// time; memory that the thread frees is used again in the stream's order, so work of two streams on
// one tensor needs an event between them, and host memory that a queued copy reads must be held.
// Test: ctest -R train_step_cuda.
#pragma once

#include <deque>
#include <utility>

#include "core/precision.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace minibert {

/// Memory of the host that queued copies read: each piece is kept until its stream has passed the copy.
class HeldMemory {
 public:
  HeldMemory() = default;
  ~HeldMemory();
  HeldMemory(const HeldMemory&) = delete;
  HeldMemory& operator=(const HeldMemory&) = delete;

  /// Until the stream has passed what is queued in it now.
  void hold(Stream stream, const Tensor& host);
  void release_passed();

 private:
  std::deque<std::pair<void*, Tensor>> held_;  // mark in the stream, memory that waits for it
};

/// While it lives, kernels of this thread go to a stream of their own and round products as `compute`
/// says, and MemoryCategory::data, where batches lie, is page-locked. On the CPU it does nothing.
class DeviceStream {
 public:
  /// Errors: UsageError if the device can't be used.
  explicit DeviceStream(const ComputeOptions& compute);
  ~DeviceStream();
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  /// Waits for what was queued. Errors: InternalError, with what went wrong on the device.
  void wait();

 private:
  friend void hold_until_passed(const Tensor& host);

  Stream stream_;
  StreamScope scope_;
  TensorFloat32Scope tf32_;
  DeviceStream* outer_;  // this thread's stream before
  HeldMemory held_;
};

/// Keeps a host tensor's memory until the thread's stream has passed what is queued now: after
/// copy_to_device from page-locked memory, which reads it later.
void hold_until_passed(const Tensor& host);

}  // namespace minibert
