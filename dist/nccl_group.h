// nccl_group.h: a process group over NCCL, for ranks that compute on GPUs: collectives on memory of
// device cuda, on a stream of the group's own. That stream waits for the caller's when a collective
// is called, and the caller's for it at Handle::wait(), so the host waits for nothing, and a
// collective runs beside what the caller computes meanwhile. A thread watches what is under way: an
// error of NCCL, or no end within the time-out, aborts the communicator, which ends what is queued;
// then every handle, and check(), has the error. The result of a failed collective is undefined, and so
// is what was computed from it: call check() before the host relies on it. Without NCCL,
// nccl_group_absent.cpp answers; under tools/simt its stand-in does.
//
// Blocks are NCCL's where they are equal. Else (the number of ranks doesn't divide the elements)
// reduce_scatter is an all_reduce, with twice the bytes, and all_gather a broadcast from each rank,
// in one group: nothing is padded or copied. Buckets of gradients have equal blocks but for the last.
//
// With `ring`, collectives are dist/ring.h's, line for line as on CPUs, over NCCL's sends and
// receives: one group of them a step, on the same stream, and a kernel that adds. It is there to be
// read, and measured beside NCCL's own. Sums of f64 and i64, a few numbers a step, stay NCCL's.
//
// NCCL finds its own way between the ranks: NCCL_SOCKET_IFNAME says which interface it may use, and
// NCCL_DEBUG=WARN what it found wrong.
// Easy to break: NCCL's calls return before they are done (the communicator is not blocking), so
// each is followed to its end before the stream is used again; and no call may meet an abort.
// Test: ctest --preset simt -R dist_nccl_group.
#pragma once

#include <functional>
#include <memory>

#include "dist/process_group.h"
#include "dist/store.h"
#include "dist/transport.h"

namespace minibert {

struct NcclOptions {
  int rank = 0, world = 1;
  double timeout = 60;  // seconds that a collective may take, once the caller's stream got to it
  Blame blame = nullptr;
  bool ring = false;
  /// For tests of a ring: wraps the transport that its messages go through.
  std::function<std::unique_ptr<Transport>(std::unique_ptr<Transport>)> wrap = nullptr;
};

/// On the device of this process (cuda_use_device). Connects to all other ranks, by way of `store`,
/// which it no longer needs when it returns.
/// Errors: CommError if another rank can't be reached within the time-out; UsageError if the build has
/// no NCCL.
std::unique_ptr<ProcessGroup> nccl_group(Store& store, const NcclOptions& options);
/// Whether this build has NCCL.
bool nccl_available();

}  // namespace minibert
