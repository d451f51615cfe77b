// socket_test.cpp: connections over IPv4 and IPv6, and the end of every wait.
#include "dist/socket.h"

#include <array>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

using testing::usage_error_of;

std::string comm_error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const CommError& error) {
    return error.what();
  }
  return "no CommError";
}

/// Both ends of a connection over an address of this machine.
struct Pair {
  explicit Pair(const std::string& host = "127.0.0.1") {
    const Socket listener = listen_at({host, 0});
    near = connect_to({host.empty() ? "127.0.0.1" : host, listener.here().port}, 5);
    pollfd one{listener.fd(), POLLIN, 0};
    ::poll(&one, 1, 5000);
    far = std::move(*accept_from(listener));
  }
  Socket near, far;
};

TEST(Socket, CarriesBytesBothWaysOverEveryFamily) {
  for (const std::string host : {"127.0.0.1", "::1", "localhost", ""}) {
    Pair pair(host);
    std::array<std::byte, 3> sent = {std::byte(1), std::byte(2), std::byte(3)}, received{};
    send_all(pair.near, sent, 5);
    receive_all(pair.far, received, 5);
    EXPECT_EQ(received, sent) << host;
    send_all(pair.far, sent, 5);
    receive_all(pair.near, received, 5);
    EXPECT_EQ(pair.near.here().str(), pair.far.there().str()) << host;
  }
}

TEST(Socket, WritesEndpointsAsUsersDo) {
  EXPECT_EQ((Endpoint{"10.0.0.1", 29500}).str(), "10.0.0.1:29500");
  EXPECT_EQ((Endpoint{"::1", 29500}).str(), "[::1]:29500");
}

TEST(Socket, SaysThatAPortIsBusy) {
  const Socket listener = listen_at({"127.0.0.1", 0});
  const int port = listener.here().port;
  EXPECT_EQ(usage_error_of([&] {
              listen_at({"127.0.0.1", port});
            }),
            fmt::format("127.0.0.1:{} is busy: another program listens there. Choose another port",
                        port));
}

TEST(Socket, SaysThatAnAddressIsNotHere) {
  EXPECT_EQ(usage_error_of([] {
              listen_at({"192.0.2.1", 0});
            }),
            "can't listen at 192.0.2.1:0: Cannot assign requested address");
}

TEST(Socket, SaysWhyItCanNotConnect) {
  int port = 0;
  {
    const Socket listener = listen_at({"127.0.0.1", 0});
    port = listener.here().port;
  }
  EXPECT_EQ(comm_error_of([&] {
              connect_to({"127.0.0.1", port}, 5);
            }),
            fmt::format("127.0.0.1:{}: Connection refused", port));
  EXPECT_NE(comm_error_of([] {
              connect_to({"no-such-host.invalid", 1}, 5);
            }).find("no-such-host.invalid: "),
            std::string::npos);
}

TEST(Socket, EveryWaitHasAnEnd) {
  Pair pair;
  std::array<std::byte, 1> byte;
  const double start = seconds_now();
  EXPECT_EQ(comm_error_of([&] { receive_all(pair.near, byte, 0.05); }), "nothing came for 0.05 s");
  std::vector<std::byte> much(
      64 << 20);  // more than the system keeps for a peer that reads nothing
  EXPECT_EQ(comm_error_of([&] { send_all(pair.near, much, 0.05); }),
            "nothing could be sent for 0.05 s");
  EXPECT_LT(seconds_now() - start, 10);
}

TEST(Socket, APeerThatIsGoneIsAnErrorNotASignal) {
  Pair pair;
  pair.far.close();
  std::array<std::byte, 1> byte{};
  EXPECT_EQ(comm_error_of([&] { receive_all(pair.near, byte, 5); }),
            "the other end closed the connection");
  const std::string text = comm_error_of([&] {
    for (int i = 0; i < 1000; ++i) send_all(pair.near, byte, 5);
  });
  EXPECT_TRUE(text == "Broken pipe" || text == "Connection reset by peer") << text;
}

TEST(Socket, FindsTheAddressOfAnInterface) {
  EXPECT_EQ(address_of_interface("lo"), "127.0.0.1");
  const std::string text = usage_error_of([] { address_of_interface("no-such-card"); });
  EXPECT_TRUE(text.starts_with("interface no-such-card has no address here, expected one of: "))
      << text;
  EXPECT_NE(text.find("lo"), std::string::npos) << text;
}

TEST(Socket, TakesOverAListenerThatIsOpen) {
  Socket parent = listen_at({"127.0.0.1", 0});
  const int port = parent.here().port;
  const Socket listener = inherited_listener(::dup(parent.fd()));
  parent.close();
  const Socket client = connect_to({"127.0.0.1", port}, 5);
  std::optional<Socket> server;
  while (!server) server = accept_from(listener);
  EXPECT_EQ(server->there().port, client.here().port);
  for (const int fd : {client.fd(), -1})
    EXPECT_EQ(usage_error_of([&] { inherited_listener(fd); }),
              fmt::format("file {} is no socket that listens: unset MINIBERT_LISTENER", fd));
}

TEST(Socket, TheFileLimitIsTheSystems) {
  raise_file_limit();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(limit.rlim_cur, limit.rlim_max);
}

}  // namespace
}  // namespace minibert
