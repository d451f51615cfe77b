// scheduler.cpp: runs a block: picks threads, switches stacks, ends them.
// A worker is a stack on which threads run one after another until one of them waits; that stack
// then belongs to the waiting thread until it ends, and becomes a worker again.
// Test: ctest -R simt_engine_launch.
#include "tools/simt/scheduler.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "tools/simt/builtins.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {

Scheduler scheduler;

namespace {

/// Leaves the running stack for good.
[[noreturn]] void leave(Stack* mine, void* to, Stack* stack) {
  release_stack(*mine);
  void* nowhere;
  switch_stack(&nowhere, to, stack, nullptr);
  __builtin_unreachable();
}

/// Runs the current thread, then others that were not started, until a started one is next.
/// Returns it; null when the block is done or has failed.
Thread* run_threads(Stack* mine) {
  Scheduler& s = scheduler;
  try {
    for (;;) {
      Thread& self = *s.current;
      self.stack = mine;
      s.body(s.body_data);
      self.ended = true;
      --s.live;
      thread_ended();
      Thread* next = pick();
      if (!next) {
        if (s.live > 0) deadlock();
        return nullptr;
      }
      if (next->context) return next;
      set_current(*next);
    }
  } catch (...) {
    s.failure = std::current_exception();
    s.current->ended = true;  // its stack is ours, and is left in the usual way
    return nullptr;
  }
}

void worker() {
  Scheduler& s = scheduler;
  stack_entered(s.from_host);
  s.from_host = false;
  Stack* mine = s.starting;
  Thread* next = run_threads(mine);
  if (next) {
    set_current(*next);
    leave(mine, next->context, next->stack);
  }
  s.current = nullptr;
  leave(mine, s.host, nullptr);
}

/// After a failure: the stacks of threads that wait are dropped as they are.
void abandon() {
  for (int i = 0; i < scheduler.threads; ++i) {
    Thread& thread = scheduler.thread[i];
    if (!thread.ended && thread.stack) release_stack(*thread.stack);
  }
}

}  // namespace

void set_context(Thread& fresh) {
  fresh.stack = scheduler.starting = &acquire_stack();
  fresh.context = prepare(*fresh.stack, worker);
}

void too_many_steps() {
  fail("the block took more than " + std::to_string(scheduler.step_limit) +
       " steps: a loop that never ends? (SIMT_STEP_LIMIT raises the limit)");
}

void set_block_shape(dim3 shape) {
  Scheduler& s = scheduler;
  blockDim = shape;
  s.threads = static_cast<int>(shape.x * shape.y * shape.z);
  s.warps = (s.threads + kLanes - 1) / kLanes;
  int i = 0;
  for (unsigned z = 0; z < shape.z; ++z)
    for (unsigned y = 0; y < shape.y; ++y)
      for (unsigned x = 0; x < shape.x; ++x, ++i) {
        s.thread[i].index = {x, y, z};
        s.thread[i].warp = static_cast<uint16_t>(i / kLanes);
        s.thread[i].lane = static_cast<uint16_t>(i % kLanes);
      }
}

void run_block() {
  Scheduler& s = scheduler;
  for (int i = 0; i < s.threads; ++i) {
    Thread& thread = s.thread[i];
    thread.context = nullptr;
    thread.stack = nullptr;
    thread.waits_in = nullptr;
    thread.ended = false;
    thread.copy_group = 0;
    thread.copies.clear();
  }
  s.ready_warps = 0;
  for (int w = 0; w < s.warps; ++w) {
    const int lanes = std::min(kLanes, s.threads - w * kLanes);
    s.warp[w].lanes = lanes == kLanes ? ~0u : (1u << lanes) - 1;
    for (uint32_t used = s.warp[w].meetings; used; used &= used - 1)
      s.warp[w].meeting[std::countr_zero(used)] = {};
    s.warp[w].meetings = 0;
    s.ready[w] = 0;
    make_ready(w, s.warp[w].lanes);
  }
  for (Barrier& barrier : s.barrier)
    if (barrier.arrived) barrier = {};
  s.live = s.threads;
  s.steps = 0;
  s.failure = nullptr;
  s.random =
      (s.seed * 0x9E3779B97F4A7C15u) ^
      (blockIdx.x + 0x10001u * (blockIdx.y + 0x10001ull * blockIdx.z) + 1) * 0xBF58476D1CE4E5B9u;
  s.random |= 1;
  for (int i = 0; i < 4; ++i) next_random();

  Thread* first = pick();
  s.starting = &acquire_stack();
  s.from_host = true;
  set_current(*first);
  switch_stack(&s.host, prepare(*s.starting, worker), s.starting, &s.host_sanitizer);
  s.current = nullptr;
  if (s.failure) {
    abandon();
    std::rethrow_exception(std::exchange(s.failure, nullptr));
  }
}

}  // namespace simt
