// device_stream.h: where a thread's work on a device is queued. Made once by whoever owns that work:
// training, evaluation, a verb that runs a model, a test. Easy to break: one thread, one stream at a
// time; memory that the thread frees is used again in the stream's order, so work of two streams on
// one tensor needs an event between them. Test: ctest -R core_device.
#pragma once

#include "core/allocator.h"
#include "core/device.h"
#include "core/stream.h"

namespace minibert {

/// While it lives, kernels of this thread go to a stream of their own, and the batches that it
/// copies to the device lie in page-locked memory. On the CPU it does nothing.
class DeviceStream {
 public:
  /// Errors: UsageError if the device can't be used.
  explicit DeviceStream(Device device)
      : stream_(device == Device::cuda ? cuda_make_stream() : Stream{}), scope_(stream_) {
    if (device == Device::cuda) Allocator::instance().pin_host_data();
  }
  ~DeviceStream() {
    if (stream_.handle) cuda_end_stream(stream_);
  }
  DeviceStream(const DeviceStream&) = delete;
  DeviceStream& operator=(const DeviceStream&) = delete;

  Stream get() const { return stream_; }
  /// Waits for what was queued.
  void wait() const {
    if (stream_.handle) cuda_wait(stream_);
  }

 private:
  Stream stream_;
  StreamScope scope_;
};

}  // namespace minibert
