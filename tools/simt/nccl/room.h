// room.h: where the ranks of a communicator meet: POSIX shared memory, named by the unique id. Each
// rank has a window of it, which all read, and a box for what it sends to each other one. Ranks are
// processes, or threads. Called by communicator.cpp and exchange.cpp. Easy to break: whoever holds
// a rank holds a lock of the system on one byte of the memory's file, by which the others learn
// that it died; so the file stays open. Test: ctest -R simt_nccl.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <nccl.h>

namespace simt {

inline constexpr size_t kWindow = 256 << 10;  // bytes that a rank shows the others at once
inline constexpr size_t kBox = 64 << 10;      // bytes that a rank sends to another one at once
inline constexpr int kMostRanks = 64;

enum class Presence : uint32_t { absent, joined, aborted, finalized };

/// What the others know of a rank. Counters only rise.
struct alignas(64) Seat {
  std::atomic<Presence> presence;
  std::atomic<uint64_t> shown;  // windows that it has filled
  std::atomic<uint64_t> seen;   // windows of all ranks that it has done with
  std::atomic<uint64_t> doing;  // which collective the window belongs to
};
struct alignas(64) Box {
  std::atomic<uint64_t> put, taken;  // messages
  std::atomic<uint64_t> total;       // bytes of all messages of the send
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

class Room {
 public:
  /// Makes the memory of a new id.
  static bool create(ncclUniqueId* id);

  /// Takes the seat of `rank`. Afterwards error() is ncclSuccess, or says why not.
  Room(const ncclUniqueId& id, int rank, int ranks);
  ~Room();
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;

  ncclResult_t error() const { return error_; }
  Seat& seat(int rank) const;
  std::byte* window(int rank) const;
  Box& box(int from, int to) const;
  std::byte* box_data(int from, int to) const;

  /// Whether all ranks came. Then the memory needs its name no more.
  bool complete();
  /// Whether one of the others died, or left by abort, or one that is `needed` in peace.
  bool lost_one(const std::function<bool(int)>& needed) const;

 private:
  ncclResult_t join(const ncclUniqueId& id);

  const int rank_, ranks_;
  ncclResult_t error_ = ncclSuccess;
  std::string name_;
  int file_ = -1;
  std::byte* memory_ = nullptr;
  bool complete_ = false;
};

}  // namespace simt
