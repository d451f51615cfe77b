// transport.h: bytes from rank to rank, the only thing that dist/ring.h needs of a network.
// Kinds: between threads of one process (memory_transport.h), TCP (tcp_transport.h), Gloo's
// (gloo_group.cpp), NCCL's (nccl_group.cpp). Easy to break: send() and receive() only begin: all ranks
// of a ring send at once, so a send that waited for its receiver would block all. Test: ctest -R dist_ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace minibert {

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int world() const = 0;

  /// Begins to send. `bytes` must not change before finish() returns. `tag` is the number of the
  /// collective: a receiver that expects another number or another size finds that the ranks differ.
  virtual void send(int to, std::span<const std::byte> bytes, uint64_t tag) = 0;
  /// Begins to receive. From one rank bytes arrive in the order in which it sent them.
  virtual void receive(int from, std::span<std::byte> bytes, uint64_t tag) = 0;
  /// Returns when all that was begun is done. Errors: CommError, if a rank is gone, if nothing moves
  /// for the transport's time-out, or if ranks differ; the transport must not be used any more.
  virtual void finish() = 0;

  /// Memory for data that arrives and is then added, on the device on which collectives' data lie: the
  /// host's, unless a kind overrides it. Valid until the next call.
  virtual std::byte* room(size_t bytes) {
    if (room_.size() < bytes) room_.resize(bytes);
    return room_.data();
  }

 private:
  std::vector<std::byte> room_;
};

}  // namespace minibert
