// rendezvous_server.cpp: the poll loop, then what each message does, then who is to blame.
#include "dist/rendezvous_server.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <list>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "dist/frames.h"
#include "dist/roll_call.h"
#include "dist/siphash.h"

namespace minibert {
namespace protocol = rendezvous_protocol;
namespace {

constexpr size_t kMostStrangers = 256;   // connections that have not said who they are
constexpr int kStrangersNamed = 3;       // then they are counted
constexpr int kBusyMilliseconds = 20;    // between looks at the clock while somebody waits
constexpr int kIdleMilliseconds = 1000;  // while nobody does

struct Connection {
  explicit Connection(Socket socket)
      : socket(std::move(socket)), from(this->socket.there().str()), since(seconds_now()) {}
  bool member() const { return rank >= 0; }

  Socket socket;
  std::string from;
  double since;
  std::string in, out;
  std::string challenge;
  int rank = -1;          // -1: a stranger so far
  bool ending = false;    // to be closed when `out` is sent
  bool ended = false;     // to be removed
  bool farewell = false;  // it said goodbye
  std::string key;        // of the value that it waits for
  double key_until = 0;
  bool asks = false;  // who is to blame
};

}  // namespace

std::string protocol::proof(const std::string& secret, const std::string& challenge,
                            const std::string& run_id, const std::string& rank) {
  return fmt::format("{:016x}", siphash(sip_key(secret), to_frame({challenge, run_id, rank})));
}

class RendezvousServer::Loop {
 public:
  explicit Loop(const RendezvousServerOptions& options)
      : options_(options),
        listener_(options.listener < 0 ? listen_at(options.at)
                                       : inherited_listener(options.listener)),
        port_(listener_.here().port),
        roll_(options.world) {
    MB_ASSERT(::pipe2(wake_, O_CLOEXEC) == 0, "rendezvous: no pipe");
    thread_ = std::thread([this] { serve(); });
  }
  ~Loop() {
    stopping_ = true;
    [[maybe_unused]] const ssize_t written = ::write(wake_[1], "", 1);
    thread_.join();
    for (const int end : wake_) ::close(end);
  }
  int port() const { return port_; }
  bool all_told() const { return told_ >= options_.world; }

 private:
  // ---- The poll loop ---------------------------------------------------------------------------

  void serve() {
    while (!stopping_) {
      wait();
      while (std::optional<Socket> socket = accept_from(listener_)) welcome_stranger(*socket);
      for (Connection& c : connections_) guarded(c, [&] { receive(c); });
      look_at_the_clock();
      for (Connection& c : connections_) guarded(c, [&] { flush(c); });
      connections_.remove_if([](const Connection& c) { return c.ended; });
    }
  }

  void wait() {
    std::vector<pollfd> all = {{listener_.fd(), POLLIN, 0}, {wake_[0], POLLIN, 0}};
    bool busy = !started_ && !failure_;
    for (const Connection& c : connections_) {
      all.push_back(
          {c.socket.fd(), static_cast<short>(c.out.empty() ? POLLIN : POLLIN | POLLOUT), 0});
      busy = busy || !c.member() || !c.key.empty() || c.asks;
    }
    ::poll(all.data(), all.size(), busy ? kBusyMilliseconds : kIdleMilliseconds);
  }

  /// Whatever goes wrong with a connection ends this connection and nothing else.
  template <typename Body>
  void guarded(Connection& c, const Body& body) {
    if (c.ended) return;
    try {
      body();
    } catch (const std::exception& error) {
      end(c, error.what());
    }
  }

  void receive(Connection& c) {
    std::array<std::byte, 4096> bytes;
    while (const size_t n = receive_some(c.socket, bytes)) {
      c.in.append(reinterpret_cast<const char*>(bytes.data()), n);
      while (!c.ending && !c.ended) {
        const auto fields =
            take_frame(c.in, c.member() ? protocol::kMessageLimit : protocol::kHelloLimit);
        if (!fields) break;
        handle(c, *fields);
      }
      if (c.ending) c.in.clear();
    }
  }

  void flush(Connection& c) {
    while (!c.out.empty()) {
      const size_t n = send_some(c.socket, bytes_of(c.out));
      if (n == 0) break;
      c.out.erase(0, n);
    }
    if (c.ending && c.out.empty()) c.ended = true;
  }

  void send(Connection& c, const Fields& fields) { c.out += to_frame(fields); }

  void end(Connection& c, const std::string& why) {
    c.ended = true;
    if (!c.member()) {
      if (!c.ending) count_stranger(c, why);
    } else if (!started_) {
      if (failure_) return;
      roll_.leave(c.rank);
      options_.say(fmt::format("rendezvous: rank {} ({}) has left again: {}", c.rank, c.from, why));
    } else if (!c.farewell) {
      lost_.push_back(c.rank);
    }
  }

  void look_at_the_clock() {
    const double now = seconds_now();
    for (Connection& c : connections_) {
      if (!c.member() && !c.ended && now - c.since > options_.hello_timeout)
        end(c, c.ending ? "" : fmt::format("it said nothing for {:g} s", options_.hello_timeout));
      if (!c.key.empty() && now > c.key_until) {
        c.key.clear();
        send(c, {"late"});
      }
    }
    if (!started_ && !failure_) report(now);
    answer_who_asks(now);
  }

  // ---- The roll call ---------------------------------------------------------------------------

  void report(double now) {
    const double left = begin_ + options_.timeout - now;
    if (left <= 0)
      return fail_start(
          ErrorCategory::communication,
          fmt::format("{} after {:g} s. Look at what they printed last, or at whether "
                      "they were started",
                      roll_.str(), options_.timeout));
    if (now < next_report_) return;
    next_report_ = now + options_.report_every;
    const std::string strangers =
        strangers_ > 0 ? fmt::format("; {} connections of strangers refused", strangers_) : "";
    options_.say(
        fmt::format("rendezvous: {}, waiting {:.0f} s more{}", roll_.str(), left, strangers));
  }

  void welcome_stranger(Socket& socket) {
    const auto strangers = std::ranges::count_if(
        connections_, [](const Connection& c) { return !c.member() && !c.ended; });
    if (static_cast<size_t>(strangers) >= kMostStrangers) {
      const auto oldest = std::ranges::find_if(
          connections_, [](const Connection& c) { return !c.member() && !c.ended; });
      end(*oldest, "too many others wait");
    }
    Connection& c = connections_.emplace_back(std::move(socket));
    c.challenge = random_text();
    send(c, {"challenge", c.challenge});
    guarded(c, [&] { flush(c); });
  }

  void count_stranger(const Connection& c, const std::string& why) {
    if (++strangers_ > kStrangersNamed) return;
    options_.say(fmt::format("rendezvous: refused a connection from {}: {}{}", c.from, why,
                             strangers_ == kStrangersNamed ? ". Further ones are counted" : ""));
  }

  /// hello, run id, proof, rank, world size, then pairs of what must agree.
  void hello(Connection& c, const Fields& f) {
    MB_CHECK_AS(CommError, f.size() >= 5 && f[0] == "hello" && f.size() % 2 == 1,
                "it did not say hello");
    if (f[1] != options_.run_id)
      return refuse(c,
                    fmt::format("it belongs to run '{}', this is run '{}'", f[1], options_.run_id));
    if (f[2] != protocol::proof(options_.secret, c.challenge, f[1], f[3]))
      return refuse(c, "it does not know the run's secret");
    Arrival arrival{.rank = number_of(f[3]), .world = number_of(f[4]), .from = c.from};
    for (size_t i = 5; i < f.size(); i += 2) arrival.fingerprints.push_back({f[i], f[i + 1]});
    if (started_) return refuse(c, fmt::format("rank {} comes too late: the run has begun", f[3]));
    if (failure_) return tell_failure(c);
    const int rank = arrival.rank;
    if (const auto wrong = roll_.arrive(std::move(arrival))) {
      fail_start(ErrorCategory::usage, *wrong);
      return tell_failure(c);
    }
    c.rank = rank;
    if (roll_.complete()) start();
  }

  void refuse(Connection& c, const std::string& why) {
    count_stranger(c, why);
    send(c, {"refused", why});
    c.ending = true;
  }

  void start() {
    if (const auto differs = roll_.disagreement())
      return fail_start(ErrorCategory::usage, *differs);
    started_ = true;
    options_.say(fmt::format("rendezvous: all {} ranks are here", options_.world));
    for (Connection& c : connections_)
      if (c.member() && !c.ended) send(c, {"welcome"});
  }

  void fail_start(ErrorCategory category, const std::string& why) {
    failure_ = {category, why};
    for (Connection& c : connections_)
      if (c.member() && !c.ended) tell_failure(c);
  }

  void tell_failure(Connection& c) {
    send(c, {"failed", std::to_string(static_cast<int>(failure_->first)), failure_->second});
    c.ending = true;
    ++told_;
  }

  // ---- The store -------------------------------------------------------------------------------

  void handle(Connection& c, const Fields& f) {
    if (!c.member()) return hello(c, f);
    MB_CHECK_AS(CommError, started_ && !f.empty(), "it spoke before the roll call was over");
    if (f[0] == "set" && f.size() == 3) return set(c, f[1], f[2]);
    if (f[0] == "get" && f.size() == 3) return get(c, f[1], number_of(f[2]));
    if (f[0] == "why" && f.size() == 2) return ask(c, f[1]);
    MB_CHECK_AS(CommError, f[0] == "bye", "'{}' is no request", f[0]);
    c.farewell = true;
    left_.push_back(c.rank);
  }

  void set(Connection& c, const std::string& key, const std::string& value) {
    values_[key] = value;
    send(c, {"done"});
    for (Connection& other : connections_)
      if (other.key == key && !other.ended) {
        other.key.clear();
        send(other, {"value", value});
      }
  }

  void get(Connection& c, const std::string& key, int milliseconds) {
    MB_CHECK_AS(CommError, !key.empty(), "a value has no name");
    const auto found = values_.find(key);
    if (found != values_.end()) return send(c, {"value", found->second});
    c.key = key;
    c.key_until = seconds_now() + milliseconds / 1000.0;
  }

  // ---- Who is to blame -------------------------------------------------------------------------

  void ask(Connection& c, const std::string& collective) {
    failed_in_[c.rank] = collective;
    c.asks = true;
    send(c, {"heard"});
    if (!first_asked_) first_asked_ = seconds_now();
  }

  /// Answers once it is known who is to blame, or when all have reported, or after a while. Rank 0
  /// last: when it has its answer, its process ends, and this server with it.
  void answer_who_asks(double now) {
    if (!first_asked_) return;
    const bool all = std::ranges::all_of(connections_, [&](const Connection& c) {
      return !c.member() || c.ended || c.farewell || failed_in_.contains(c.rank);
    });
    const bool known = !without_report(lost_).empty() || !without_report(left_).empty();
    const double waited = now - *first_asked_;
    if (all || known || waited > protocol::kBlameSeconds) answer(/* rank_zero= */ false);
    if (all || waited > protocol::kBlameSecondsOfZero) answer(/* rank_zero= */ true);
  }

  void answer(bool rank_zero) {
    for (Connection& c : connections_) {
      if (c.ended || !c.asks || (c.rank == 0) != rank_zero) continue;
      c.asks = false;
      send(c, {"because", blame()});
      guarded(c, [&] { flush(c); });
    }
  }

  std::string blame() const {
    std::vector<std::string> sentences;
    const auto add = [&](const std::vector<int>& ranks, const char* what) {
      if (!ranks.empty()) sentences.push_back(text_of_ranks(ranks) + what);
    };
    add(without_report(lost_), " gone without a word: the process or its machine died");
    add(without_report(left_), " ended the run before the others");
    // Who says nothing only waits, perhaps, for the one who is gone.
    if (sentences.empty())
      add(without_report(connected()), " did not report: frozen, cut off, or still computing");
    if (sentences.empty()) sentences = different_collectives();
    return fmt::format("{}", fmt::join(sentences, "; "));
  }

  std::vector<int> connected() const {
    std::vector<int> ranks;
    for (const Connection& c : connections_)
      if (c.member() && !c.ended && !c.farewell) ranks.push_back(c.rank);
    return ranks;
  }

  /// Those of the ranks that reported no failure, in order.
  std::vector<int> without_report(std::vector<int> ranks) const {
    std::erase_if(ranks, [&](int rank) { return failed_in_.contains(rank); });
    std::ranges::sort(ranks);
    return ranks;
  }

  /// Who was in what, unless all were in the same.
  std::vector<std::string> different_collectives() const {
    std::map<std::string, std::vector<int>> ranks_in;
    for (const auto& [rank, collective] : failed_in_) ranks_in[collective].push_back(rank);
    if (ranks_in.size() < 2) return {};
    std::vector<std::string> parts;
    for (const auto& [collective, ranks] : ranks_in)
      parts.push_back(text_of_ranks(ranks) + " in " + collective);
    return parts;
  }

  const RendezvousServerOptions options_;
  const Socket listener_;
  const int port_;
  const double begin_ = seconds_now();
  double next_report_ = begin_ + options_.report_every;
  RollCall roll_;
  std::list<Connection> connections_;
  int strangers_ = 0;
  bool started_ = false;
  std::optional<std::pair<ErrorCategory, std::string>> failure_;
  std::atomic<int> told_ = 0;  // processes that know of the failure
  std::map<std::string, std::string> values_;
  std::vector<int> lost_, left_;          // in the order in which they went
  std::map<int, std::string> failed_in_;  // rank, collective
  std::optional<double> first_asked_;     // who is to blame
  std::atomic<bool> stopping_ = false;
  int wake_[2] = {-1, -1};
  std::thread thread_;
};

RendezvousServer::RendezvousServer(const RendezvousServerOptions& options)
    : loop_(std::make_unique<Loop>(options)) {}

RendezvousServer::~RendezvousServer() = default;

int RendezvousServer::port() const {
  return loop_->port();
}

void RendezvousServer::tell_the_rest(double seconds) {
  const double until = seconds_now() + seconds;
  while (!loop_->all_told() && seconds_now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(kBusyMilliseconds));
}

}  // namespace minibert
