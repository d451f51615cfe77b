// observer.h: who is told what kernels do: counters (counters/) and, some day, a checker. Nobody is,
// unless a test or a tool set `observer`. The engine tells of blocks, cp.async and tensor cores;
// loads and stores are ordinary code, so they are only told of by kernel files that were compiled
// with SIMT_INSTRUMENT_OPTIONS (counters/CMakeLists.txt). Easy to break: an observer runs between two
// instructions of a kernel, so it must neither wait nor throw. Test: ctest -R simt_counters.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

struct LaunchRequest;

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void launch_begins(const LaunchRequest& launch) = 0;
  virtual void block_begins() = 0;
  /// A thread (scheduler.current) reads or writes memory of any kind. `code`: a number that each
  /// place of the kernel's code has for itself.
  virtual void access(const void* address, size_t bytes, bool writes, uint64_t code) = 0;
  /// A warp multiplies on its tensor core.
  virtual void tensor_operation(int flops) = 0;
};

/// Set it only while no kernel runs.
inline Observer* observer = nullptr;

}  // namespace simt
