// ring_test.cpp: the ring's sums, the order of its additions, its steps and bytes as ring.h says;
// and its errors.
#include "dist/ring.h"

#include "dist/counting_group.h"
#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "tests/dist/counting_transport.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

using testing::CountingTransport;
using testing::expect_all_collectives;
using testing::run_ranks;

constexpr double kTimeout = 20;  // seconds; no test that passes waits for it

/// Transports of one run, each taken by the thread of its rank.
struct Line {
  explicit Line(int world, double timeout = kTimeout) : ends(memory_transports(world, timeout)) {}
  std::unique_ptr<Transport> take(int rank) { return std::move(ends[static_cast<size_t>(rank)]); }
  std::vector<std::unique_ptr<Transport>> ends;
};

TEST(Ring, EqualsSumsInDouble) {
  expect_all_collectives([](int world) -> testing::GroupMaker {
    auto line = std::make_shared<Line>(world);
    return [line](int rank) { return std::make_unique<RingGroup>(line->take(rank)); };
  });
}

TEST(Ring, AddsBlockBFromTheRankAfterB) {
  constexpr int kWorld = 4;
  // 1 is lost where it is added to 2^24 alone, so each order has another sum.
  const float values[kWorld] = {0x1p24f, 1, 1, -0x1p24f};
  Line line(kWorld);
  run_ranks(kWorld, [&](int rank) {
    const auto transport = line.take(rank);
    std::vector<float> data(kWorld, values[rank]);
    ring_all_reduce(*transport, Elements{std::span(data)}, 1);
    for (int block = 0; block < kWorld; ++block) {
      float expected = values[(block + 1) % kWorld];
      for (int k = 2; k <= kWorld; ++k) expected += values[(block + k) % kWorld];
      EXPECT_EQ(data[static_cast<size_t>(block)], expected) << "rank " << rank << ", " << block;
    }
  });
}

using Function = std::function<void(Transport&, const Elements&)>;

/// Steps and bytes of a function on `count` f32, against steps(R) and bytes(n, |r|, |r + 1|); also
/// those that a CountingGroup counts.
void expect_cost(CollectiveKind what, const Function& function,
                 const std::function<int(int)>& steps,
                 const std::function<size_t(size_t, size_t, size_t)>& bytes) {
  for (int world = 1; world <= 8; ++world)
    for (const size_t count : {0, 1, 37, 64}) {
      SCOPED_TRACE(fmt::format("{}, world {}, {} f32", name_of(what), world, count));
      Line line(world);
      run_ranks(world, [&](int rank) {
        CountingTransport transport(line.take(rank));
        std::vector<float> data(count, 1);
        const Elements all{std::span(data)};
        function(transport, all);
        EXPECT_EQ(transport.steps, steps(world));
        EXPECT_EQ(transport.sent, bytes(all.size(), all.block(rank, world).size(),
                                        all.block((rank + 1) % world, world).size()));
        EXPECT_EQ(static_cast<int64_t>(transport.sent), ring_bytes_sent(what, all, rank, world));
      });
    }
}

TEST(Ring, StepsAndBytesAreThoseOfItsHeader) {
  expect_cost(
      CollectiveKind::reduce_scatter,
      [](Transport& t, const Elements& data) { ring_reduce_scatter(t, data, 1); },
      [](int world) { return world - 1; }, [](size_t n, size_t own, size_t) { return n - own; });
  expect_cost(
      CollectiveKind::all_gather,
      [](Transport& t, const Elements& data) { ring_all_gather(t, data, 1); },
      [](int world) { return world - 1; }, [](size_t n, size_t, size_t next) { return n - next; });
  expect_cost(
      CollectiveKind::all_reduce,
      [](Transport& t, const Elements& data) { ring_all_reduce(t, data, 1); },
      [](int world) { return 2 * (world - 1); },
      [](size_t n, size_t own, size_t next) { return 2 * n - own - next; });
}

TEST(Ring, AllReduceSendsTwoNOverRTimesRMinusOne) {
  constexpr int kWorld = 4;
  constexpr size_t kBytes = 4096;
  Line line(kWorld);
  run_ranks(kWorld, [&](int rank) {
    CountingTransport transport(line.take(rank));
    std::vector<float> data(kBytes / 4);
    ring_all_reduce(transport, Elements{std::span(data)}, 1);
    EXPECT_EQ(transport.sent, 2 * kBytes * 3 / 4);
    EXPECT_EQ(transport.steps, 6);
  });
}

TEST(Ring, BroadcastSendsOnceFromAllButTheLast) {
  constexpr int kWorld = 5, kRoot = 3;
  Line line(kWorld);
  run_ranks(kWorld, [&](int rank) {
    CountingTransport transport(line.take(rank));
    float value = rank == kRoot ? 7 : 0;
    ring_broadcast(transport, Elements{std::span(&value, 1)}, kRoot, 1);
    EXPECT_EQ(value, 7);
    EXPECT_EQ(transport.sent, rank == kRoot - 1 ? 0u : 4u);
    EXPECT_EQ(ring_bytes_sent(CollectiveKind::broadcast, Elements{std::span(&value, 1)}, rank,
                              kWorld, kRoot),
              rank == kRoot - 1 ? 0 : 4);
  });
}

TEST(CountingGroup, AddsUpWhatTheRankSends) {
  constexpr int kWorld = 4;
  CountingGroup group(/* rank= */ 0, kWorld);
  std::vector<float> data(1024, 1);
  group.all_reduce(Elements{std::span(data)}).wait();
  group.reduce_scatter(Elements{std::span(data)}).wait();
  group.barrier().wait();
  EXPECT_EQ(group.bytes_sent(), 4096 * (6 + 3) / 4);
  EXPECT_EQ(data[0], 1) << "nothing is summed";
}

TEST(Ring, ABarrierHoldsEarlyRanksBack) {
  constexpr int kWorld = 4;
  Line line(kWorld);
  std::atomic<int> arrived = 0;
  run_ranks(kWorld, [&](int rank) {
    const auto transport = line.take(rank);
    if (rank == 2) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++arrived;
    int64_t meeting_point = 1;
    ring_collective(*transport, {.kind = CollectiveKind::barrier, .data = {}},
                    Elements(std::span(&meeting_point, 1)));
    EXPECT_EQ(arrived, kWorld) << "rank " << rank;
  });
}

// ---- Errors ------------------------------------------------------------------------------------

TEST(Ring, ARankThatLeavesEndsTheOthersAtOnce) {
  constexpr int kWorld = 3;
  Line line(kWorld);
  const double start = seconds_now();
  const auto errors = run_ranks(kWorld, [&](int rank) {
    RingGroup group(line.take(rank));
    if (rank == 1) return;
    group.barrier().wait();
  });
  EXPECT_LT(seconds_now() - start, kTimeout / 2);
  EXPECT_EQ(errors[1], "");
  EXPECT_NE(errors[2].find("rank 2 of 3: barrier #1 over ring failed after"), std::string::npos)
      << errors[2];
  EXPECT_NE(errors[2].find("rank 1 is gone"), std::string::npos) << errors[2];
  EXPECT_NE(errors[0].find("rank 0 of 3: barrier #1"), std::string::npos) << errors[0];
}

TEST(Ring, ASilentRankEndsTheOthersAfterTheTimeout) {
  constexpr double kShort = 0.05;
  Line line(2, kShort);
  const auto errors = run_ranks(2, [&](int rank) {
    RingGroup group(line.take(rank));
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      return;
    }
    group.barrier().wait();
  });
  EXPECT_NE(errors[0].find("nothing came from rank 1 for 0.05 s"), std::string::npos) << errors[0];
}

TEST(Ring, RanksThatComputeDifferentThingsAreFound) {
  Line line(2);
  const auto errors = run_ranks(2, [&](int rank) {
    RingGroup group(line.take(rank));
    std::vector<float> data(rank == 0 ? 10 : 20);
    group.all_reduce(Elements{std::span(data)}).wait();
  });
  EXPECT_NE(errors[0].find("rank 1 sent 40 bytes of collective #1, expected 20 of #1"),
            std::string::npos)
      << errors[0];
}

}  // namespace
}  // namespace minibert
