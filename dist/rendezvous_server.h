// rendezvous_server.h: the side of the rendezvous that rank 0 serves: the roll call, then the store,
// and a record of who is still there. One thread, one poll loop: no locks around its state.
// Made by rendezvous.cpp, which also describes a rank's side. Easy to break: anybody can connect,
// so until a connection has proved that it knows the run's secret it may hold one small message for
// a few seconds, and nothing that it does may stop the start. Test: ctest -R dist_rendezvous.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "dist/socket.h"

namespace minibert {

struct RendezvousServerOptions {
  Endpoint at = {};   // port 0 takes a free one
  int listener = -1;  // a file number, if the port is open already: taken over
  int world = 1;
  std::string run_id = {}, secret = {};
  double timeout = 300;      // seconds for the roll call
  double report_every = 10;  // seconds between its reports
  double hello_timeout = 5;  // seconds that a connection has to say who it is
  std::function<void(const std::string&)> say = [](const std::string&) {};  // from its thread
};

class RendezvousServer {
 public:
  /// Listens, then serves in a thread. Errors: UsageError if the port is busy.
  explicit RendezvousServer(const RendezvousServerOptions& options);
  /// Closes all connections.
  ~RendezvousServer();
  int port() const;
  /// After a failed roll call: waits until every rank has been told, at most `seconds`.
  void tell_the_rest(double seconds);

 private:
  class Loop;
  const std::unique_ptr<Loop> loop_;
};

/// What both sides must know.
namespace rendezvous_protocol {
inline constexpr size_t kHelloLimit = 1 << 18;  // bytes of a message from a stranger: all settings
inline constexpr size_t kMessageLimit = 1 << 20;  // bytes of one from a rank
/// After the first failed rank: wait for others to report.
inline constexpr double kBlameSeconds = 2;
inline constexpr double kBlameSecondsOfZero = 3;  // on rank 0, with which the answers end
/// Proof that one knows the secret: a number that depends on the server's challenge.
std::string proof(const std::string& secret, const std::string& challenge,
                  const std::string& run_id, const std::string& rank);
}  // namespace rendezvous_protocol

}  // namespace minibert
