// tcp_transport_test.cpp: the ring over TCP: its sums, its errors, and strangers at its ports.
#include "dist/tcp_transport.h"

#include "dist/frames.h"
#include "dist/ring_group.h"
#include "dist/socket.h"
#include "tests/dist/memory_store.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

using testing::MemoryStore;
using testing::run_ranks;

constexpr double kTimeout = 60;  // seconds; no test that passes waits for it

std::unique_ptr<Transport> transport(Store& store, int rank, int world, double timeout = kTimeout) {
  return tcp_transport(store, {.rank = rank, .world = world, .timeout = timeout});
}

TEST(TcpTransport, CarriesTheRing) {
  testing::expect_all_collectives([](int world) -> testing::GroupMaker {
    auto store = std::make_shared<MemoryStore>();
    return [store, world](int rank) {
      return std::make_unique<RingGroup>(transport(*store, rank, world));
    };
  });
}

// More than the system's buffers hold, in both directions at once, and several messages in a row.
TEST(TcpTransport, MovesLargeMessagesInOrder) {
  MemoryStore store;
  const auto errors = run_ranks(2, [&](int rank) {
    const auto line = transport(store, rank, 2);
    std::vector<std::byte> first(16 << 20, std::byte(rank)), second(1, std::byte(10 + rank));
    std::vector<std::byte> got_first(first.size()), got_second(1);
    line->send(1 - rank, first, 1);
    line->send(1 - rank, second, 2);
    line->receive(1 - rank, got_first, 1);
    line->receive(1 - rank, got_second, 2);
    line->finish();
    EXPECT_TRUE(
        std::ranges::all_of(got_first, [&](std::byte b) { return b == std::byte(1 - rank); }));
    EXPECT_EQ(got_second[0], std::byte(11 - rank));
  });
  EXPECT_EQ(errors, (std::vector<std::string>{"", ""}));
}

TEST(TcpTransport, WorksOverIpv6) {
  MemoryStore store;
  const auto errors = run_ranks(2, [&](int rank) {
    RingGroup group(
        tcp_transport(store, {.rank = rank, .world = 2, .address = "::1", .timeout = kTimeout}));
    group.barrier().wait();
  });
  EXPECT_EQ(errors, (std::vector<std::string>{"", ""}));
}

// The first to notice names the rank that left; it closes its connections, so that the last one learns
// of it at once, too, from either.
TEST(TcpTransport, NamesTheRankThatLeft) {
  MemoryStore store;
  const auto errors = run_ranks(3, [&](int rank) {
    RingGroup group(transport(store, rank, 3));
    group.barrier().wait();
    if (rank == 1) return;
    std::vector<float> values(100000);
    group.all_reduce(Elements{std::span(values)}).wait();
  });
  EXPECT_EQ(errors[1], "");
  const auto says = [&](size_t rank, const std::string& text) {
    return errors[rank].find(text) != std::string::npos;
  };
  for (const size_t rank : {0u, 2u})
    EXPECT_TRUE(errors[rank].starts_with(
        fmt::format("rank {} of 3: all_reduce #2 of 100000 f32 over ring failed after ", rank)))
        << errors[rank];
  EXPECT_TRUE(says(0, ": rank 1: ") || says(2, ": rank 1: ")) << errors[0] << "\n" << errors[2];
  EXPECT_TRUE(says(0, ": rank 1: ") || says(0, ": rank 2: ")) << errors[0];
  EXPECT_TRUE(says(2, ": rank 1: ") || says(2, ": rank 0: ")) << errors[2];
}

TEST(TcpTransport, NamesTheRankThatIsSilent) {
  MemoryStore store;
  std::atomic<bool> over = false;
  const auto errors = run_ranks(2, [&](int rank) {
    const auto line = transport(store, rank, 2, rank == 0 ? 1 : kTimeout);
    if (rank == 1) {
      while (!over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return;
    }
    std::byte byte;
    line->receive(1, {&byte, 1}, 1);
    try {
      line->finish();
    } catch (const CommError& error) {
      over = true;
      throw;
    }
  });
  EXPECT_EQ(errors[0], "rank 1 sent nothing for 1 s");
}

TEST(TcpTransport, FindsRanksThatComputeDifferentThings) {
  MemoryStore store;
  const auto errors = run_ranks(2, [&](int rank) {
    const auto line = transport(store, rank, 2);
    std::byte bytes[2] = {};
    if (rank == 1) {
      line->send(0, {bytes, 2}, 7);
    } else {
      line->receive(1, {bytes, 1}, 7);
    }
    line->finish();
  });
  EXPECT_EQ(errors[0],
            "rank 1: sent 2 bytes of collective #7, expected 1 of #7: the ranks compute different "
            "things");
}

TEST(TcpTransport, StrangersDoNotStopTheStart) {
  MemoryStore store;
  std::vector<Socket> strangers;
  const auto errors = run_ranks(2, [&](int rank) {
    if (rank == 1) {
      std::string at = store.get("tcp/0", kTimeout);
      const auto fields = *take_frame(at, 1000);
      for (const std::string& junk :
           {std::string(), std::string("GET / HTTP/1.1\r\n\r\n"),
            std::string(fields[2].size(), 'x') + "00000001", fields[2] + "00000007", fields[2]}) {
        strangers.push_back(connect_to({fields[0], number_of(fields[1])}, 5));
        send_all(strangers.back(), bytes_of(junk), 5);
      }
    }
    RingGroup(transport(store, rank, 2)).barrier().wait();
  });
  EXPECT_EQ(errors, (std::vector<std::string>{"", ""}));
}

TEST(TcpTransport, NamesTheRankThatDoesNotConnect) {
  MemoryStore store;
  const auto errors = run_ranks(1, [&](int) { transport(store, 0, 2, 0.1); });
  EXPECT_EQ(errors[0], "rank 0: rank 1 did not connect in time");
}

}  // namespace
}  // namespace minibert
