// exchange.h: a collective, or the sends and receives of a group, on its way: what an operation of a
// stream does bit by bit, while it waits for other ranks. Made by calls.cpp. A collective shows
// its data through the rank's window (room.h), a piece at a time: every rank fills its window, waits
// until all have, reads all, and waits until all have read. So a rank may be in another piece than
// the others by one at most. Easy to break: advance() never blocks, and is called again and again,
// under the runtime's lock, with the device's memory open. Test: ctest -R simt_nccl.
#pragma once

#include <memory>
#include <vector>

#include "tools/simt/nccl/communicator.h"
#include "tools/simt/nccl/reduce.h"

namespace simt {

enum class CollectiveKind : uint8_t { all_reduce, reduce, reduce_scatter, all_gather, broadcast };

struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::all_reduce;
  const void* send = nullptr;
  void* receive = nullptr;
  size_t count = 0;  // elements, as the call has it: of the smaller one of both buffers
  ncclDataType_t type = ncclFloat32;
  Reduction reduction;
  int root = 0;
};

struct Message {
  bool sends = false;
  int peer = 0;
  std::byte* data = nullptr;
  size_t bytes = 0;
};

/// Both work their way to the end: true, once it is reached.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// `moved` becomes true if anything has happened. Errors: one for ncclCommGetAsyncError.
  virtual ncclResult_t advance(bool& moved, bool& over) = 0;
  /// Whether it can't end without this rank, which has left in peace.
  virtual bool needs(int rank) const = 0;
};

std::unique_ptr<Exchange> exchange_of(std::shared_ptr<Room> room, int rank, int ranks,
                                      const CollectiveCall& call);
std::unique_ptr<Exchange> exchange_of(std::shared_ptr<Room> room, int rank,
                                      std::vector<Message> messages);

}  // namespace simt
