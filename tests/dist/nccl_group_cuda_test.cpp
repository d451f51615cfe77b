// nccl_group_cuda_test.cpp: NCCL's collectives, or those of its stand-in: sums as every group's,
// waiting in streams, errors that come to light later. Ranks are threads here, so more than one
// needs the stand-in or several GPUs. Under tools/simt SIMT_SCHEDULE decides when queued work runs:
// tests/CMakeLists.txt runs this file under each.
#include <atomic>

#include "core/device.h"
#include "core/device_stream.h"
#include "core/kernels/copy.h"
#include "dist/memory_transport.h"
#include "dist/nccl_group.h"
#include "dist/ring_group.h"
#include "tests/dist/counting_transport.h"
#include "tests/dist/memory_store.h"
#include "tests/dist/ranks.h"
#include "tests/usage_error.h"
#ifdef MINIBERT_SIMT
#include "tools/simt/control.h"
#endif

namespace minibert {
namespace {

using testing::MemoryStore;
using testing::run_ranks;

constexpr double kTimeout = 60;  // seconds; no test that passes waits for it
const ComputeOptions kCuda{.device = Device::cuda};

class NcclGroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!nccl_available()) GTEST_SKIP() << "this build has no NCCL";
#ifndef MINIBERT_SIMT
    GTEST_SKIP() << "NCCL wants a GPU for each rank, and threads of one process share theirs";
#endif
  }

  /// body(group) on each rank, which has a stream.
  std::vector<std::string> run(int world, const std::function<void(ProcessGroup&)>& body,
                               double timeout = kTimeout, const std::string& blamed = "",
                               bool ring = false) {
    MemoryStore store;
    return run_ranks(world, [&](int rank) {
      const DeviceStream stream(kCuda);
      const auto group = nccl_group(store, {.rank = rank,
                                            .world = world,
                                            .timeout = timeout,
                                            .blame = [&](const std::string&) { return blamed; },
                                            .ring = ring});
      body(*group);
    });
  }
};

/// A group over NCCL for data in the host's memory: what the checks of all groups want. Each collective
/// works on a copy on the device, so they wait for one another.
class OverTheDevice : public ProcessGroup {
 public:
  OverTheDevice(Store& store, const NcclOptions& options)
      : ProcessGroup(options.rank, options.world),
        stream_(kCuda),
        group_(nccl_group(store, options)) {}
  const char* name() const override { return group_->name(); }

 private:
  void start(std::shared_ptr<Work> work) override {
    const Collective& c = work->collective();
    // Some bytes more, so that a collective that writes beside its data is found.
    const auto bytes = static_cast<int64_t>(c.data.size());
    const Tensor memory =
        Tensor::empty({bytes}, DType::u8, MemoryCategory::workspace, Device::cuda);
    if (bytes > 0) copy_to_device(c.data.data, memory);
    const Elements there(memory.raw(), c.data.count, c.data.type, Device::cuda);
    call(c, there).wait();
    if (bytes > 0) copy_to_host(memory, c.data.data);
    group_->check();
    work->finish();
  }
  Handle call(const Collective& c, const Elements& there) {
    switch (c.kind) {
      case CollectiveKind::all_reduce:
        return group_->all_reduce(there);
      case CollectiveKind::reduce_scatter:
        return group_->reduce_scatter(there);
      case CollectiveKind::all_gather:
        return group_->all_gather(there);
      case CollectiveKind::broadcast:
        return group_->broadcast(there, c.root);
      case CollectiveKind::barrier:
        return group_->barrier();
    }
    return {};
  }

  DeviceStream stream_;
  std::unique_ptr<ProcessGroup> group_;
};

TEST_F(NcclGroupTest, EqualsSumsInDouble) {
  testing::expect_all_collectives([](int world) -> testing::GroupMaker {
    auto store = std::make_shared<MemoryStore>();
    return [store, world](int rank) {
      return std::make_unique<OverTheDevice>(
          *store, NcclOptions{.rank = rank, .world = world, .timeout = kTimeout});
    };
  });
}

/// All bytes that a rank's collectives leave, those of blocks that are not defined too.
template <typename T>
void append_collectives(ProcessGroup& group, size_t count, std::vector<std::byte>& left) {
  std::vector<T> all = testing::values_of<T>(group.rank(), count);
  std::vector<T> scattered = all, gathered = all, sent = all;
  group.all_reduce(Elements{std::span(all)}).wait();
  group.reduce_scatter(Elements{std::span(scattered)}).wait();
  group.all_gather(Elements{std::span(gathered)}).wait();
  group.broadcast(Elements{std::span(sent)}, group.world() - 1).wait();
  for (const std::vector<T>& values : {all, scattered, gathered, sent}) {
    const auto bytes = std::as_bytes(std::span(values));
    left.insert(left.end(), bytes.begin(), bytes.end());
  }
}

// The same lines of dist/ring.cpp: even what lies where nothing is defined is the same.
TEST_F(NcclGroupTest, TheRingHasTheBitsOfTheRingOnCpus) {
  constexpr size_t kBucket = testing::kBucket;
  const auto collect = [](ProcessGroup& group, std::vector<std::byte>& left) {
    for (const size_t count :
         {size_t{0}, size_t{1}, size_t{37}, kBucket - 1, kBucket, kBucket + 1}) {
      append_collectives<float>(group, count, left);
      append_collectives<bf16>(group, count, left);
      append_collectives<f16>(group, count, left);
    }
    std::vector<int64_t> wide = testing::values_of<int64_t>(group.rank(), 37);
    group.all_reduce(Elements{std::span(wide)}).wait();  // NCCL's own: exact in any order
    const auto bytes = std::as_bytes(std::span(wide));
    left.insert(left.end(), bytes.begin(), bytes.end());
    group.barrier().wait();
  };
  for (int world = 1; world <= 4; ++world) {
    MemoryStore store;
    auto transports = memory_transports(world, kTimeout);
    const auto errors = run_ranks(world, [&](int rank) {
      std::vector<std::byte> here, there;
      RingGroup cpus(std::move(transports[static_cast<size_t>(rank)]));
      collect(cpus, here);
      OverTheDevice gpus(store, {.rank = rank, .world = world, .timeout = kTimeout, .ring = true});
      EXPECT_STREQ(gpus.name(), "nccl-ring");
      collect(gpus, there);
      EXPECT_FALSE(here.empty());
      EXPECT_TRUE(here == there) << "rank " << rank << " of " << world;
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
  }
}

// What ring.h says: reduce_scatter sends n - |r|, all_gather n - |r + 1|, in R - 1 steps each.
TEST_F(NcclGroupTest, TheRingSendsWhatItsHeaderSays) {
  for (int world = 1; world <= 4; ++world)
    for (const size_t count : {0, 1, 37, 64}) {
      SCOPED_TRACE(fmt::format("world {}, {} f32", world, count));
      MemoryStore store;
      const auto errors = run_ranks(world, [&](int rank) {
        testing::CountingTransport* counted = nullptr;
        const auto wrap = [&](std::unique_ptr<Transport> ring) {
          auto wrapped = std::make_unique<testing::CountingTransport>(std::move(ring));
          counted = wrapped.get();
          return wrapped;
        };
        OverTheDevice group(
            store, {.rank = rank, .world = world, .timeout = kTimeout, .ring = true, .wrap = wrap});
        std::vector<float> data(count, 1);
        const Elements all{std::span(data)};
        const auto expect = [&](Handle handle, size_t bytes, int steps) {
          handle.wait();
          EXPECT_EQ(std::exchange(counted->sent, 0), bytes);
          if (count == 0) steps = 0;  // nothing is begun for nothing
          EXPECT_EQ(std::exchange(counted->steps, 0), steps);
        };
        const size_t n = all.size(), own = all.block(rank, world).size(),
                     next = all.block((rank + 1) % world, world).size();
        expect(group.reduce_scatter(all), n - own, world - 1);
        expect(group.all_gather(all), n - next, world - 1);
        expect(group.all_reduce(all), 2 * n - own - next, 2 * (world - 1));
      });
      for (const std::string& error : errors) EXPECT_EQ(error, "");
    }
}

Tensor filled(int64_t count, float value) {
  const std::vector<float> values(static_cast<size_t>(count), value);
  const Tensor tensor = Tensor::empty({count}, DType::f32, MemoryCategory::gradients, Device::cuda);
  copy_to_device(values.data(), tensor);
  return tensor;
}

TEST_F(NcclGroupTest, StreamsWaitForOneAnother) {
  constexpr int kSteps = 6;
  const auto body = [&](ProcessGroup& group) {
    const Tensor x = filled(1000, 1), sum = filled(1000, 0);
    group.barrier().wait();
    group.check();
    for (int i = 0; i < kSteps; ++i) {
      sum.copy_from(x);  // before the sum over ranks
      group.all_reduce(Elements(sum)).wait();
      x.copy_from(sum);  // after it
    }
    group.check();
    EXPECT_EQ(x.host_copy().span<float>()[999], 1 << kSteps);
  };
  for (const bool ring : {false, true})
    EXPECT_EQ(run(2, body, kTimeout, "", ring), std::vector<std::string>(2));
}

TEST_F(NcclGroupTest, KnowsHowLongItTook) {
  run(2, [](ProcessGroup& group) {
    const Tensor x = filled(1000, 1);
    Handle handle = group.all_reduce(Elements(x));
    group.check();
    EXPECT_TRUE(handle.done());
    EXPECT_GT(handle.seconds(), 0);
    EXPECT_FALSE(group.running());
  });
}

TEST_F(NcclGroupTest, RefusesTheHostsMemory) {
  std::vector<float> values(8);
  const auto errors =
      run(1, [&](ProcessGroup& group) { group.all_reduce(Elements{std::span(values)}).wait(); });
  EXPECT_EQ(errors[0],
            "rank 0 of 1: all_reduce #1 of 8 f32 over nccl failed after 0.0 s: nccl works in the "
            "memory of device cuda alone");
}

void expect_text(const std::string& text, const std::string& start, const std::string& part) {
  EXPECT_TRUE(text.starts_with(start)) << text;
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST_F(NcclGroupTest, ARankThatLeavesEndsTheOthers) {
  for (const bool ring : {false, true}) {
    const auto errors = run(
        3,
        [&](ProcessGroup& group) {
          group.barrier().wait();
          group.check();
          if (group.rank() == 1) return;
          const Tensor x = filled(1000, 1);
          group.all_reduce(Elements(x)).wait();
          group.check();
        },
        kTimeout, "rank 1 is gone", ring);
    EXPECT_EQ(errors[1], "");
    for (const int rank : {0, 2})
      expect_text(errors[static_cast<size_t>(rank)],
                  fmt::format("rank {} of 3: all_reduce #2 of 1000 f32 over {} failed after ", rank,
                              ring ? "nccl-ring" : "nccl"),
                  "s: rank 1 is gone (NCCL: remote process exited or there was a network error)");
  }
}

TEST_F(NcclGroupTest, ASilentRankEndsTheOthersAfterTheTimeout) {
  std::atomic<bool> over = false;
  const auto errors = run(
      2,
      [&](ProcessGroup& group) {
        group.barrier().wait();
        group.check();
        if (group.rank() == 1) {
          while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          return;
        }
        const Tensor x = filled(1000, 1);
        Handle handle = group.all_reduce(Elements(x));
        handle.wait();  // the stream's: the host goes on
        EXPECT_FALSE(handle.wait_for(0.01));
        EXPECT_EQ(group.running()->collective.str(), "all_reduce #2 of 1000 f32");
        x.host_copy();  // ends, with whatever numbers
        over = true;
        group.check();
      },
      /* timeout= */ 1);
  expect_text(errors[0], "rank 0 of 2: all_reduce #2 of 1000 f32 over nccl failed after 1.",
              "no end within 1 s");
}

TEST_F(NcclGroupTest, AfterAFailureAllCollectivesFail) {
  const auto errors = run(2, [&](ProcessGroup& group) {
    if (group.rank() == 1) return;
    const Tensor x = filled(8, 1);
    Handle first = group.all_reduce(Elements(x)), second = group.barrier();
    EXPECT_THROW(group.check(), CommError);
    EXPECT_THROW(first.wait(), CommError);
    EXPECT_THROW(second.wait(), CommError);
    group.barrier().wait();
  });
  EXPECT_EQ(errors[0],
            "rank 0 of 2: barrier #3 over nccl failed after 0.0 s: all_reduce #1 of 8 f32 failed "
            "before");
}

TEST_F(NcclGroupTest, AMissingRankEndsTheStart) {
  MemoryStore store;
  const auto errors =
      run_ranks(1, [&](int) { nccl_group(store, {.rank = 0, .world = 2, .timeout = 0.2}); });
  EXPECT_EQ(errors[0], "rank 0 of 2: nccl can't connect to the other ranks: no answer for 0.2 s");
}

#ifdef MINIBERT_SIMT
TEST_F(NcclGroupTest, ACallThatFailsIsAnErrorOfThatCollective) {
  const auto body = [](ProcessGroup& group) {
    const Tensor x = filled(8, 1);
    group.all_reduce(Elements(x)).wait();
    group.check();
  };
  for (const char* call : {"ncclAllReduce", "async/ncclAllReduce"}) {
    simt::fail_call(call, 1);
    expect_text(run(1, body)[0], "rank 0 of 1: all_reduce #1 of 8 f32 over nccl failed after ",
                "NCCL: ");
  }
  for (const char* call : {"ncclGroupEnd", "ncclSend", "ncclRecv"}) {
    simt::fail_call(call, 1);  // on one of both; the other hears of it
    const auto errors = run(2, body, kTimeout, "", /* ring= */ true);
    for (int rank = 0; rank < 2; ++rank)
      expect_text(
          errors[static_cast<size_t>(rank)],
          fmt::format("rank {} of 2: all_reduce #1 of 8 f32 over nccl-ring failed after ", rank),
          "NCCL: ");
  }
  simt::clear_failures();
}
#endif

TEST(NcclGroupAbsent, SaysHowToGetIt) {
  if (nccl_available()) return;  // its twin is in this build
  MemoryStore store;
  EXPECT_NE(testing::usage_error_of([&] { nccl_group(store, {}); }).find("libnccl-dev"),
            std::string::npos);
}

}  // namespace
}  // namespace minibert
