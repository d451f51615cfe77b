// scheduler.h: the threads of the one block that runs, and who runs next. A thread runs until it
// waits (barrier, warp function) or ends; then the lowest-numbered thread that can run does (seed 0),
// or a random one. Threads start on the stack of one that ended; only a thread that waits keeps a
// stack. Blocks run one after another, on one thread of the host: no locks, and the same bits in
// every run. Called by warp.cpp, barrier.cpp, async_copy.cpp and launch.cpp. Easy to break: a thread
// that waits must be in nobody's ready mask, and whoever ends a wait must set it again.
// Test: ctest -R simt_engine_launch.
#pragma once

#include <bit>
#include <cstdint>
#include <exception>
#include <vector>

#include <cuda_runtime_api.h>

#include "tools/simt/builtins.h"
#include "tools/simt/fiber.h"
#include "tools/simt/report.h"

namespace simt {

inline constexpr int kLanes = 32, kMaxThreads = 1024, kMaxWarps = kMaxThreads / kLanes;
inline constexpr int kBarriers = 16;

/// What a warp function is called and what its last lane computes for all of them.
struct Operation {
  const char* name;
  void (*compute)(struct Thread* lanes, uint32_t mask);  // lanes[0..31]; null: only a meeting
  bool aligned = false;  // the whole warp, from one place of the code (mma, ldmatrix)
};

struct AsyncCopy {
  void* to;
  const void* from;
  int bytes;       // read; the rest of the 16 become zeros
  uint32_t group;  // number of the thread's group
};

struct alignas(64) Thread {
  // ---- Read and written at each wait
  void* context = nullptr;  // where it goes on; null: not started yet
  Stack* stack = nullptr;   // on which
  const void* operand = nullptr;
  void* result = nullptr;
  const char* waits_in = nullptr;  // name of what it waits in, or did last
  Place place;                     // where it called that
  // ---- Fixed for a launch
  uint3 index = {};
  uint16_t warp = 0, lane = 0;
  // ---- Seldom
  uint32_t mask = 0;  // of the warp function, or the barrier's number
  bool ended = false;
  uint32_t copy_group = 0;  // of the copies being issued
  std::vector<AsyncCopy> copies;
  Sanitizer sanitizer;
};

/// Lanes that gather for one call of a warp function.
struct Meeting {
  uint32_t mask = 0;     // who is wanted
  uint32_t arrived = 0;  // who came; 0: the slot is free
  const Operation* operation = nullptr;
};

struct Warp {
  uint32_t lanes = 0;     // that exist: the last warp may be short
  uint32_t meetings = 0;  // slots in use
  Meeting meeting[kLanes];
};

struct Barrier {
  int arrived = 0;   // threads, those that did not wait for it included
  int expected = 0;  // as the first said (barrier 0: all threads that have not ended)
  Place place;       // where the first came
  const char* name = nullptr;
  int count = 0;   // __syncthreads_count, and the like: how many predicates were true
  int result = 0;  // the count of the last time
  uint32_t waiting[kMaxWarps] = {};
};

struct Scheduler {
  Thread thread[kMaxThreads];
  Warp warp[kMaxWarps];
  Barrier barrier[kBarriers];
  uint32_t ready[kMaxWarps] = {};  // lanes that can run
  uint32_t ready_warps = 0;
  int threads = 0, warps = 0;
  int live = 0;  // threads that have not ended
  Thread* current = nullptr;
  Stack* starting = nullptr;  // of the worker about to be entered
  bool from_host = false;     // the worker about to be entered is the block's first
  void* host = nullptr;       // where run_block goes on
  Sanitizer host_sanitizer;
  uint64_t steps = 0, step_limit = 0;
  uint64_t seed = 0, random = 0;
  std::exception_ptr failure;
  // ---- The launch
  void (*body)(const void*) = nullptr;
  const void* body_data = nullptr;
  const struct LaunchRequest* launch = nullptr;
};
extern Scheduler scheduler;

/// Prepares for blocks of this shape.
void set_block_shape(dim3 shape);
/// Runs the block whose index is in blockIdx. Throws what the first faulty thread threw.
void run_block();

inline void make_ready(int warp, uint32_t lanes) {
  scheduler.ready[warp] |= lanes;
  scheduler.ready_warps |= 1u << warp;
}

/// A pseudo-random number of the block's order.
inline uint64_t next_random() {
  uint64_t& x = scheduler.random;
  x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return x;
}

/// For the thread that ends: whether the block's barrier is now complete. In barrier.cpp.
void thread_ended();
/// Throws: nobody can run, and who waits where. In report.cpp.
[[noreturn, gnu::cold]] void deadlock();
[[noreturn, gnu::cold]] void too_many_steps();

// ---- Waiting: inline, since every return between a switch and the kernel would be mispredicted ---
void set_context(Thread& fresh);

/// Takes a thread from the ready masks; null if there is none.
[[gnu::always_inline]] inline Thread* pick() {
  Scheduler& s = scheduler;
  if (!s.ready_warps) [[unlikely]]
    return nullptr;
  if (++s.steps > s.step_limit) [[unlikely]]
    too_many_steps();
  int warp = std::countr_zero(s.ready_warps), lane;
  if (s.seed == 0) {
    lane = std::countr_zero(s.ready[warp]);
  } else {
    const uint64_t random = next_random();
    const int turn_warps = random & 31, turn_lanes = (random >> 8) & 31;
    warp = (std::countr_zero(std::rotr(s.ready_warps, turn_warps)) + turn_warps) & 31;
    lane = (std::countr_zero(std::rotr(s.ready[warp], turn_lanes)) + turn_lanes) & 31;
  }
  s.ready[warp] &= ~(1u << lane);
  if (!s.ready[warp]) s.ready_warps &= ~(1u << warp);
  return &s.thread[warp * kLanes + lane];
}

[[gnu::always_inline]] inline void set_current(Thread& thread) {
  scheduler.current = &thread;
  threadIdx = thread.index;
}

/// The running thread's stack is left; it is entered again when the thread is picked.
[[gnu::always_inline]] inline void go_on_in(Thread& next) {
  Thread& self = *scheduler.current;
  if (&next == &self) return;
  if (!next.context) [[unlikely]]
    set_context(next);
  set_current(next);
  switch_stack(&self.context, next.context, next.stack, &self.sanitizer);
}

/// For the running thread: it waits until someone calls make_ready for it.
[[gnu::always_inline]] inline void wait(const char* what, Place place) {
  Thread& self = *scheduler.current;
  self.waits_in = what;
  self.place = place;
  Thread* next = pick();
  if (!next) [[unlikely]]
    deadlock();
  go_on_in(*next);
}

/// For the running thread: others may go first. It must be ready.
[[gnu::always_inline]] inline void yield() {
  go_on_in(*pick());
}

}  // namespace simt
