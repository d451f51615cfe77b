// tcp_transport.cpp: connecting all ranks, then moving messages: 16 bytes (tag, size), then the bytes.
#include "dist/tcp_transport.h"

#include <algorithm>
#include <array>
#include <list>
#include <thread>
#include <vector>

#include <poll.h>

#include "core/clock.h"
#include "core/error.h"
#include "dist/frames.h"
#include "dist/siphash.h"
#include "dist/socket.h"

namespace minibert {
namespace {

constexpr size_t kAddressLimit = 500;  // bytes of what the store has of a rank
constexpr double kLookSeconds = 0.002;

/// A message on its way.
struct Operation {
  bool sends;
  int peer;
  std::array<uint64_t, 2> head;  // tag, size; of a message that is received, what is expected
  std::span<std::byte> bytes;
  std::array<uint64_t, 2> head_received = {};
  size_t moved = 0;  // of the head and the bytes

  bool done() const { return moved == sizeof head + bytes.size(); }
};

class TcpTransport : public Transport {
 public:
  TcpTransport(const TcpTransportOptions& options, std::vector<Socket> peers)
      : options_(options), peers_(std::move(peers)) {}
  int rank() const override { return options_.rank; }
  int world() const override { return options_.world; }

  void send(int to, std::span<const std::byte> bytes, uint64_t tag) override {
    // One kind of operation for both directions; nothing writes into what is sent.
    begun_.push_back(
        {true, to, {tag, bytes.size()}, {const_cast<std::byte*>(bytes.data()), bytes.size()}});
  }
  void receive(int from, std::span<std::byte> bytes, uint64_t tag) override {
    begun_.push_back({false, from, {tag, bytes.size()}, bytes});
  }

  void finish() override try {
    std::vector<Operation> all = std::exchange(begun_, {});
    double last_move = seconds_now();
    while (true) {
      bool moved = false;
      for (Operation* operation : first_in_line(all)) moved = advance(*operation) || moved;
      std::erase_if(all, [](const Operation& operation) { return operation.done(); });
      if (all.empty()) return;
      if (moved) {
        last_move = seconds_now();
      } else {
        wait(all, last_move + options_.timeout - seconds_now());
      }
    }
  } catch (const CommError&) {
    for (Socket& peer : peers_) peer.close();  // ranks that wait for this one learn it now
    throw;
  }

 private:
  const Socket& socket_of(const Operation& o) const { return peers_[static_cast<size_t>(o.peer)]; }

  /// The oldest of each peer and direction: messages stay in order.
  static std::vector<Operation*> first_in_line(std::vector<Operation>& all) {
    std::vector<Operation*> first;
    for (Operation& o : all)
      if (std::ranges::none_of(
              first, [&](const Operation* f) { return f->peer == o.peer && f->sends == o.sends; }))
        first.push_back(&o);
    return first;
  }

  /// Moves what can be moved without waiting; whether that was anything.
  bool advance(Operation& o) {
    const size_t before = o.moved;
    try {
      if (o.sends) {
        advance_in(o, std::as_writable_bytes(std::span(o.head)), 0);
      } else {
        advance_in(o, std::as_writable_bytes(std::span(o.head_received)), 0);
        if (o.moved >= sizeof o.head) check_head(o);
      }
      if (o.moved >= sizeof o.head) advance_in(o, o.bytes, sizeof o.head);
    } catch (const CommError& error) {
      fail<CommError>("rank {}: {}", o.peer, error.what());
    }
    return o.moved > before;
  }

  /// Moves more of a part of the message that begins at `begin`.
  void advance_in(Operation& o, std::span<std::byte> part, size_t begin) {
    while (o.moved < begin + part.size()) {
      const std::span<std::byte> rest = part.subspan(o.moved - begin);
      const size_t n = o.sends ? send_some(socket_of(o), rest) : receive_some(socket_of(o), rest);
      if (n == 0) return;
      o.moved += n;
    }
  }

  static void check_head(const Operation& o) {
    MB_CHECK_AS(CommError, o.head_received == o.head,
                "sent {} bytes of collective #{}, expected {} of #{}: the ranks compute different "
                "things",
                o.head_received[1], o.head_received[0], o.head[1], o.head[0]);
  }

  void wait(std::vector<Operation>& all, double seconds) {
    std::vector<pollfd> waiting;
    for (const Operation* o : first_in_line(all))
      waiting.push_back({socket_of(*o).fd(), static_cast<short>(o->sends ? POLLOUT : POLLIN), 0});
    const int milliseconds = static_cast<int>(1000 * std::max(seconds, 0.0)) + 1;
    if (::poll(waiting.data(), waiting.size(), milliseconds) != 0 || seconds > 0) return;
    const Operation& first = all.front();
    fail<CommError>("rank {} {} for {:g} s", first.peer,
                    first.sends ? "took nothing" : "sent nothing", options_.timeout);
  }

  const TcpTransportOptions options_;
  std::vector<Socket> peers_;  // [R]; this rank's is closed
  std::vector<Operation> begun_;
};

// ---- Connecting --------------------------------------------------------------------------------

std::string key_of(int rank) {
  return fmt::format("tcp/{}", rank);
}

/// The first bytes on a connection. Always as many, so that who reads them takes nothing of the
/// message behind them.
std::string hello_of(const std::string& token, int rank) {
  return fmt::format("{}{:08x}", token, rank);
}

/// Connections of higher ranks: those that say one of the hellos.
void accept_peers(const Socket& listener, const std::string& token, double until, int rank,
                  std::vector<Socket>& peers) {
  struct Candidate {
    Socket socket;
    std::string in = {};
    bool dropped = false;
  };
  std::list<Candidate> candidates;
  const auto look_at = [&](Candidate& c) {
    std::vector<std::byte> bytes(hello_of(token, 0).size() - c.in.size());
    c.in.append(reinterpret_cast<const char*>(bytes.data()), receive_some(c.socket, bytes));
    if (c.in.size() < hello_of(token, 0).size()) return;
    c.dropped = true;
    for (size_t from = static_cast<size_t>(rank) + 1; from < peers.size(); ++from)
      if (c.in == hello_of(token, static_cast<int>(from))) peers[from] = std::move(c.socket);
  };
  const auto missing = [&] {
    std::vector<int> ranks;
    for (size_t r = static_cast<size_t>(rank) + 1; r < peers.size(); ++r)
      if (!peers[r].open()) ranks.push_back(static_cast<int>(r));
    return ranks;
  };
  while (!missing().empty()) {
    MB_CHECK_AS(CommError, seconds_now() < until, "rank {}: rank {} did not connect in time", rank,
                missing().front());
    while (auto socket = accept_from(listener)) candidates.push_back({std::move(*socket)});
    for (Candidate& c : candidates) try {
        look_at(c);
      } catch (const CommError&) {
        c.dropped = true;
      }
    candidates.remove_if([](const Candidate& c) { return c.dropped; });
    std::this_thread::sleep_for(std::chrono::duration<double>(kLookSeconds));
  }
}

Socket connect_to_peer(const Fields& at, int rank, double seconds) {
  Socket socket = connect_to({at[0], number_of(at[1])}, seconds);
  send_all(socket, bytes_of(hello_of(at[2], rank)), seconds);
  return socket;
}

}  // namespace

std::unique_ptr<Transport> tcp_transport(Store& store, const TcpTransportOptions& options) {
  const double until = seconds_now() + options.timeout;
  const Socket listener = listen_at({options.address, 0});
  const std::string token = random_text();
  store.set(key_of(options.rank),
            to_frame({options.address, std::to_string(listener.here().port), token}));
  std::vector<Socket> peers(static_cast<size_t>(options.world));
  for (int r = 0; r < options.rank; ++r) {
    std::string at = store.get(key_of(r), options.timeout);
    const auto fields = take_frame(at, kAddressLimit);
    MB_ASSERT(fields && fields->size() == 3, "tcp: rank {} left no address", r);
    try {
      peers[static_cast<size_t>(r)] = connect_to_peer(*fields, options.rank, until - seconds_now());
    } catch (const CommError& error) {
      fail<CommError>("rank {} can't connect to rank {}: {}", options.rank, r, error.what());
    }
  }
  accept_peers(listener, token, until, options.rank, peers);
  return std::make_unique<TcpTransport>(options, std::move(peers));
}

}  // namespace minibert
