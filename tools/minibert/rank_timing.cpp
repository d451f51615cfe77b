// rank_timing.cpp: rounds of a collective between barriers, and a connection for nothing but bytes.
#include "tools/minibert/rank_timing.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <poll.h>

#include "core/clock.h"
#include "core/error.h"
#include "dist/siphash.h"
#include "models/training/agreement.h"

namespace minibert {
namespace {

constexpr int kMinRuns = 5, kMaxRuns = 1000;

}  // namespace

Timing time_on_ranks(ProcessGroup& control, const std::function<void()>& run, double seconds) {
  const auto timed = [&] {
    control.barrier().wait();
    const double begin = seconds_now();
    run();
    return seconds_now() - begin;
  };
  timed();  // to warm up
  const double once = std::max(timed(), 1e-9);
  auto runs = static_cast<int64_t>(std::clamp<double>(seconds / once, kMinRuns, kMaxRuns));
  control.broadcast(Elements(std::span(&runs, 1)), 0).wait();

  const auto n = static_cast<size_t>(runs);
  std::vector<double> all(n * static_cast<size_t>(control.world()));  // [R, runs]
  double* mine = all.data() + n * static_cast<size_t>(control.rank());
  for (size_t i = 0; i < n; ++i) mine[i] = timed();
  control.all_gather(Elements(std::span(all))).wait();
  std::vector<double> slowest(n);
  for (size_t i = 0; i < all.size(); ++i) slowest[i % n] = std::max(slowest[i % n], all[i]);
  std::ranges::sort(slowest);
  return {slowest.front(), slowest[n / 2], slowest.back(), static_cast<int>(n)};
}

Timing time_collective(World& world, CollectiveKind kind, const Elements& data, double seconds) {
  ProcessGroup& group = world.group();
  const auto run = [&] {
    Handle handle = kind == CollectiveKind::all_reduce       ? group.all_reduce(data)
                    : kind == CollectiveKind::reduce_scatter ? group.reduce_scatter(data)
                                                             : group.all_gather(data);
    handle.wait();
    group.check();
  };
  return time_on_ranks(world.control(), run, seconds);
}

double bus_factor(CollectiveKind kind, int world) {
  const double share = static_cast<double>(world - 1) / world;
  return kind == CollectiveKind::all_reduce ? 2 * share : share;
}

Tensor data_for(const std::string& backend, int64_t bytes) {
  return Tensor::zeros({bytes}, DType::u8, MemoryCategory::data,
                       backend.starts_with("nccl") ? Device::cuda : Device::cpu);
}

Wire::Wire(World& world, double timeout)
    : first_(world.control().rank() == 0),
      last_(world.control().rank() == world.control().world() - 1),
      timeout_(timeout) {
  Socket listener;
  std::string token = random_text(), place;
  if (first_) {
    listener = listen_at({world.address(), 0});
    place = listener.here().host + " " + std::to_string(listener.here().port);
  }
  share_text(world.control(), token);
  share_text(world.control(), place);
  if (first_) socket_ = accept(listener, token);
  if (last_) {
    const size_t blank = place.find(' ');
    socket_ = connect_to({place.substr(0, blank), std::stoi(place.substr(blank))}, timeout_);
    send_all(socket_, bytes_of(token), timeout_);
  }
}

void Wire::move(std::span<std::byte> bytes) {
  std::byte end{};
  const std::span one(&end, 1);
  if (first_) {
    send_all(socket_, bytes, timeout_);
    receive_all(socket_, one, timeout_);
  } else if (last_) {
    receive_all(socket_, bytes, timeout_);
    send_all(socket_, one, timeout_);
  }
}

/// The first connection that knows the token.
Socket Wire::accept(const Socket& listener, const std::string& token) const {
  const double until = seconds_now() + timeout_;
  while (seconds_now() < until) {
    pollfd waiting{listener.fd(), POLLIN, 0};
    ::poll(&waiting, 1, 100);
    std::optional<Socket> socket = accept_from(listener);
    if (!socket) continue;
    std::string said(token.size(), ' ');
    try {
      receive_all(*socket, std::as_writable_bytes(std::span(said)), /* seconds= */ 5);
    } catch (const CommError&) {
      continue;
    }
    if (said == token) return std::move(*socket);
  }
  fail<CommError>(
      "the last rank has not connected for {:g} s, for the rate of the wire between it and rank 0",
      timeout_);
}

}  // namespace minibert
