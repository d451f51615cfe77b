// queue_test.cpp: streams and events: what runs when, under each schedule, and on the virtual clock.
// Order is observed through what operations write, never through the stand-in's own log.
#include <atomic>
#include <set>
#include <thread>

#include "tests/tools/simt/support.h"

namespace simt {
namespace {

class Queue : public FreshDevice {
 protected:
  cudaStream_t stream(unsigned flags = cudaStreamNonBlocking) {
    cudaStream_t made = nullptr;
    EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&made, flags));
    return made;
  }
  cudaEvent_t event(unsigned flags = cudaEventDefault) {
    cudaEvent_t made = nullptr;
    EXPECT_EQ(cudaSuccess, cudaEventCreateWithFlags(&made, flags));
    return made;
  }
  /// An operation that notes its letter.
  void note(cudaStream_t where, char letter) {
    enqueue(where, std::string(1, letter), [this, letter] { order_ += letter; });
  }
  bool before(char first, char second) const { return order_.find(first) < order_.find(second); }
  std::string order_;
};

// ---- Schedules ---------------------------------------------------------------------------------
TEST_F(Queue, EagerRunsAtTheCall) {
  note(nullptr, 'a');
  EXPECT_EQ("a", order_);
  EXPECT_EQ(0u, pending_operations());
}

TEST_F(Queue, LazyRunsWhatIsWaitedForAndNoMore) {
  set_schedule(Schedule::lazy);
  const cudaStream_t one = stream(), two = stream();
  note(one, 'a');
  note(two, 'b');
  note(one, 'c');
  EXPECT_EQ("", order_);
  EXPECT_EQ(3u, pending_operations());
  ASSERT_OK(cudaStreamSynchronize(two));
  EXPECT_EQ("b", order_);
  ASSERT_OK(cudaDeviceSynchronize());
  EXPECT_EQ("bac", order_);
}

TEST_F(Queue, LazyEventWaitRunsWhatCameBeforeTheEvent) {
  set_schedule(Schedule::lazy);
  const cudaStream_t one = stream();
  const cudaEvent_t mark = event();
  note(one, 'a');
  ASSERT_OK(cudaEventRecord(mark, one));
  note(one, 'b');
  ASSERT_OK(cudaEventSynchronize(mark));
  EXPECT_EQ("a", order_);
}

TEST_F(Queue, RandomKeepsTheOrderInAStream) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    set_schedule(Schedule::random, seed);
    order_.clear();
    const cudaStream_t one = stream(), two = stream();
    for (char letter : {'a', 'b', 'c', 'd'}) note(one, letter);
    for (char letter : {'1', '2', '3', '4'}) note(two, letter);
    ASSERT_OK(cudaDeviceSynchronize());
    EXPECT_EQ(8u, order_.size());
    for (const char* stream_order : {"abcd", "1234"})
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(before(stream_order[i], stream_order[i + 1]));
    ASSERT_OK(cudaStreamDestroy(one));
    ASSERT_OK(cudaStreamDestroy(two));
  }
}

std::string order_of(uint64_t seed) {
  set_schedule(Schedule::random, seed);
  std::string order;
  cudaStream_t streams[3];
  for (cudaStream_t& made : streams) cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking);
  for (int i = 0; i < 12; ++i)
    enqueue(streams[i % 3], "note", [&order, i] { order += static_cast<char>('a' + i); });
  cudaDeviceSynchronize();
  for (cudaStream_t made : streams) cudaStreamDestroy(made);
  return order;
}

TEST_F(Queue, RandomIsTheSameForOneSeedAndNotForAll) {
  std::set<std::string> orders;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const std::string order = order_of(seed);
    EXPECT_EQ(order, order_of(seed));
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 10u);
}

TEST_F(Queue, LazyAndRandomFindAMissingSynchronise) {
  const auto read_too_early = [] {
    const OnDevice<float> device(std::vector<float>{5});
    const Pinned<float> host(1);
    cudaStream_t one;
    cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
    cudaMemcpyAsync(host.get(), device.get(), 4, cudaMemcpyDeviceToHost, one);
    return host[0];  // nobody waited
  };
  EXPECT_EQ(5.0f, read_too_early()) << "eager hides it";
  set_schedule(Schedule::lazy);
  const float lazy = read_too_early();
  EXPECT_NE(lazy, lazy) << "NaN, as pinned memory is filled";
  int wrong = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    set_schedule(Schedule::random, seed);
    wrong += read_too_early() != 5.0f;
  }
  EXPECT_GT(wrong, 2);
}

// The consumer's stream doesn't wait for the producer's: some seeds show it, and none does once it
// waits. `early` operations go first in the consumer's stream, so that it has a way to catch up.
int seeds_that_find_a_race(bool with_wait, int early) {
  int found = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    cudaDeviceReset();
    set_schedule(Schedule::random, seed);
    cudaStream_t producer, consumer;
    cudaEvent_t made;
    cudaStreamCreateWithFlags(&producer, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&consumer, cudaStreamNonBlocking);
    cudaEventCreate(&made);
    int value = 0, seen = -1;
    enqueue(producer, "produce", [&] { value = 1; });
    cudaEventRecord(made, producer);
    for (int i = 0; i < early; ++i) enqueue(consumer, "other work", [] {});
    if (with_wait) cudaStreamWaitEvent(consumer, made, 0);
    enqueue(consumer, "consume", [&] { seen = value; });
    EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(consumer));
    found += seen != 1;
  }
  return found;
}

TEST_F(Queue, RandomFindsAMissingWaitBetweenStreams) {
  EXPECT_GT(seeds_that_find_a_race(false, 0), 3);
  EXPECT_GT(seeds_that_find_a_race(false, 10), 3) << "even far behind";
  EXPECT_EQ(0, seeds_that_find_a_race(true, 0));
  EXPECT_EQ(0, seeds_that_find_a_race(true, 10));
}

// ---- Order between streams ---------------------------------------------------------------------
TEST_F(Queue, NullStreamAndBlockingStreamsWaitForEachOther) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    cudaDeviceReset();
    set_schedule(Schedule::random, seed);
    order_.clear();
    const cudaStream_t blocking = stream(cudaStreamDefault), other = stream(cudaStreamDefault);
    note(blocking, 'a');
    note(nullptr, 'b');
    note(other, 'c');
    ASSERT_OK(cudaDeviceSynchronize());
    ASSERT_EQ("abc", order_) << seed;
  }
}

TEST_F(Queue, NullStreamAndNonBlockingStreamsDoNot) {
  set_schedule(Schedule::lazy);
  const cudaStream_t free = stream();
  note(free, 'a');
  note(nullptr, 'b');
  ASSERT_OK(cudaStreamSynchronize(nullptr));
  EXPECT_EQ("b", order_);
  note(free, 'c');
  ASSERT_OK(cudaStreamSynchronize(free));
  EXPECT_EQ("bac", order_);
}

TEST_F(Queue, EventIsWhatWasQueuedWhenItWasRecorded) {
  set_schedule(Schedule::lazy);
  const cudaStream_t one = stream(), two = stream();
  const cudaEvent_t mark = event();
  ASSERT_OK(cudaStreamWaitEvent(two, mark, 0)) << "never recorded: nothing to wait for";
  note(one, 'a');
  ASSERT_OK(cudaEventRecord(mark, one));
  note(one, 'b');
  ASSERT_OK(cudaStreamWaitEvent(two, mark, 0));
  ASSERT_OK(cudaEventRecord(mark, one));  // recorded anew: the wait is for what it was before
  note(two, 'c');
  ASSERT_OK(cudaStreamSynchronize(two));
  EXPECT_EQ("ac", order_);
}

TEST_F(Queue, DestroyedStreamsFinishTheirWork) {
  set_schedule(Schedule::lazy);
  const cudaStream_t one = stream();
  note(one, 'a');
  ASSERT_OK(cudaStreamDestroy(one));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaStreamSynchronize(one));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaStreamDestroy(one));
  enqueue(one, "lost", [] {});
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaGetLastError());
  ASSERT_OK(cudaDeviceSynchronize());
  EXPECT_EQ("a", order_);
}

TEST_F(Queue, PollingMakesProgress) {
  set_schedule(Schedule::lazy);
  const cudaStream_t one = stream();
  const cudaEvent_t mark = event();
  for (char letter : {'a', 'b', 'c'}) note(one, letter);
  ASSERT_OK(cudaEventRecord(mark, one));
  EXPECT_CUDA(cudaErrorNotReady, cudaStreamQuery(one));
  int asked = 0;
  while (cudaEventQuery(mark) == cudaErrorNotReady) ASSERT_LT(++asked, 10);
  EXPECT_EQ("abc", order_);
  EXPECT_CUDA(cudaSuccess, cudaStreamQuery(one));
}

TEST_F(Queue, ThreadsHaveAPerThreadStreamEach) {
  set_schedule(Schedule::lazy);
  note(cudaStreamPerThread, 'a');
  std::thread([this] {
    EXPECT_CUDA(cudaSuccess, cudaStreamSynchronize(cudaStreamPerThread));
  }).join();
  EXPECT_EQ("", order_);
  EXPECT_CUDA(cudaSuccess, cudaStreamSynchronize(cudaStreamPerThread));
  EXPECT_EQ("a", order_);
}

TEST_F(Queue, HostFunctionsRunInOrderAndMayNotCallTheRuntime) {
  struct Seen {
    std::string* order;
    cudaError_t error = cudaSuccess;
  } seen{&order_};
  set_schedule(Schedule::lazy);
  const cudaStream_t one = stream();
  note(one, 'a');
  ASSERT_OK(cudaLaunchHostFunc(
      one,
      [](void* data) {
        auto* s = static_cast<Seen*>(data);
        *s->order += 'b';
        void* pointer = nullptr;
        s->error = cudaMalloc(&pointer, 4);
      },
      &seen));
  note(one, 'c');
  ASSERT_OK(cudaStreamSynchronize(one));
  EXPECT_EQ("abc", order_);
  EXPECT_CUDA(cudaErrorNotPermitted, seen.error);
  EXPECT_CUDA(cudaErrorInvalidValue, cudaLaunchHostFunc(one, nullptr, nullptr));
}

TEST_F(Queue, StreamsTellWhatTheyAre) {
  cudaStream_t made = nullptr;
  int least = 1, greatest = 1, priority = 1;
  ASSERT_OK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
  EXPECT_LT(greatest, least);
  ASSERT_OK(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, greatest - 100));
  unsigned flags = 0;
  ASSERT_OK(cudaStreamGetFlags(made, &flags));
  ASSERT_OK(cudaStreamGetPriority(made, &priority));
  EXPECT_EQ(unsigned{cudaStreamNonBlocking}, flags);
  EXPECT_EQ(greatest, priority) << "clamped";
  unsigned long long id = 0, other = 0;
  ASSERT_OK(cudaStreamGetId(made, &id));
  ASSERT_OK(cudaStreamGetId(stream(), &other));
  EXPECT_NE(id, other);
  EXPECT_CUDA(cudaErrorInvalidValue, cudaStreamCreateWithFlags(&made, 64));
}

// ---- The virtual clock -------------------------------------------------------------------------
float elapsed_of_two_kernels(bool side_by_side) {
  cudaStream_t one, two;
  cudaStreamCreateWithFlags(&one, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking);
  cudaEvent_t start, middle, end;
  for (cudaEvent_t* made : {&start, &middle, &end}) cudaEventCreate(made);
  cudaEventRecord(start, one);
  cudaStreamWaitEvent(two, start, 0);
  enqueue(one, "first", [] {});
  enqueue(side_by_side ? two : one, "second", [] {});
  cudaEventRecord(middle, two);
  cudaStreamWaitEvent(one, middle, 0);
  cudaEventRecord(end, one);
  EXPECT_EQ(cudaSuccess, cudaEventSynchronize(end));
  float milliseconds = -1;
  EXPECT_EQ(cudaSuccess, cudaEventElapsedTime(&milliseconds, start, end));
  return milliseconds;
}

TEST_F(Queue, TimeCountsStreamsSideBySide) {
  for (Schedule schedule : {Schedule::eager, Schedule::lazy, Schedule::random}) {
    set_schedule(schedule, 3);
    EXPECT_FLOAT_EQ(0.010f, elapsed_of_two_kernels(false));
    EXPECT_FLOAT_EQ(0.005f, elapsed_of_two_kernels(true));
  }
}

TEST_F(Queue, TimeNeedsTwoEventsThatHappened) {
  set_schedule(Schedule::lazy);
  const cudaStream_t one = stream();
  const cudaEvent_t start = event(), end = event(), untimed = event(cudaEventDisableTiming);
  float ms = 0;
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&ms, start, end));
  ASSERT_OK(cudaEventRecord(start, one));
  ASSERT_OK(cudaEventRecord(end, one));
  ASSERT_OK(cudaEventRecord(untimed, one));
  EXPECT_CUDA(cudaErrorNotReady, cudaEventElapsedTime(&ms, start, end));
  ASSERT_OK(cudaStreamSynchronize(one));
  EXPECT_CUDA(cudaSuccess, cudaEventElapsedTime(&ms, start, end));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaEventElapsedTime(&ms, start, untimed));
  ASSERT_OK(cudaEventDestroy(end));
  EXPECT_CUDA(cudaErrorInvalidResourceHandle, cudaEventSynchronize(end));
}

// ---- Threads -----------------------------------------------------------------------------------
TEST_F(Queue, ManyThreadsMayCallAtOnce) {
  set_schedule(Schedule::random, 7);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&wrong, t] {
      cudaStream_t own;
      wrong += cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking) != cudaSuccess;
      for (int i = 0; i < 50; ++i) {
        void* host = nullptr;
        void* device = nullptr;
        wrong += cudaMallocHost(&host, 64) != cudaSuccess;
        wrong += cudaMalloc(&device, 64) != cudaSuccess;
        std::memset(host, t, 64);
        wrong += cudaMemcpyAsync(device, host, 64, cudaMemcpyHostToDevice, own) != cudaSuccess;
        wrong += cudaMemsetAsync(device, t + 1, 32, own) != cudaSuccess;
        wrong += cudaMemcpyAsync(host, device, 64, cudaMemcpyDeviceToHost, own) != cudaSuccess;
        wrong += cudaStreamSynchronize(own) != cudaSuccess;
        wrong += static_cast<char*>(host)[0] != t + 1 || static_cast<char*>(host)[63] != t;
        wrong += cudaFree(device) != cudaSuccess;
        wrong += cudaFreeHost(host) != cudaSuccess;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(0, wrong.load());
}

}  // namespace
}  // namespace simt
