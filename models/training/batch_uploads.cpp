// batch_uploads.cpp: two places and the marks between two streams.
#include "models/training/batch_uploads.h"

#include <algorithm>

#include "core/device.h"
#include "core/device_marks.h"
#include "core/dry_run.h"
#include "core/kernels/copy.h"

namespace minibert {
namespace {

/// `stream` waits for the mark, which ends.
void follow(Stream stream, void*& mark) {
  if (!mark) return;
  cuda_follow(stream, mark);
  cuda_end_mark(mark);
  mark = nullptr;
}

}  // namespace

BatchUploads::BatchUploads(Device device)
    : device_(device),
      stream_(device == Device::cuda && !DryRun::on() ? cuda_make_stream() : Stream{}) {}

BatchUploads::~BatchUploads() {
  if (!stream_.handle) return;
  cuda_end_stream(stream_);
  for (const Place& place : places_)
    for (void* mark : {place.copied, place.used})
      if (mark) cuda_end_mark(mark);
}

void BatchUploads::start(const GlobalStep& step) {
  if (data_step_ != step.data_step || next_ > 0) {
    data_step_ = step.data_step;
    next_ = next_to_copy_ = 0;
  }
  if (device_ == Device::cuda) fill(step);
}

void BatchUploads::use_next(const GlobalStep& step,
                            const std::function<void(const DeviceBatch&)>& queue) {
  if (device_ == Device::cpu) return queue(upload(step.micro_batches[next_++], device_));
  Place& place = places_[next_ % kPlaces];
  follow(current_stream(), place.copied);
  queue(place.batch);
  place.used = cuda_mark(current_stream());
  ++next_;
  fill(step);
}

void BatchUploads::fill(const GlobalStep& step) {
  for (; next_to_copy_ < std::min(step.micro_batches.size(), next_ + kPlaces); ++next_to_copy_)
    copy(step.micro_batches[next_to_copy_], places_[next_to_copy_ % kPlaces]);
}

void BatchUploads::copy(const PackedBatch& from, Place& place) {
  make_room(from.block.numel(), place);
  place.batch = DeviceBatch(from.sizes, place.memory.slice(0, from.block.shape()));
  follow(stream_, place.used);
  const StreamScope scope(stream_);
  if (place.copied) cuda_end_mark(place.copied);  // a batch that nobody asked for
  place.copied = nullptr;
  copy_to_device(from.block.raw(), place.batch.block);
  held_.hold(stream_, from.block);
  place.copied = cuda_mark(stream_);
}

/// New memory comes from the allocator, and the old goes back, in the order of the thread's stream.
void BatchUploads::make_room(int64_t elements, Place& place) {
  if (place.memory.defined() && place.memory.numel() >= elements) return;
  follow(current_stream(), place.copied);
  place.memory = Tensor::empty({elements}, DType::i32, MemoryCategory::workspace, device_);
  void* now = cuda_mark(current_stream());
  follow(stream_, now);
}

}  // namespace minibert
