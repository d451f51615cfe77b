// loader_prefetch.h: prepares the next steps on threads of its own while the trainer works. Called
// by models/training. Easy to break: steps are handed over in order whatever the threads do, and
// stopping never waits for a step that nobody will take. Not OpenMP: kernels own its threads.
// Test: ctest -R text_loader (suite PrefetcherTest), also under the tsan preset.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "models/text/loader.h"

namespace minibert {

class Prefetcher {
 public:
  /// Starts to load steps first_step, first_step + 1, ...; at most `depth` of them are ready or
  /// under way. `load(data_step)` is Loader::load or the like: called by all threads at once.
  /// Errors: UsageError unless depth and threads are at least 1.
  Prefetcher(std::function<GlobalStep(int64_t)> load, int64_t first_step, int depth = 2,
             int threads = 1);
  ~Prefetcher();  // stops the threads
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The next step, in order; waits for it if need be. An error of loading it is thrown here, and
  /// again at each later call.
  GlobalStep next();
  /// Whether next() would not wait, after waiting for that at most so long: the trainer looks at
  /// signals in between.
  bool ready_within(double seconds);

 private:
  struct Slot {
    GlobalStep step;
    std::exception_ptr error;
  };
  void work();

  const std::function<GlobalStep(int64_t)> load_;
  const int64_t depth_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  int64_t next_to_load_, next_to_hand_over_;
  bool stopping_ = false;
  std::map<int64_t, Slot> ready_;
  std::vector<std::thread> threads_;
};

}  // namespace minibert
