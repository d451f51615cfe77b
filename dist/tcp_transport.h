// tcp_transport.h: a Transport over TCP, with a connection between every two ranks: for the ring on a
// network. Ranks find each other through a store; who connects must know a number that only the
// store's readers know. Easy to break: finish() moves all that was begun, in both directions, since
// every rank sends before it receives. Test: ctest -R dist_tcp_transport.
#pragma once

#include <memory>
#include <string>

#include "dist/store.h"
#include "dist/transport.h"

namespace minibert {

struct TcpTransportOptions {
  int rank = 0, world = 1;
  std::string address = "127.0.0.1";  // where this rank listens, as others can reach it
  double timeout = 60;                // seconds without progress
};

/// Connects to all other ranks; needs `store` only here. Errors: CommError if one can't be
/// reached within the time-out; UsageError if the address is not here.
std::unique_ptr<Transport> tcp_transport(Store& store, const TcpTransportOptions& options);

}  // namespace minibert
