// parallel.h: threads for CPU kernels, over fixed blocks.
// Called by core/kernels. A block's bounds depend on the problem alone, never on the thread count,
// and whoever sums over blocks does it in block order: so 1 and 2 threads give the same bits. The
// only file that knows OpenMP. Test: ctest -R core_parallel.
#pragma once

#include <cstdint>
#include <functional>

namespace minibert {

/// Threads that kernels use: --threads, else OMP_NUM_THREADS, else the cgroup's CPU quota, else the
/// cores. Always >= 1.
int num_threads();
/// Errors: UsageError unless 1 <= threads <= 1024.
void set_num_threads(int threads);
/// CPUs that this process may use: affinity mask and cgroup quota (rounded up), whichever is
/// smaller.
int available_cpus();

/// Calls body(block) for block = 0 .. blocks - 1, each once, on any thread, in any order.
/// Exceptions: the one from the lowest block is rethrown. Nested calls run on the calling thread.
void parallel_blocks(int64_t blocks, const std::function<void(int64_t)>& body);

/// Runs `body` while OpenMP reports one thread to libraries called inside (oneDNN plans by that
/// number); parallel_blocks inside uses its threads as usual.
void with_one_library_thread(const std::function<void()>& body);

/// Calls body(begin, end) over [0, n) in blocks of `grain` elements (the last may be shorter).
inline void parallel_for(int64_t n, int64_t grain,
                         const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  parallel_blocks((n + grain - 1) / grain, [&](int64_t block) {
    const int64_t begin = block * grain;
    body(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace minibert
