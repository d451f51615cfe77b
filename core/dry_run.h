// dry_run.h: runs code that computes for the memory that it would take, and computes nothing.
// While a DryRun lives, tensors that its thread makes get addresses without memory behind them, from
// an allocator of the run's own, which counts and caches as the process's does; dispatch.h skips
// kernels, and counts what they would take besides operands (KernelMemory). So a training step of
// any size is planned by the code that trains, on a machine that could not hold it, for a device that
// it lacks. Called by models/training/plan_memory.cpp. It works for code that needs no answer from the
// host (host_guard.h). Easy to break: a tensor made in a dry run faults when it is read, and must not
// outlive the run; a kernel that makes a Workspace or uses thread_scratch() says so in its dispatch.
// Test: ctest -R core_dry_run; ctest -R plan_memory compares with steps that are computed.
#pragma once

#include <memory>
#include <vector>

#include "core/allocator.h"
#include "core/tensor.h"

namespace minibert {

/// What a kernel takes besides its operands, in bytes.
struct KernelMemory {
  std::vector<int64_t> workspaces = {};  // each Workspace; all are held until the kernel's end
  int64_t thread_scratch = 0;            // asked of thread_scratch() on each thread
};

class DryRun {
 public:
  /// `threads`: of kernels; as many buffers of thread scratch. 0: num_threads().
  explicit DryRun(int threads = 0);
  ~DryRun();
  DryRun(const DryRun&) = delete;
  DryRun& operator=(const DryRun&) = delete;

  /// What its tensors took: usage, peaks, reserved bytes.
  Allocator& allocator() { return *allocator_; }
  /// Whether the calling thread is in one.
  static bool on() { return current() != nullptr; }
  /// In the place of a kernel: takes its memory and gives it back. Called by dispatch.h.
  static void kernel(const KernelMemory& memory, Device device);

 private:
  static DryRun*& current();

  std::unique_ptr<Allocator> allocator_;
  std::vector<Tensor> thread_scratch_;  // one a thread
  DryRun* outer_;
};

}  // namespace minibert
