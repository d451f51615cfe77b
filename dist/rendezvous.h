// rendezvous.h: how the ranks of a run meet. Rank 0 listens at MASTER_ADDR:MASTER_PORT; every rank,
// rank 0 too, connects, proves that it knows the run's secret, and says what it is: rank, world size,
// and fingerprints of what must be equal. When all are here and agree, the run starts, and the same
// connections serve a store of small values, and the question who is to blame when a collective fails.
//
// A fault at the start has one message on every rank that could be reached: a rank that is missing when
// the time is over, a wrong rank number or world size, anything that differs. Connections that are no
// rank of this run (junk, half-open ones, other runs) are refused and logged, and change nothing.
//
// The secret keeps strangers out; what is sent is not encrypted: for a network that others can
// listen to, put a tunnel under it. Called by models/training once, at the start of a run with more
// than one rank. Easy to break: every wait has an end. Test: ctest -R dist_rendezvous.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dist/frames.h"
#include "dist/roll_call.h"
#include "dist/socket.h"
#include "dist/store.h"

namespace minibert {

class RendezvousServer;

struct RendezvousOptions {
  int rank = 0, world = 1;
  Endpoint master = {};                  // rank 0's
  int listener = -1;                     // on rank 0: RendezvousServerOptions::listener
  std::string run_id = {}, secret = {};  // the same on every rank
  /// What must be the same on every rank: version of the build, hash of the configuration, hash of
  /// the data. The first that differs is named.
  std::vector<Fingerprint> fingerprints = {};
  std::string interface = {};  // by which other ranks reach this one; else the way to rank 0
  double timeout = 300;        // seconds for the roll call
  double report_every = 10;    // seconds between reports of who is missing
  double hello_timeout = 5;    // seconds that a connection has to say who it is
  std::function<void(const std::string&)> say = [](const std::string&) {};  // from any thread
};

class Rendezvous : public Store {
 public:
  /// Returns when all ranks are here and agree.
  /// Errors: UsageError (exit code 2): port busy, wrong world size, a rank twice, something differs,
  /// another run id or secret. CommError (5): rank 0 can't be reached, a rank is missing.
  explicit Rendezvous(const RendezvousOptions& options);
  /// Says goodbye, so that nobody takes this rank for dead. On rank 0 the others' store ends.
  ~Rendezvous() override;

  void set(const std::string& key, std::string_view value) override;
  std::string get(const std::string& key, double timeout) override;
  /// After a collective failed here: waits until the other ranks have reported the same, at most
  /// about 3 seconds, then says which rank is to blame: a Blame (dist/process_group.h). Throws nothing.
  std::string blame(const std::string& collective);
  /// The address by which other ranks reach this one.
  const std::string& address() const { return address_; }

 private:
  Socket connect(const RendezvousOptions& options, double until);
  Socket try_to_connect(const RendezvousOptions& options);
  void wait_for_the_start(int rank, double seconds);
  Fields ask(const Fields& request, std::initializer_list<double> seconds);
  Fields receive(double seconds);

  const Endpoint master_;
  std::unique_ptr<RendezvousServer> server_;  // on rank 0
  std::mutex mutex_;                          // one request at a time
  Socket socket_;
  std::string in_;
  std::string address_;
};

}  // namespace minibert
