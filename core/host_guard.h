// host_guard.h: memory that host code must not read while a training step runs.
// A step, once started, needs no answer from the host: on a GPU a host that reads a tensor stops the
// queue, and a captured graph never reads it at all. On a CPU nothing would show such a read. So a
// test switches the guard on: tensors then lie in one region of memory, which `close()` makes
// unreadable; dispatch opens it for the time of each kernel. A host read in between is a fault.
// MemoryCategory::data is host memory (batches before they are copied) and stays outside.
// Called by core/allocator.cpp, core/dispatch.h and tests. Test: ctest -R host_guard.
#pragma once

#include <cstddef>

namespace minibert {

class HostGuard {
 public:
  /// Reserves the region; from now on the allocator takes tensors' memory from it. Once a process,
  /// before the first tensor.
  static void enable();
  static bool enabled();
  /// Makes the region unreadable, and readable again.
  static void close();
  static void open();

  /// A block of the region for the allocator, 64-byte aligned; null when it is full.
  static void* allocate(size_t bytes);
  static bool contains(const void* pointer);
};

/// Opens the region while it lives, where the guard is on; scopes may nest.
class KernelAccess {
 public:
  KernelAccess() {
    if (HostGuard::enabled()) begin();
  }
  ~KernelAccess() {
    if (HostGuard::enabled()) end();
  }
  KernelAccess(const KernelAccess&) = delete;
  KernelAccess& operator=(const KernelAccess&) = delete;

 private:
  static void begin();
  static void end();
};

}  // namespace minibert
