// parallel.cpp: parallel.h over OpenMP, or on the calling thread where OpenMP is off.
#include "core/parallel.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <utility>

#include <sched.h>

#include "core/cgroup.h"
#include "core/error.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace minibert {
namespace {

std::atomic<int> g_threads{0};

int default_threads() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  const int wanted = text ? std::atoi(text) : 0;
  return wanted >= 1 ? std::min(wanted, 1024) : available_cpus();
}

#ifdef _OPENMP
/// No handler may run on the stack of a thread that is in one of oneDNN's products: these keep values
/// where it would write. Once a thread.
void leave_signals_to_others() {
  thread_local bool done = false;
  if (std::exchange(done, true)) return;
  sigset_t signals;
  sigfillset(&signals);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP})
    sigdelset(&signals, fault);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}
#endif

}  // namespace

int available_cpus() {
  cpu_set_t set;
  int cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  const double quota = cgroup_cpus();
  if (std::isfinite(quota)) cpus = std::min(cpus, static_cast<int>(std::ceil(quota)));
  return std::max(1, cpus);
}

int num_threads() {
  if (g_threads == 0) set_num_threads(default_threads());
  return g_threads;
}

void set_num_threads(int threads) {
  MB_CHECK(threads >= 1 && threads <= 1024, "threads is {}, expected 1 to 1024", threads);
  g_threads = threads;
#ifdef _OPENMP
  omp_set_num_threads(threads);  // oneDNN follows it
#endif
}

#ifdef _OPENMP
void parallel_blocks(int64_t blocks, const std::function<void(int64_t)>& body) {
  const int threads = static_cast<int>(std::min<int64_t>(num_threads(), blocks));
  if (threads <= 1 || omp_in_parallel()) {
    for (int64_t block = 0; block < blocks; ++block) body(block);
    return;
  }
  std::exception_ptr first_error;
  int64_t first_block = blocks;
#pragma omp parallel num_threads(threads)
  {
    if (omp_get_thread_num() != 0) leave_signals_to_others();
#pragma omp for schedule(dynamic, 1)
    for (int64_t block = 0; block < blocks; ++block) {
      try {
        body(block);
      } catch (...) {
#pragma omp critical(minibert_parallel_error)
        if (block < first_block) {
          first_block = block;
          first_error = std::current_exception();
        }
      }
    }
  }
  if (first_error) std::rethrow_exception(first_error);
}

void with_one_library_thread(const std::function<void()>& body) {
  struct Restore {
    int threads = omp_get_max_threads();
    ~Restore() { omp_set_num_threads(threads); }
  } restore;
  omp_set_num_threads(1);
  body();
}
#else
void parallel_blocks(int64_t blocks, const std::function<void(int64_t)>& body) {
  for (int64_t block = 0; block < blocks; ++block) body(block);
}

void with_one_library_thread(const std::function<void()>& body) {
  body();
}
#endif

}  // namespace minibert
