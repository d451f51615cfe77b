// rendezvous.cpp: what a rank does: connect, hello, wait for the start; then the store's requests.
#include "dist/rendezvous.h"

#include <array>
#include <thread>

#include "core/clock.h"
#include "core/error.h"
#include "dist/frames.h"
#include "dist/rendezvous_server.h"

namespace minibert {
namespace protocol = rendezvous_protocol;
namespace {

constexpr double kGrace = 5;           // seconds that an answer may take on its way
constexpr double kHeardSeconds = 2;    // and that rank 0 may take to say that it heard a question
constexpr double kTellTheRest = 5;     // seconds that rank 0 stays to tell late ranks what is wrong
constexpr double kRetrySeconds = 0.1;  // between attempts to reach rank 0

/// Where rank 0 listens: a loopback address keeps everybody else out; any other name may resolve to
/// a loopback address on its own machine, so there it is all addresses.
Endpoint listening_end(const Endpoint& master) {
  const bool local =
      master.host == "localhost" || master.host == "::1" || master.host.starts_with("127.");
  return {local ? master.host : "", master.port};
}

}  // namespace

Rendezvous::Rendezvous(const RendezvousOptions& options) : master_(options.master) {
  MB_CHECK(options.world >= 1 && options.rank >= 0 && options.rank < options.world,
           "rendezvous: rank is {} of {}, expected 0 to world size - 1", options.rank,
           options.world);
  if (!options.interface.empty()) address_ = address_of_interface(options.interface);
  const double until = seconds_now() + options.timeout;
  if (options.rank == 0) {
    server_ = std::make_unique<RendezvousServer>(
        RendezvousServerOptions{.at = listening_end(options.master),
                                .listener = options.listener,
                                .world = options.world,
                                .run_id = options.run_id,
                                .secret = options.secret,
                                .timeout = options.timeout,
                                .report_every = options.report_every,
                                .hello_timeout = options.hello_timeout,
                                .say = options.say});
  }
  try {
    socket_ = connect(options, until);
    if (address_.empty()) address_ = socket_.here().host;
    wait_for_the_start(options.rank, until - seconds_now() + kGrace);
  } catch (const std::exception&) {
    if (server_) server_->tell_the_rest(kTellTheRest);
    throw;
  }
}

Rendezvous::~Rendezvous() {
  try {
    if (socket_.open()) send_all(socket_, bytes_of(to_frame({"bye"})), 1);
  } catch (const std::exception&) {  // rank 0 is gone: there is nobody to say it to
  }
}

// ---- The start ---------------------------------------------------------------------------------

/// Tries until rank 0 answers: it may start later than this rank.
Socket Rendezvous::connect(const RendezvousOptions& options, double until) {
  double next_report = seconds_now() + options.report_every;
  while (true) {
    std::string why;
    try {
      return try_to_connect(options);
    } catch (const CommError& error) {
      why = error.what();
    }
    const double left = until - seconds_now();
    MB_CHECK_AS(CommError, left > 0,
                "rendezvous: rank {} can't reach rank 0 for {:g} s ({}). Check master address and "
                "port, that rank 0 runs, and that no firewall is between",
                options.rank, options.timeout, why);
    if (seconds_now() >= next_report) {
      next_report += options.report_every;
      options.say(
          fmt::format("rendezvous: rank {} does not reach rank 0 yet ({}), waiting {:.0f} s more",
                      options.rank, why, left));
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(left, kRetrySeconds)));
  }
}

/// Connects, and sends hello once the server has sent its challenge.
Socket Rendezvous::try_to_connect(const RendezvousOptions& options) {
  in_.clear();
  socket_ = connect_to(master_, options.hello_timeout);
  Fields f;
  try {
    f = receive(options.hello_timeout);
    MB_CHECK_AS(CommError, f.size() == 2 && f[0] == "challenge", "it sent no challenge");
  } catch (const CommError& error) {
    fail<CommError>("{} does not answer as a rank 0 of minibert: {}", master_.str(), error.what());
  }
  const std::string rank = std::to_string(options.rank);
  Fields hello = {"hello", options.run_id,
                  protocol::proof(options.secret, f[1], options.run_id, rank), rank,
                  std::to_string(options.world)};
  for (const Fingerprint& print : options.fingerprints) {
    hello.push_back(print.what);
    hello.push_back(print.value);
  }
  send_all(socket_, bytes_of(to_frame(hello)), options.hello_timeout);
  return std::move(socket_);
}

void Rendezvous::wait_for_the_start(int rank, double seconds) {
  Fields f;
  try {
    f = receive(seconds);
  } catch (const CommError& error) {
    fail<CommError>("rendezvous: rank 0 at {} left rank {} during the roll call: {}", master_.str(),
                    rank, error.what());
  }
  if (f.size() == 1 && f[0] == "welcome") return;
  if (f.size() == 3 && f[0] == "failed") {
    const auto category = static_cast<ErrorCategory>(number_of(f[1]));
    if (category == ErrorCategory::usage) fail<UsageError>("rendezvous: {}", f[2]);
    fail<CommError>("rendezvous: {}", f[2]);
  }
  MB_CHECK_AS(CommError, f.size() == 2 && f[0] == "refused", "rendezvous: {} answers nonsense",
              master_.str());
  fail<UsageError>("rendezvous: rank 0 at {} refused rank {}: {}", master_.str(), rank, f[1]);
}

// ---- The store ---------------------------------------------------------------------------------

Fields Rendezvous::receive(double seconds) {
  const double until = seconds_now() + seconds;
  while (true) {
    if (auto fields = take_frame(in_, protocol::kMessageLimit)) return *fields;
    std::array<std::byte, 4096> bytes;
    const size_t n = receive_within(socket_, bytes, until - seconds_now());
    in_.append(reinterpret_cast<const char*>(bytes.data()), n);
  }
}

/// The last of the answers to a request, each of which may take so many seconds.
Fields Rendezvous::ask(const Fields& request, std::initializer_list<double> seconds) {
  const std::lock_guard lock(mutex_);
  try {
    MB_CHECK_AS(CommError, socket_.open(), "the connection is closed");
    send_all(socket_, bytes_of(to_frame(request)), kGrace);
    Fields answer;
    for (const double limit : seconds) answer = receive(limit);
    return answer;
  } catch (const CommError& error) {
    socket_.close();  // an answer that comes late would be taken for the next one's
    fail<CommError>("rank 0 at {} does not answer: {}", master_.str(), error.what());
  }
}

void Rendezvous::set(const std::string& key, std::string_view value) {
  ask({"set", key, std::string(value)}, {kGrace});
}

std::string Rendezvous::get(const std::string& key, double timeout) {
  const auto milliseconds = static_cast<int>(1000 * timeout);
  const Fields f = ask({"get", key, std::to_string(milliseconds)}, {timeout + kGrace});
  MB_CHECK_AS(CommError, f.size() == 2 && f[0] == "value", "rendezvous: {} was not set for {:g} s",
              key, timeout);
  return f[1];
}

std::string Rendezvous::blame(const std::string& collective) {
  try {
    // "heard" comes at once, so that a rank 0 which is frozen itself is known soon.
    const Fields f =
        ask({"why", collective}, {kHeardSeconds, protocol::kBlameSecondsOfZero + kGrace});
    return f.size() == 2 ? f[1] : "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace minibert
