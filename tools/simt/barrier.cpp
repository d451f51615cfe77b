// barrier.cpp: how threads wait for a block's barriers. Test: ctest -R simt_engine_barrier.
#include "tools/simt/barrier.h"

namespace simt {
namespace {

void release(Barrier& barrier) {
  for (int w = 0; w < scheduler.warps; ++w) {
    if (!barrier.waiting[w]) continue;
    make_ready(w, barrier.waiting[w]);
    barrier.waiting[w] = 0;
  }
  barrier.arrived = 0;
}

void arrive(Barrier& barrier, const Thread& self, bool waits) {
  ++barrier.arrived;
  if (waits) barrier.waiting[self.warp] |= 1u << self.lane;
}

Barrier& named(int id, int threads, const char* name, Place place) {
  const auto refuse = [&](const std::string& why) {
    fail(std::string(name) + "(" + std::to_string(id) + ", " + std::to_string(threads) + ") at " +
         to_string(place) + ": " + why);
  };
  if (id < 1 || id >= kBarriers) refuse("named barriers are 1..15");
  if (threads <= 0 || threads % kLanes != 0 || threads > kMaxThreads)
    refuse("the count must be a multiple of 32, at most 1024");
  Barrier& barrier = scheduler.barrier[id];
  if (barrier.arrived && barrier.expected != threads)
    refuse("another thread expects " + std::to_string(barrier.expected) + ", at " +
           to_string(barrier.place));
  if (!barrier.arrived) barrier.place = place, barrier.name = name;
  barrier.expected = threads;
  return barrier;
}

}  // namespace

int barrier_all(const char* name, int predicate, Place place) {
  Scheduler& s = scheduler;
  Thread& self = *s.current;
  Barrier& barrier = s.barrier[0];
  if (barrier.arrived == 0) {
    barrier.place = place;
    barrier.name = name;
    barrier.count = 0;
  } else if (!same(barrier.place, place)) {
    fail("divergent barrier: this thread is at " + std::string(name) + " at " + to_string(place) +
         ", but others wait in " + barrier.name + " at " + to_string(barrier.place));
  }
  barrier.count += predicate != 0;
  arrive(barrier, self, true);
  if (barrier.arrived < s.live) {
    wait(name, place);
  } else {
    thread_ended();  // wakes everyone, this thread too
    yield();
  }
  return barrier.result;  // stands until all threads have come again
}

/// Completes the block's barrier if all threads that have not ended are there.
void thread_ended() {
  Barrier& barrier = scheduler.barrier[0];
  if (barrier.arrived == 0 || barrier.arrived < scheduler.live) return;
  barrier.result = barrier.count;
  release(barrier);
}

void bar_sync(int id, int threads, Place place) {
  Barrier& barrier = named(id, threads, "bar_sync", place);
  Thread& self = *scheduler.current;
  arrive(barrier, self, true);
  self.mask = static_cast<uint32_t>(id);
  if (barrier.arrived < threads) {
    wait("bar_sync", place);
    return;
  }
  release(barrier);
  yield();
}

void bar_arrive(int id, int threads, Place place) {
  Barrier& barrier = named(id, threads, "bar_arrive", place);
  arrive(barrier, *scheduler.current, false);
  if (barrier.arrived >= threads) release(barrier);
}

}  // namespace simt
