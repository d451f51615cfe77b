// nccl_test.cpp: the stand-in NCCL: sums in the order of ranks, groups, what is refused, and how an
// error comes to light. Ranks are threads here; one is a process, since it has to die.
#include <csignal>
#include <functional>
#include <thread>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <fmt/format.h>
#include <nccl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tools/simt/support.h"

#define EXPECT_NCCL(wanted, expression) EXPECT_EQ(wanted, expression) << #expression

namespace simt {
namespace {

/// One rank: a communicator and a stream.
class Rank {
 public:
  Rank(const ncclUniqueId& id, int rank, int world, bool blocking = true) : rank(rank) {
    EXPECT_EQ(cudaSuccess, cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = blocking;
    const ncclResult_t result = ncclCommInitRankConfig(&comm, world, id, rank, &config);
    EXPECT_EQ(blocking ? ncclSuccess : ncclInProgress, result);
    EXPECT_EQ(ncclSuccess, settled());
  }
  ~Rank() {
    EXPECT_EQ(ncclSuccess, ncclCommDestroy(comm));  // null after an abort
    cudaStreamDestroy(stream);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  ncclResult_t state() const {
    ncclResult_t state = ncclNumResults;
    EXPECT_EQ(ncclSuccess, ncclCommGetAsyncError(comm, &state));
    return state;
  }
  /// The state, once nothing is in progress.
  ncclResult_t settled() const {
    while (state() == ncclInProgress) std::this_thread::yield();
    return state();
  }
  void wait() const { EXPECT_EQ(cudaSuccess, cudaStreamSynchronize(stream)); }

  int rank;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
};

class Nccl : public FreshDevice {
 protected:
  Nccl() {
    DeviceModel model = device_model(80);
    model.devices = 3;  // one a rank: who waits for a device waits for all that is queued on it
    set_device_model(model);
    EXPECT_EQ(ncclSuccess, ncclGetUniqueId(&id_));
  }
  ~Nccl() override { set_nccl_timeout(600); }

  void run(int world, const std::function<void(Rank&)>& body, bool blocking = true) {
    std::vector<std::thread> threads;
    for (int r = 0; r < world; ++r)
      threads.emplace_back([&, r] {
        EXPECT_EQ(cudaSuccess, cudaSetDevice(r));
        Rank rank(id_, r, world, blocking);
        body(rank);
      });
    for (std::thread& thread : threads) thread.join();
  }

  ncclUniqueId id_;
};

/// 100 000 elements: more than one piece of a window.
constexpr size_t kMany = 100'000;

std::vector<float> numbers(int rank, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 1000) + 0.1f * rank;
  return values;
}

std::vector<float> sums(int world, size_t count) {
  std::vector<float> sum = numbers(0, count);
  for (int rank = 1; rank < world; ++rank) {
    const std::vector<float> more = numbers(rank, count);
    for (size_t i = 0; i < count; ++i) sum[i] += more[i];
  }
  return sum;
}

TEST_F(Nccl, AddsInTheOrderOfRanksUnderEverySchedule) {
  for (const auto schedule : {Schedule::eager, Schedule::lazy, Schedule::random}) {
    set_schedule(schedule, 5);
    ASSERT_EQ(ncclSuccess, ncclGetUniqueId(&id_));
    run(3, [&](Rank& r) {
      OnDevice<float> data(numbers(r.rank, kMany)), result(kMany);
      EXPECT_NCCL(ncclSuccess, ncclAllReduce(data.get(), result.get(), kMany, ncclFloat32, ncclSum,
                                             r.comm, r.stream));
      EXPECT_NCCL(ncclSuccess, ncclAllReduce(data.get(), data.get(), kMany, ncclFloat32, ncclSum,
                                             r.comm, r.stream));
      r.wait();
      EXPECT_EQ(sums(3, kMany), result.read());
      EXPECT_EQ(sums(3, kMany), data.read()) << "in place";
    });
  }
}

TEST_F(Nccl, ScattersGathersAndBroadcastsInPlace) {
  constexpr size_t kBlock = 30'000;
  run(3, [&](Rank& r) {
    const size_t mine = kBlock * static_cast<size_t>(r.rank);
    OnDevice<float> data(numbers(r.rank, 3 * kBlock)), sent(numbers(r.rank, kBlock));
    EXPECT_NCCL(ncclSuccess, ncclReduceScatter(data.get(), data.get() + mine, kBlock, ncclFloat32,
                                               ncclSum, r.comm, r.stream));
    EXPECT_NCCL(ncclSuccess, ncclAllGather(data.get() + mine, data.get(), kBlock, ncclFloat32,
                                           r.comm, r.stream));
    EXPECT_NCCL(ncclSuccess,
                ncclBroadcast(sent.get(), sent.get(), kBlock, ncclFloat32, 2, r.comm, r.stream));
    r.wait();
    EXPECT_EQ(sums(3, 3 * kBlock), data.read());
    EXPECT_EQ(numbers(2, kBlock), sent.read());
  });
}

TEST_F(Nccl, RoundsSixteenBitsAfterEachRank) {
  run(3, [&](Rank& r) {
    // 256 + 1 is 256 in bf16, whose fraction has 7 bits: in this order, twice.
    OnDevice<__nv_bfloat16> bf(std::vector<__nv_bfloat16>{__float2bfloat16(r.rank == 0 ? 256 : 1)});
    OnDevice<__half> half(std::vector<__half>{__float2half(r.rank == 0 ? 2048 : 1)});
    EXPECT_NCCL(ncclSuccess,
                ncclAllReduce(bf.get(), bf.get(), 1, ncclBfloat16, ncclSum, r.comm, r.stream));
    EXPECT_NCCL(ncclSuccess,
                ncclAllReduce(half.get(), half.get(), 1, ncclFloat16, ncclSum, r.comm, r.stream));
    r.wait();
    EXPECT_EQ(256, __bfloat162float(bf.read()[0]));
    EXPECT_EQ(2048, __half2float(half.read()[0]));
  });
}

TEST_F(Nccl, OtherOperations) {
  run(2, [&](Rank& r) {
    float factor = r.rank == 0 ? 0.5f : 2;
    ncclRedOp_t scaled;
    EXPECT_NCCL(ncclSuccess, ncclRedOpCreatePreMulSum(&scaled, &factor, ncclFloat32,
                                                      ncclScalarHostImmediate, r.comm));
    const std::pair<ncclRedOp_t, float> cases[] = {
        {ncclProd, 12}, {ncclMax, 4}, {ncclMin, 3}, {ncclAvg, 3.5}, {scaled, 9.5}};
    for (const auto& [op, wanted] : cases) {
      OnDevice<float> value(std::vector<float>{static_cast<float>(3 + r.rank)});
      EXPECT_NCCL(ncclSuccess,
                  ncclAllReduce(value.get(), value.get(), 1, ncclFloat32, op, r.comm, r.stream));
      r.wait();
      EXPECT_EQ(wanted, value.read()[0]);
    }
    EXPECT_NCCL(ncclSuccess, ncclRedOpDestroy(scaled, r.comm));
    EXPECT_NCCL(ncclInvalidArgument, ncclRedOpDestroy(scaled, r.comm));
  });
}

TEST_F(Nccl, SendsAndReceivesOfAGroupGoSideBySide) {
  run(3, [&](Rank& r) {
    OnDevice<float> to(numbers(r.rank, kMany)), from(kMany);
    EXPECT_NCCL(ncclSuccess, ncclGroupStart());
    EXPECT_NCCL(ncclSuccess,
                ncclSend(to.get(), kMany, ncclFloat32, (r.rank + 1) % 3, r.comm, r.stream));
    EXPECT_NCCL(ncclSuccess,
                ncclRecv(from.get(), kMany, ncclFloat32, (r.rank + 2) % 3, r.comm, r.stream));
    EXPECT_NCCL(ncclSuccess, ncclGroupEnd());
    r.wait();
    EXPECT_EQ(numbers((r.rank + 2) % 3, kMany), from.read());
  });
}

TEST_F(Nccl, WithoutBlockingACallIsQueuedWhenItsCallerAsks) {
  run(
      2,
      [&](Rank& r) {
        OnDevice<float> value(std::vector<float>{1});
        EXPECT_NCCL(ncclInProgress, ncclAllReduce(value.get(), value.get(), 1, ncclFloat32, ncclSum,
                                                  r.comm, r.stream));
        EXPECT_NCCL(ncclInvalidArgument, ncclAllReduce(value.get(), value.get(), 1, ncclFloat32,
                                                       ncclSum, r.comm, r.stream));
        r.wait();  // nothing to wait for
        EXPECT_EQ(1, value.read()[0]);
        EXPECT_EQ(ncclSuccess, r.settled());
        r.wait();
        EXPECT_EQ(2, value.read()[0]);
        EXPECT_NCCL(ncclInProgress, ncclCommFinalize(r.comm));
        EXPECT_EQ(ncclSuccess, r.settled());
      },
      /* blocking= */ false);
}

// Rank 2 leaves in peace at once; rank 0 looks at who is there every 5 ms while it waits for rank 1.
TEST_F(Nccl, AMessageNeedsItsTwoRanksAlone) {
  run(3, [&](Rank& r) {
    OnDevice<float> value(std::vector<float>{static_cast<float>(r.rank)});
    if (r.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    if (r.rank == 1)
      EXPECT_NCCL(ncclSuccess, ncclSend(value.get(), 1, ncclFloat32, 0, r.comm, r.stream));
    if (r.rank == 0)
      EXPECT_NCCL(ncclSuccess, ncclRecv(value.get(), 1, ncclFloat32, 1, r.comm, r.stream));
    r.wait();
    EXPECT_EQ(r.rank == 0 ? 1 : r.rank, value.read()[0]);
    EXPECT_EQ(ncclSuccess, r.state());
  });
}

TEST_F(Nccl, RefusesWhatNcclWould) {
  Rank r(id_, 0, 1);
  OnDevice<float> data(8);
  std::vector<float> host(8);
  float* d = data.get();
  const auto all_reduce = [&](const void* send, void* receive, size_t count, int type = ncclFloat32,
                              int op = ncclSum) {
    return ncclAllReduce(send, receive, count, static_cast<ncclDataType_t>(type),
                         static_cast<ncclRedOp_t>(op), r.comm, r.stream);
  };
  EXPECT_NCCL(ncclSuccess, all_reduce(d, d, 8));
  EXPECT_NCCL(ncclInvalidArgument, all_reduce(host.data(), d, 8)) << "the host's memory";
  EXPECT_NCCL(ncclInvalidArgument, all_reduce(d, d, 9)) << "past its end";
  EXPECT_NCCL(ncclInvalidArgument, all_reduce(d, d + 1, 4)) << "an overlap";
  EXPECT_NCCL(ncclInvalidArgument, all_reduce(d, d, 8, ncclNumTypes));
  EXPECT_NCCL(ncclInvalidArgument, all_reduce(d, d, 8, ncclFloat8e4m3)) << "not imitated";
  EXPECT_NCCL(ncclInvalidArgument, all_reduce(d, d, 8, ncclFloat32, ncclNumOps));
  EXPECT_NCCL(ncclInvalidArgument, ncclBroadcast(d, d, 8, ncclFloat32, 1, r.comm, r.stream));
  EXPECT_NCCL(ncclInvalidArgument, ncclSend(d, 8, ncclFloat32, 1, r.comm, r.stream));
  EXPECT_NCCL(ncclInvalidArgument, ncclAllReduce(d, d, 8, ncclFloat32, ncclSum, nullptr, r.stream));
  EXPECT_NCCL(ncclInvalidUsage, ncclGroupEnd());
  EXPECT_NCCL(ncclSuccess, ncclGroupStart());
  EXPECT_NCCL(ncclInvalidArgument, all_reduce(d, d, 9));
  EXPECT_NCCL(ncclInvalidArgument, ncclGroupEnd());

  ASSERT_OK(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeRelaxed));
  EXPECT_NCCL(ncclInvalidUsage, all_reduce(d, d, 8)) << "not imitated";
  cudaGraph_t graph;
  ASSERT_OK(cudaStreamEndCapture(r.stream, &graph));
  ASSERT_OK(cudaGraphDestroy(graph));
}

TEST_F(Nccl, ASeatIsTakenOnce) {
  Rank r(id_, 0, 1);
  ncclComm_t other;
  EXPECT_NCCL(ncclSystemError, ncclCommInitRank(&other, 1, id_, 0))
      << "all were there: it is closed";
  ncclUniqueId zeros{};
  EXPECT_NCCL(ncclInvalidArgument, ncclCommInitRank(&other, 1, zeros, 0));
  EXPECT_NCCL(ncclInvalidArgument, ncclCommInitRank(&other, 2, id_, 2));
}

/// Until the state is an error: that one.
ncclResult_t error_of(const Rank& r) {
  ncclResult_t state = r.state();
  for (int i = 0; i < 20'000 && (state == ncclSuccess || state == ncclInProgress); ++i) {
    cudaStreamQuery(r.stream);  // lets go on what is queued
    ::usleep(500);
    state = r.state();
  }
  return state;
}

/// After an error an operation ends only with the communicator.
void expect_abort_ends_it(Rank& r) {
  EXPECT_EQ(cudaErrorNotReady, cudaStreamQuery(r.stream));
  EXPECT_NCCL(ncclSuccess, ncclCommAbort(std::exchange(r.comm, nullptr)));
  r.wait();
}

TEST_F(Nccl, RanksThatCallDifferentThingsFail) {
  run(2, [&](Rank& r) {
    OnDevice<float> data(8);
    EXPECT_NCCL(ncclSuccess, ncclAllReduce(data.get(), data.get(), 7 + r.rank, ncclFloat32, ncclSum,
                                           r.comm, r.stream));
    const ncclResult_t error = error_of(r);
    EXPECT_TRUE(error == ncclInvalidUsage || error == ncclRemoteError) << error;
    expect_abort_ends_it(r);
  });
}

TEST_F(Nccl, ARankThatStandsStillEndsInATimeout) {
  set_nccl_timeout(0.2);
  run(2, [&](Rank& r) {
    OnDevice<float> data(8);
    if (r.rank == 1) {
      ::usleep(600'000);
    } else {
      EXPECT_NCCL(ncclSuccess,
                  ncclAllReduce(data.get(), data.get(), 8, ncclFloat32, ncclSum, r.comm, r.stream));
      EXPECT_EQ(ncclInternalError, error_of(r));
      expect_abort_ends_it(r);
    }
  });
}

TEST_F(Nccl, AnAbortIsNoticedByTheOthers) {
  run(2, [&](Rank& r) {
    OnDevice<float> data(8);
    if (r.rank == 1) {
      EXPECT_NCCL(ncclSuccess, ncclCommAbort(std::exchange(r.comm, nullptr)));
    } else {
      EXPECT_NCCL(ncclSuccess,
                  ncclAllReduce(data.get(), data.get(), 8, ncclFloat32, ncclSum, r.comm, r.stream));
      EXPECT_EQ(ncclRemoteError, error_of(r));
      expect_abort_ends_it(r);
    }
  });
}

TEST_F(Nccl, ADeathIsNoticedByTheOthers) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // takes its seat, then dies
    Rank r(id_, 1, 2);
    ::kill(::getpid(), SIGKILL);
  }
  Rank r(id_, 0, 2);
  OnDevice<float> data(8);
  EXPECT_NCCL(ncclSuccess,
              ncclAllReduce(data.get(), data.get(), 8, ncclFloat32, ncclSum, r.comm, r.stream));
  EXPECT_EQ(ncclRemoteError, error_of(r));
  expect_abort_ends_it(r);
  ::waitpid(child, nullptr, 0);
}

TEST_F(Nccl, FailsAsTold) {
  Rank r(id_, 0, 1);
  OnDevice<float> data(8);
  const auto all_reduce = [&] {
    return ncclAllReduce(data.get(), data.get(), 8, ncclFloat32, ncclSum, r.comm, r.stream);
  };
  fail_call("ncclAllReduce", 2);
  EXPECT_NCCL(ncclSuccess, all_reduce());
  EXPECT_NCCL(ncclInternalError, all_reduce());
  fail_call("async/ncclAllReduce", 1);
  EXPECT_NCCL(ncclSuccess, all_reduce());
  EXPECT_EQ(ncclRemoteError, error_of(r));
  expect_abort_ends_it(r);
}

}  // namespace
}  // namespace simt
