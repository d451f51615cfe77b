// socket.cpp: the system's calls, each with a deadline and an error that says what the system said.
#include "dist/socket.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"

namespace minibert {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

std::vector<Address> resolve(const Endpoint& endpoint, bool passive) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(endpoint.host.empty() ? nullptr : endpoint.host.c_str(),
                                  std::to_string(endpoint.port).c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
  MB_CHECK_AS(CommError, error == 0, "{}: {}", endpoint.host, ::gai_strerror(error));
  std::vector<Address> all;
  for (const addrinfo* a = found; a; a = a->ai_next) {
    all.emplace_back();
    std::memcpy(&all.back().storage, a->ai_addr, a->ai_addrlen);
    all.back().size = a->ai_addrlen;
  }
  // On all addresses: IPv6's socket takes IPv4 as well.
  if (passive && endpoint.host.empty())
    std::stable_partition(all.begin(), all.end(),
                          [](const Address& a) { return a.storage.ss_family == AF_INET6; });
  return all;
}

Endpoint endpoint_of(Address& address) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (::getnameinfo(address.get(), address.size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return {"?", 0};
  std::string name = host;
  if (name.starts_with("::ffff:") && name.find('.') != name.npos) name.erase(0, 7);  // IPv4 by IPv6
  return {name, std::stoi(port)};
}

Socket new_socket(int family) {
  return Socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

void set_option(const Socket& socket, int level, int option, int value) {
  ::setsockopt(socket.fd(), level, option, &value, sizeof value);
}

/// Waits until `events` are possible. False at the deadline.
bool wait_until(const Socket& socket, short events, double deadline) {
  while (true) {
    pollfd one{socket.fd(), events, 0};
    const double left = std::clamp(deadline - seconds_now(), 0.0, 1e6);
    const int ready = ::poll(&one, 1, static_cast<int>(std::ceil(1000 * left)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    MB_CHECK_AS(CommError, errno == EINTR, "poll: {}", std::strerror(errno));
  }
}

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/// 0, or the system's error.
int try_connect(const Socket& socket, Address& address, double deadline) {
  if (::connect(socket.fd(), address.get(), address.size) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!wait_until(socket, POLLOUT, deadline)) return ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

std::string Endpoint::str() const {
  return host.find(':') == host.npos ? fmt::format("{}:{}", host, port)
                                     : fmt::format("[{}]:{}", host, port);
}

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Socket::close() noexcept {
  if (open()) ::close(std::exchange(fd_, -1));
}

Endpoint Socket::here() const {
  Address address;
  ::getsockname(fd_, address.get(), &address.size);
  return endpoint_of(address);
}

Endpoint Socket::there() const {
  Address address;
  ::getpeername(fd_, address.get(), &address.size);
  return endpoint_of(address);
}

Socket listen_at(const Endpoint& at) {
  const std::string where = at.host.empty() ? fmt::format("port {}", at.port) : at.str();
  int error = 0;
  for (Address& address : resolve(at, /* passive= */ true)) {
    Socket socket = new_socket(address.storage.ss_family);
    if (!socket.open()) {
      error = errno;
      continue;
    }
    set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);  // a port whose last run has just ended
    if (address.storage.ss_family == AF_INET6) set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (::bind(socket.fd(), address.get(), address.size) == 0 &&
        ::listen(socket.fd(), SOMAXCONN) == 0)
      return socket;
    error = errno;
    if (error == EADDRINUSE) break;
  }
  MB_CHECK(error != EADDRINUSE, "{} is busy: another program listens there. Choose another port",
           where);
  fail<UsageError>("can't listen at {}: {}", where, std::strerror(error));
}

Socket inherited_listener(int fd) {
  int listens = 0;
  socklen_t size = sizeof listens;
  ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
  MB_CHECK(listens == 1, "file {} is no socket that listens: unset MINIBERT_LISTENER", fd);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return Socket(fd);
}

std::optional<Socket> accept_from(const Socket& listener) {
  Socket socket(::accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket.open()) return std::nullopt;
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  return socket;
}

Socket connect_to(const Endpoint& to, double seconds) {
  const double deadline = seconds_now() + seconds;
  int error = 0;
  for (Address& address : resolve(to, /* passive= */ false)) {
    Socket socket = new_socket(address.storage.ss_family);
    error = socket.open() ? try_connect(socket, address, deadline) : errno;
    if (error != 0) continue;
    set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
    return socket;
  }
  fail<CommError>("{}: {}", to.str(), std::strerror(error));
}

size_t send_some(const Socket& socket, std::span<const std::byte> bytes) {
  const ssize_t n = ::send(socket.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (n >= 0) return static_cast<size_t>(n);
  MB_CHECK_AS(CommError, would_block(), "{}", std::strerror(errno));
  return 0;
}

size_t receive_some(const Socket& socket, std::span<std::byte> bytes) {
  if (bytes.empty()) return 0;
  const ssize_t n = ::recv(socket.fd(), bytes.data(), bytes.size(), 0);
  MB_CHECK_AS(CommError, n != 0, "the other end closed the connection");
  if (n > 0) return static_cast<size_t>(n);
  MB_CHECK_AS(CommError, would_block(), "{}", std::strerror(errno));
  return 0;
}

void send_all(const Socket& socket, std::span<const std::byte> bytes, double seconds) {
  const double deadline = seconds_now() + seconds;
  while (!bytes.empty()) {
    bytes = bytes.subspan(send_some(socket, bytes));
    MB_CHECK_AS(CommError, bytes.empty() || wait_until(socket, POLLOUT, deadline),
                "nothing could be sent for {:g} s", seconds);
  }
}

size_t receive_within(const Socket& socket, std::span<std::byte> bytes, double seconds) {
  const double deadline = seconds_now() + seconds;
  while (true) {
    const size_t n = receive_some(socket, bytes);
    if (n > 0 || bytes.empty()) return n;
    MB_CHECK_AS(CommError, wait_until(socket, POLLIN, deadline), "nothing came for {:.3g} s",
                seconds);
  }
}

void receive_all(const Socket& socket, std::span<std::byte> bytes, double seconds) {
  const double deadline = seconds_now() + seconds;
  while (!bytes.empty())
    bytes = bytes.subspan(receive_within(socket, bytes, deadline - seconds_now()));
}

void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string address_of_interface(const std::string& name) {
  ifaddrs* found = nullptr;
  MB_CHECK(::getifaddrs(&found) == 0, "interfaces: {}", std::strerror(errno));
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(found, ::freeifaddrs);
  std::vector<std::string> names;
  for (const int family : {AF_INET, AF_INET6})
    for (const ifaddrs* i = found; i; i = i->ifa_next) {
      if (!i->ifa_addr || i->ifa_addr->sa_family != family) continue;
      if (std::ranges::find(names, i->ifa_name) == names.end()) names.emplace_back(i->ifa_name);
      if (name != i->ifa_name) continue;
      Address address;
      address.size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
      std::memcpy(&address.storage, i->ifa_addr, address.size);
      return endpoint_of(address).host;
    }
  fail<UsageError>("interface {} has no address here, expected one of: {}", name,
                   fmt::join(names, ", "));
}

}  // namespace minibert
