// allocator.h: caching allocator that counts bytes by what they are for.
// Memory is asked for by core/tensor.cpp alone. Freed blocks are kept by size class and handed out
// again, so that a training step asks the system for nothing once it has met its sizes; `direct`
// mode passes each request to the system, for memory checkers. Easy to break: a block is 64-byte
// aligned and its tail up to the class size is not zeroed; a block of a CUDA device may be freed
// while queued kernels still use it, since whoever gets it next queues after them, on the same
// stream. Test: ctest -R core_allocator.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.h"

namespace minibert {

enum class MemoryCategory : uint8_t {
  weights,
  gradients,
  optimizer_state,
  activations,
  workspace,
  data
};
inline constexpr int kMemoryCategories = 6;
const char* name_of(MemoryCategory category);

struct MemoryUsage {
  int64_t bytes = 0;       // in use now, in bytes as asked for
  int64_t peak_bytes = 0;  // most in use at one time since the start or reset_peak()
};

/// One process-wide allocator, and one for each dry run (dry_run.h). All functions may be called from
/// any thread.
/// Errors: OutOfMemory with the table of categories and what to do, when the system refuses.
class Allocator {
 public:
  /// The process's, or the one that this thread is told to use.
  static Allocator& instance();
  /// One whose blocks are addresses with no memory behind them: it counts alone. Called by DryRun.
  static std::unique_ptr<Allocator> without_memory();
  /// What instance() is on this thread from now on; null: the process's. Tensors go back to the
  /// allocator that they came from. Called by DryRun.
  static void use(Allocator* allocator);
  ~Allocator();

  void* allocate(size_t bytes, MemoryCategory category, Device device);
  void free(void* pointer, size_t bytes, MemoryCategory category, Device device) noexcept;

  MemoryUsage usage(MemoryCategory category) const;
  MemoryUsage total() const;
  /// On one device.
  MemoryUsage total(Device device) const;
  /// Bytes held from the system: in use plus cached.
  int64_t reserved_bytes() const;
  /// On one device, the most since the start. Without memory, on the host: the pages touched (.cpp).
  int64_t peak_reserved_bytes(Device device) const;
  /// Requests that were passed on to the system, since the start: a training step makes none once
  /// it has met its sizes.
  int64_t system_allocations() const;
  void reset_peak();
  /// Gives all cached blocks back to the system.
  void release_cache();
  /// true: no caching. Set it before the first allocation (or MINIBERT_DIRECT_ALLOCATOR=1).
  void set_direct(bool direct);
  bool direct() const;
  /// From now on MemoryCategory::data on the host is page-locked, where the system allows it.
  void pin_host_data();
  /// Refuses requests that would pass this many bytes in use; 0 is no limit. Tests use it to
  /// provoke OutOfMemory.
  void set_limit(int64_t bytes);
  int64_t limit() const;
  /// Blocks of device cuda handed out from begin to end, which returns them, do not go back to the
  /// system until they are let go, though those who had them have freed them: a graph's replay uses
  /// them. The allocator may hand them out again, since the stream orders their uses. Not where it is
  /// direct.
  void begin_keeping();
  std::vector<void*> end_keeping();
  void let_go(const std::vector<void*>& blocks) noexcept;

 private:
  explicit Allocator(bool has_memory);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace minibert
