// socket.h: TCP with time-outs, over IPv4 and IPv6. Called by rendezvous.cpp, rendezvous_server.cpp
// and tcp_transport.cpp. Easy to break: every wait has an end, so sockets never block; a write to a
// peer that is gone must be an error, not a signal. Test: ctest -R dist_socket.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace minibert {

/// Where a socket is, or should be.
struct Endpoint {
  std::string host;  // a name or a number
  int port = 0;
  /// "10.0.0.1:29500", "[::1]:29500"
  std::string str() const;
};

/// An open socket; closed at the end of its life.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;
  bool open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  void close() noexcept;
  Endpoint here() const;   // this end, as the peer sees it
  Endpoint there() const;  // the other end

 private:
  int fd_ = -1;
};

/// Listens at `port` (0: a free one, see here()) of an address of this machine; of all of them if
/// host is empty. Errors: UsageError if the port is busy or the address is not here.
Socket listen_at(const Endpoint& at);
/// Takes over a socket that listens already, which this process got from the one that started it.
/// Errors: UsageError if `fd` is none.
Socket inherited_listener(int fd);
/// The next connection, if one is there.
std::optional<Socket> accept_from(const Socket& listener);
/// Errors: CommError, with the system's reason, after `seconds` at the latest.
Socket connect_to(const Endpoint& to, double seconds);

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Sends or receives what can be done now without waiting: its bytes. Errors: CommError if the
/// connection has ended or failed.
size_t send_some(const Socket& socket, std::span<const std::byte> bytes);
size_t receive_some(const Socket& socket, std::span<std::byte> bytes);
/// Waits until bytes have come, then takes what there is. Errors: CommError as above, or after
/// `seconds`.
size_t receive_within(const Socket& socket, std::span<std::byte> bytes, double seconds);
/// All of it. Errors: CommError as above, or after `seconds`.
void send_all(const Socket& socket, std::span<const std::byte> bytes, double seconds);
void receive_all(const Socket& socket, std::span<std::byte> bytes, double seconds);

/// Lets this process have as many files open as the system lets it: a rank has a connection to every
/// other one, and the usual limit is 1024.
void raise_file_limit();

/// An address of the network interface with this name, IPv4 if it has one. Errors: UsageError, with
/// the names that there are.
std::string address_of_interface(const std::string& name);

}  // namespace minibert
