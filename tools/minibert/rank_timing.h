// rank_timing.h: how long a collective of the ranks takes, and the wire between two of them. Called by
// bench_all_reduce.cpp and doctor_ranks.cpp. Easy to break: how often a collective is repeated is rank
// 0's decision, or the ranks lose each other. Test: ctest -R bench_ranks.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "core/tensor.h"
#include "dist/socket.h"
#include "dist/world.h"
#include "tools/minibert/bench.h"

namespace minibert {

/// Times `run`, which every rank calls as often as the others: about `seconds` in all. The ranks begin
/// each one together; its time is that of the slowest. `control` is World::control().
Timing time_on_ranks(ProcessGroup& control, const std::function<void()>& run, double seconds);

/// Times a collective of the group, on a device until the device has done it.
Timing time_collective(World& world, CollectiveKind kind, const Elements& data, double seconds);

/// Bytes that each rank must send, over the bytes of data: bus bandwidth over algorithm bandwidth.
double bus_factor(CollectiveKind kind, int world);

/// `bytes` of zeros, so that sums stay zeros, where the group `backend` works: on device cuda for nccl.
Tensor data_for(const std::string& backend, int64_t bytes);

/// A TCP connection from rank 0 to the last rank, for nothing but bytes.
class Wire {
 public:
  /// All ranks call it. `timeout` in seconds. Errors: CommError if the last rank does not connect.
  Wire(World& world, double timeout);
  /// `bytes` from rank 0 to the last rank, and a byte back. Nothing on others. In the host's memory.
  void move(std::span<std::byte> bytes);

 private:
  Socket accept(const Socket& listener, const std::string& token) const;

  const bool first_, last_;
  const double timeout_;
  Socket socket_;
};

}  // namespace minibert
