// batch_uploads.h: micro-batches on their way to the device, in a stream of their own, so that they
// travel while the thread's stream computes: up to two, of this step or of the next. Owned by
// train_step.h. Easy to break: the streams meet at marks alone. A copy waits until the work that used
// its place is over, and work waits for its copy; a place keeps its memory, because memory that goes
// through the allocator is in the order of the thread's stream. Test: ctest -R train_step_cuda.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "core/device_stream.h"
#include "models/text/loader.h"

namespace minibert {

class BatchUploads {
 public:
  explicit BatchUploads(Device device);
  ~BatchUploads();
  BatchUploads(const BatchUploads&) = delete;
  BatchUploads& operator=(const BatchUploads&) = delete;

  /// Queues the copies of a step's first micro-batches, as many as there are places. What was on its
  /// way for another step is forgotten.
  void start(const GlobalStep& step);
  /// Calls `queue` with the step's next micro-batch on the device, in the thread's stream after its
  /// copy, and queues copies into the places that are free then. The batch must not be kept.
  void use_next(const GlobalStep& step, const std::function<void(const DeviceBatch&)>& queue);

 private:
  struct Place {
    Tensor memory;           // of the largest batch so far
    DeviceBatch batch;       // a part of it
    void* copied = nullptr;  // mark in the copies' stream; null once the thread's stream waits
    void* used = nullptr;    // mark in the thread's stream
  };
  static constexpr size_t kPlaces = 2;

  void fill(const GlobalStep& step);
  void copy(const PackedBatch& from, Place& place);
  void make_room(int64_t elements, Place& place);

  Device device_;
  Stream stream_;  // of the copies
  HeldMemory held_;
  std::array<Place, kPlaces> places_;
  int64_t data_step_ = -1;              // whose micro-batches are on their way:
  size_t next_to_copy_ = 0, next_ = 0;  // batch i goes to place i mod kPlaces
};

}  // namespace minibert
