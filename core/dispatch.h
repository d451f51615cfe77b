// dispatch.h: runs a kernel on its operands' device: the CPU code at once, the CUDA code by queueing
// it on the thread's current stream. Also names each call for profilers and errors (range.h), times it
// while profiling is on (profile.h), opens guarded memory for the kernel (host_guard.h), and computes
// nothing in a dry run (dry_run.h). Called once in each kernel's public function: layers never ask
// which device they are on. Test: ctest -R core_dispatch.
#pragma once

#include "core/device_profile.h"
#include "core/dry_run.h"
#include "core/host_guard.h"
#include "core/operand.h"
#include "core/profile.h"
#include "core/range.h"
#include "core/stream.h"

namespace minibert {

/// Of kernels that take no memory beside their operands.
inline KernelMemory no_memory() {
  return {};
}

/// `cost()` gives the call's Cost and is asked only while someone profiles; it may read operands.
/// `cpu()` or `cuda(stream)` runs; in a dry run neither, and `memory()`, which must not read operands,
/// gives what they would take: each Workspace, and thread_scratch().
template <typename CostOf, typename Cpu, typename Cuda, typename MemoryOf = KernelMemory()>
void dispatch(const char* op, Device device, const CostOf& cost, const Cpu& cpu, const Cuda& cuda,
              const MemoryOf& memory = no_memory) {
  if (DryRun::on()) return DryRun::kernel(memory(), device);
  const KernelAccess access;
  const OpRange named(op);
  const Cost cost_of_call = profiling() ? cost() : Cost{};
  if (device == Device::cpu) {
    const ProfileRange range(op, cost_of_call);
    cpu();
  } else {
    const DeviceProfileRange range(op, cost_of_call);
    cuda(current_stream());
  }
}

}  // namespace minibert
