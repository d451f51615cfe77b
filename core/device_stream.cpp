// device_stream.cpp: memory that waits for its mark is let go when the next comes, or at the end.
#include "core/device_stream.h"

#include "core/allocator.h"

namespace minibert {
namespace {
thread_local DeviceStream* t_innermost = nullptr;
}

DeviceStream::DeviceStream(const ComputeOptions& compute)
    : stream_(compute.device == Device::cuda ? cuda_make_stream() : Stream{}),
      scope_(stream_),
      tf32_(compute.tf32),
      outer_(t_innermost) {
  if (compute.device == Device::cuda) Allocator::instance().pin_host_data();
  t_innermost = this;
}

DeviceStream::~DeviceStream() {
  t_innermost = outer_;
  if (!stream_.handle) return;
  cuda_end_stream(stream_);
}

void DeviceStream::wait() {
  if (!stream_.handle) return;
  cuda_wait(stream_);
  held_.release_passed();
}

HeldMemory::~HeldMemory() {
  for (auto& [mark, memory] : held_) cuda_end_mark(mark);
}

void HeldMemory::hold(Stream stream, const Tensor& host) {
  release_passed();
  held_.emplace_back(cuda_mark(stream), host);
}

void HeldMemory::release_passed() {
  while (!held_.empty() && cuda_passed(held_.front().first)) {
    cuda_end_mark(held_.front().first);
    held_.pop_front();
  }
}

void hold_until_passed(const Tensor& host) {
  DeviceStream* stream = t_innermost;
  if (!stream || !stream->stream_.handle) return;
  stream->held_.hold(stream->stream_, host);
}

}  // namespace minibert
