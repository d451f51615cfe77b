// loader_prefetch.cpp: one mutex, one condition, a map from step to result. See loader_prefetch.h.
#include "models/text/loader_prefetch.h"

#include <chrono>

#include "core/error.h"

namespace minibert {

Prefetcher::Prefetcher(std::function<GlobalStep(int64_t)> load, int64_t first_step, int depth,
                       int threads)
    : load_(std::move(load)),
      depth_(depth),
      next_to_load_(first_step),
      next_to_hand_over_(first_step) {
  MB_CHECK(depth >= 1 && threads >= 1,
           "prefetch: depth is {} and threads are {}, expected at least 1 each", depth, threads);
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Prefetcher::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock,
                  [this] { return stopping_ || next_to_load_ < next_to_hand_over_ + depth_; });
    if (stopping_) return;
    const int64_t step = next_to_load_++;
    lock.unlock();
    Slot slot;
    try {
      slot.step = load_(step);
    } catch (...) {
      slot.error = std::current_exception();
    }
    lock.lock();
    ready_.emplace(step, std::move(slot));
    changed_.notify_all();
  }
}

bool Prefetcher::ready_within(double seconds) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                           [this] { return ready_.contains(next_to_hand_over_); });
}

GlobalStep Prefetcher::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return ready_.contains(next_to_hand_over_); });
  const auto found = ready_.find(next_to_hand_over_);
  if (found->second.error) std::rethrow_exception(found->second.error);
  GlobalStep step = std::move(found->second.step);
  ready_.erase(found);
  ++next_to_hand_over_;
  changed_.notify_all();
  return step;
}

}  // namespace minibert
