// rendezvous_test.cpp: ranks meet; strangers don't matter; each fault of a start is named on every
// rank; so are the dead.
#include "dist/rendezvous.h"

#include <atomic>
#include <future>
#include <set>

#include <unistd.h>

#include "core/clock.h"
#include "dist/rendezvous_server.h"
#include "tests/dist/ranks.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

using testing::run_ranks;

constexpr double kTimeout = 60;  // seconds; no test that passes waits for it

/// What is said, from any thread.
class Sayings {
 public:
  void add(const std::string& text) {
    const std::lock_guard lock(mutex_);
    all_ += text + "\n";
  }
  std::string all() const {
    const std::lock_guard lock(mutex_);
    return all_;
  }
  bool contain(const std::string& text) const { return all().find(text) != std::string::npos; }
  /// Waits until it is said.
  bool heard(const std::string& text) const {
    for (const double start = seconds_now(); !contain(text);) {
      if (seconds_now() - start > kTimeout / 2) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

 private:
  mutable std::mutex mutex_;
  std::string all_;
};

/// A run whose port is open before its rank 0 begins.
class Meeting {
 public:
  explicit Meeting(int world, std::string host = "127.0.0.1")
      : world_(world), host_(std::move(host)), listener_(listen_at({host_, 0})) {}

  RendezvousOptions options(int rank) {
    RendezvousOptions o{.rank = rank,
                        .world = world_,
                        .master = {host_, port()},
                        .listener = rank == 0 ? ::dup(listener_.fd()) : -1,
                        .run_id = "run",
                        .secret = "secret",
                        .timeout = kTimeout};
    o.say = [this](const std::string& text) { said.add(text); };
    return o;
  }
  int port() const { return listener_.here().port; }

  Sayings said;

 private:
  const int world_;
  const std::string host_;
  const Socket listener_;
};

/// A connection that speaks the protocol by hand.
class FakeRank {
 public:
  explicit FakeRank(int port) : socket_(connect_to({"127.0.0.1", port}, 5)) {}
  void hello(const std::string& rank, const std::string& world,
             const std::string& secret = "secret") {
    const std::string challenge = receive()[1];
    send({"hello", "run", rendezvous_protocol::proof(secret, challenge, "run", rank), rank, world});
  }
  void send(const Fields& fields) { raw(to_frame(fields)); }
  void raw(const std::string& bytes) { send_all(socket_, bytes_of(bytes), 5); }
  Fields receive() {
    while (true) {
      if (const auto fields = take_frame(in_, 1 << 20)) return *fields;
      std::byte byte;
      receive_all(socket_, {&byte, 1}, kTimeout);
      in_ += static_cast<char>(byte);
    }
  }

 private:
  Socket socket_;
  std::string in_;
};

// ---- Meeting -----------------------------------------------------------------------------------

TEST(Rendezvous, RanksMeetAndShareAStore) {
  for (const std::string host : {"127.0.0.1", "::1", "localhost"}) {
    Meeting run(4, host);
    const auto errors = run_ranks(4, [&](int rank) {
      Rendezvous here(run.options(rank));
      EXPECT_TRUE(here.address() == "127.0.0.1" || here.address() == "::1") << here.address();
      if (rank == 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      here.set(fmt::format("of {}", rank), std::string("\0\n", 2) + std::to_string(rank));
      for (int other = 0; other < 4; ++other)
        EXPECT_EQ(here.get(fmt::format("of {}", other), kTimeout),
                  std::string("\0\n", 2) + std::to_string(other));
      here.set(fmt::format("end {}", rank), "");
      if (rank == 0)  // the store ends with rank 0
        for (int other = 1; other < 4; ++other) here.get(fmt::format("end {}", other), kTimeout);
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "") << host;
    EXPECT_TRUE(run.said.contain("rendezvous: all 4 ranks are here")) << run.said.all();
  }
}

TEST(Rendezvous, ListensOnAllAddressesForAnyButALoopbackName) {
  RendezvousServer server({.at = {"", 0}});
  for (const char* host : {"127.0.0.1", "::1"})
    EXPECT_NO_THROW(connect_to({host, server.port()}, 5));
}

TEST(Rendezvous, TakesTheAddressOfAnInterface) {
  Meeting run(1);
  RendezvousOptions options = run.options(0);
  options.interface = "lo";
  EXPECT_EQ(Rendezvous(options).address(), "127.0.0.1");
  options.interface = "no-such-card";
  EXPECT_NE(testing::usage_error_of([&] { Rendezvous{options}; }).find("no-such-card"),
            std::string::npos);
}

TEST(Rendezvous, AValueThatIsNeverSetEndsTheWait) {
  Meeting run(1);
  Rendezvous here(run.options(0));
  try {
    here.get("address of rank 1", 0.05);
    FAIL() << "a value that nobody set";
  } catch (const CommError& error) {
    EXPECT_STREQ(error.what(), "rendezvous: address of rank 1 was not set for 0.05 s");
  }
  here.set("later", "1");
  EXPECT_EQ(here.get("later", 1), "1") << "the store is usable after a wait that ended";
}

// ---- Strangers ---------------------------------------------------------------------------------

TEST(Rendezvous, AHundredJunkConnectionsDoNotStopTheStart) {
  Meeting run(2);
  std::vector<Socket> strangers;
  const auto errors = run_ranks(2, [&](int rank) {
    if (rank == 1)
      for (int i = 0; i < 100; ++i) {
        Socket socket = connect_to({"127.0.0.1", run.port()}, 5);
        const std::string junk[] = {"",
                                    "GET / HTTP/1.1\r\n\r\n",
                                    "MBr1",
                                    "MBr1\xff\xff\xff\xff",
                                    std::string(100000, '\0'),
                                    to_frame({"hello"}),
                                    to_frame({"set", "key", "value"}),
                                    to_frame({"hello", "run", "proof", "one", "two"})};
        try {
          send_all(socket, bytes_of(junk[i % 8]), 5);
        } catch (const CommError&) {  // refused before it had sent everything
        }
        if (i % 3 != 0) strangers.push_back(std::move(socket));  // half-open
      }
    Rendezvous here(run.options(rank));
  });
  EXPECT_EQ(errors[0], "");
  EXPECT_EQ(errors[1], "");
  EXPECT_TRUE(run.said.contain("rendezvous: refused a connection from 127.0.0.1:"))
      << run.said.all();
}

TEST(Rendezvous, AStrangerThatSaysNothingIsClosed) {
  Meeting run(2);
  RendezvousOptions options = run.options(0);
  options.hello_timeout = 0.05;
  std::thread rank_zero([&] { Rendezvous here(options); });
  FakeRank silent(run.port());
  silent.receive();  // the challenge
  EXPECT_THROW(silent.receive(), CommError);
  EXPECT_TRUE(run.said.heard("it said nothing for 0.05 s")) << run.said.all();
  Rendezvous other(run.options(1));
  rank_zero.join();
}

TEST(Rendezvous, AnotherRunAndAnotherSecretAreRefusedAndSaid) {
  Meeting run(2);
  const auto errors = run_ranks(2, [&](int rank) {
    if (rank == 1) {
      RendezvousOptions other_run = run.options(1), other_secret = run.options(1);
      other_run.run_id = "yesterday";
      other_secret.secret = "guess";
      EXPECT_EQ(testing::usage_error_of([&] { Rendezvous{other_run}; }),
                fmt::format("rendezvous: rank 0 at 127.0.0.1:{} refused rank 1: it belongs to run "
                            "'yesterday', this is run 'run'",
                            run.port()));
      EXPECT_EQ(
          testing::usage_error_of([&] { Rendezvous{other_secret}; }),
          fmt::format("rendezvous: rank 0 at 127.0.0.1:{} refused rank 1: it does not know the "
                      "run's secret",
                      run.port()));
    }
    Rendezvous here(run.options(rank));
  });
  EXPECT_EQ(errors[0], "");
  EXPECT_EQ(errors[1], "");
  EXPECT_TRUE(run.said.contain("it belongs to run 'yesterday'")) << run.said.all();
  EXPECT_TRUE(run.said.contain("it does not know the run's secret")) << run.said.all();
}

// ---- Faults of a start -------------------------------------------------------------------------

/// Every rank's error: the same on all. `change` makes one rank's options wrong.
std::string error_of_all(int world, const std::function<void(RendezvousOptions&)>& change,
                         const std::set<int>& absent = {}) {
  Meeting run(world);
  std::atomic<int> usage_errors = 0;
  const auto errors = run_ranks(world, [&](int rank) {
    if (absent.contains(rank)) return;
    RendezvousOptions options = run.options(rank);
    change(options);
    try {
      Rendezvous here(options);
    } catch (const UsageError&) {
      ++usage_errors;
      throw;
    }
  });
  for (int rank = 1; rank < world; ++rank)
    if (!absent.contains(rank)) {
      EXPECT_EQ(errors[static_cast<size_t>(rank)], errors[0]) << rank;
    }
  EXPECT_TRUE(usage_errors == 0 || usage_errors == world) << usage_errors << " of " << world;
  return (usage_errors > 0 ? "2: " : "5: ") + errors[0];
}

TEST(Rendezvous, EveryRankIsToldWhatDiffers) {
  EXPECT_EQ(
      error_of_all(3,
                   [](RendezvousOptions& o) {
                     o.fingerprints = {{"version", "0.1.0"},
                                       {"configuration", o.rank == 1 ? "b" : "a"},
                                       {"data", o.rank == 2 ? "d" : "c"}};
                   }),
      "2: rendezvous: configuration differs: a on ranks 0, 2, b on rank 1. It must be the same "
      "on every rank");
}

TEST(Rendezvous, EveryRankIsToldOfAWrongWorldSize) {
  const std::string text = error_of_all(3, [](RendezvousOptions& o) {
    if (o.rank == 1) o.world = 2;
  });
  EXPECT_TRUE(text.starts_with("2: rendezvous: world size is 2 on rank 1 (127.0.0.1:")) << text;
  EXPECT_NE(text.find("but 3 on rank 0"), std::string::npos) << text;
}

TEST(Rendezvous, EveryRankIsToldOfARankThatIsThereTwice) {
  const std::string text = error_of_all(3, [](RendezvousOptions& o) {
    if (o.rank == 2) o.rank = 1;
  });
  EXPECT_TRUE(text.starts_with("2: rendezvous: rank 1 is here twice: from 127.0.0.1:")) << text;
}

TEST(Rendezvous, EveryRankIsToldWhoIsMissing) {
  EXPECT_EQ(error_of_all(4, [](RendezvousOptions& o) { o.timeout = 2; }, {2}),
            "5: rendezvous: 3 of 4 ranks are here, rank 2 missing after 2 s. Look at what they "
            "printed last, or at whether they were started");
}

TEST(Rendezvous, ReportsWhoIsMissingWhileItWaits) {
  Meeting run(2);
  RendezvousOptions options = run.options(0);
  options.report_every = 0.05;
  std::thread rank_zero([&] { Rendezvous here(options); });
  EXPECT_TRUE(run.said.heard("rendezvous: 1 of 2 ranks are here, rank 1 missing, waiting "))
      << run.said.all();
  Rendezvous other(run.options(1));
  rank_zero.join();
}

TEST(Rendezvous, ARankThatLeavesIsMissingAgainAndMayComeBack) {
  Meeting run(3);
  std::thread rank_zero([&] { Rendezvous here(run.options(0)); });
  {
    FakeRank leaves(run.port());
    leaves.hello("1", "3");
  }
  EXPECT_TRUE(run.said.heard("rendezvous: rank 1 (127.0.0.1:")) << run.said.all();
  EXPECT_TRUE(run.said.heard("has left again: the other end closed the connection"));
  std::thread rank_two([&] { Rendezvous here(run.options(2)); });
  Rendezvous back(run.options(1));
  rank_zero.join();
  rank_two.join();
}

TEST(Rendezvous, SaysThatThePortIsBusy) {
  const Socket other = listen_at({"127.0.0.1", 0});
  Meeting run(2);
  RendezvousOptions options = run.options(0);
  ::close(std::exchange(options.listener, -1));
  options.master.port = other.here().port;
  EXPECT_NE(testing::usage_error_of([&] { Rendezvous{options}; }).find("is busy"),
            std::string::npos);
}

std::string error_of_rank_one(Endpoint master, Sayings& said) {
  RendezvousOptions options{.rank = 1, .world = 2, .master = master, .timeout = 0.3};
  options.report_every = 0.05;
  options.hello_timeout = 0.1;
  options.say = [&](const std::string& text) { said.add(text); };
  try {
    Rendezvous here(options);
  } catch (const CommError& error) {
    return error.what();
  }
  return "no CommError";
}

TEST(Rendezvous, SaysThatRankZeroIsNotReached) {
  Sayings said;
  int port = 0;
  {
    const Socket was = listen_at({"127.0.0.1", 0});
    port = was.here().port;
  }
  const std::string text = error_of_rank_one({"127.0.0.1", port}, said);
  EXPECT_TRUE(
      text.starts_with(fmt::format("rendezvous: rank 1 can't reach rank 0 for 0.3 s "
                                   "(127.0.0.1:{}: Connection refused). Check",
                                   port)))
      << text;
  EXPECT_TRUE(said.contain("rendezvous: rank 1 does not reach rank 0 yet (127.0.0.1:"))
      << said.all();
}

TEST(Rendezvous, SaysThatAnotherProgramListensThere) {
  Sayings said;
  const Socket mute = listen_at({"127.0.0.1", 0});
  const std::string text = error_of_rank_one({"127.0.0.1", mute.here().port}, said);
  EXPECT_NE(text.find("does not answer as a rank 0 of minibert"), std::string::npos) << text;
}

TEST(Rendezvous, ALateRankIsRefused) {
  Meeting run(1);
  Rendezvous here(run.options(0));
  FakeRank late(run.port());
  late.hello("0", "1");
  EXPECT_EQ(late.receive(), (Fields{"refused", "rank 0 comes too late: the run has begun"}));
}

// ---- Who is to blame ---------------------------------------------------------------------------

TEST(Blame, NamesTheRankThatDied) {
  Meeting run(3);
  std::promise<void> dead;
  const std::shared_future<void> died = dead.get_future().share();
  const auto errors = run_ranks(3, [&](int rank) {
    if (rank == 2) {
      {
        FakeRank dies(run.port());
        dies.hello("2", "3");
        EXPECT_EQ(dies.receive(), Fields{"welcome"});
      }
      dead.set_value();
      return;
    }
    Rendezvous here(run.options(rank));
    died.wait();
    EXPECT_EQ(here.blame("all_reduce #17 of 4 f32"),
              "rank 2 gone without a word: the process or its machine died");
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

TEST(Blame, NamesTheRankThatLeft) {
  Meeting run(3);
  const auto errors = run_ranks(3, [&](int rank) {
    Rendezvous here(run.options(rank));
    if (rank == 2) return;
    EXPECT_EQ(here.blame("barrier #3"), "rank 2 ended the run before the others");
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

TEST(Blame, NamesTheRankThatIsSilent) {
  Meeting run(3);
  std::promise<void> over;
  const std::shared_future<void> ended = over.get_future().share();
  const auto errors = run_ranks(3, [&](int rank) {
    Rendezvous here(run.options(rank));
    if (rank == 2) return ended.wait();
    EXPECT_EQ(here.blame("barrier #3"),
              "rank 2 did not report: frozen, cut off, or still computing");
    if (rank == 0) over.set_value();
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

TEST(Blame, SaysWhereRanksAreIfTheyAreInDifferentCollectives) {
  Meeting run(2);
  run_ranks(2, [&](int rank) {
    Rendezvous here(run.options(rank));
    EXPECT_EQ(here.blame(rank == 0 ? "barrier #3" : "all_reduce #3 of 4 f32"),
              "rank 1 in all_reduce #3 of 4 f32; rank 0 in barrier #3");
  });
}

/// A rank 0 that is frozen: its port is open, and nobody answers.
TEST(Blame, NamesRankZeroSoonIfItIsSilent) {
  const Socket listener = listen_at({"127.0.0.1", 0});
  std::promise<void> over;
  std::thread zero([&, ended = over.get_future()] {
    std::optional<Socket> one;
    while (!(one = accept_from(listener))) std::this_thread::yield();
    for (const Fields& fields : {Fields{"challenge", "c"}, Fields{"welcome"}})
      send_all(*one, bytes_of(to_frame(fields)), 5);
    ended.wait();
  });
  {
    Rendezvous here({.rank = 1, .world = 2, .master = listener.here()});
    const double start = seconds_now();
    const std::string text = here.blame("barrier #1");
    EXPECT_LT(seconds_now() - start, 3.5) << "2 s, on a busy machine";
    EXPECT_TRUE(
        text.starts_with(fmt::format("rank 0 at {} does not answer: ", listener.here().str())))
        << text;
  }
  over.set_value();
  zero.join();
}

TEST(Blame, NamesRankZeroIfItsServerIsGone) {
  auto server = std::make_unique<RendezvousServer>(
      RendezvousServerOptions{.at = {"127.0.0.1", 0}, .world = 2});
  FakeRank zero(server->port());
  const std::string challenge = zero.receive()[1];
  zero.send({"hello", "", rendezvous_protocol::proof("", challenge, "", "0"), "0", "2"});
  Rendezvous here({.rank = 1, .world = 2, .master = {"127.0.0.1", server->port()}});
  server.reset();
  const std::string text = here.blame("barrier #1");
  EXPECT_TRUE(text.starts_with("rank 0 at 127.0.0.1:")) << text;
  EXPECT_NE(text.find("does not answer: "), std::string::npos) << text;
}

}  // namespace
}  // namespace minibert
