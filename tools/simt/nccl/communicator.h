// communicator.h: what is behind an ncclComm_t, and the doors of the stand-in's functions. Everything
// is guarded by the runtime's lock, which whoever waits for another rank lets go. A communicator
// that is not blocking makes its caller poll, as on a GPU: what a call began is queued at the next
// ncclCommGetAsyncError, so an event that is recorded before comes too early. After an error
// operations stay where they are until ncclCommAbort. Easy to break: operations outlive the handle,
// so they hold the communicator. Test: ctest -R simt_nccl.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include <nccl.h>

#include "tools/simt/nccl/reduce.h"
#include "tools/simt/nccl/room.h"
#include "tools/simt/runtime/state.h"

struct ncclComm {
  enum class Stage { joining, ready, finalizing, finalized };

  int rank = 0, ranks = 1, device = 0;
  bool blocking = true;
  std::shared_ptr<simt::Room> room;
  Stage stage = Stage::joining;
  double joining_since = 0;
  bool aborted = false;
  ncclResult_t error = ncclSuccess;                     // for ncclCommGetAsyncError
  std::vector<std::function<ncclResult_t()>> launches;  // that it will make
  struct Operator {
    simt::Reduction reduction;
    ncclDataType_t type;
  };
  std::map<int, Operator> operators;  // of ncclRedOpCreatePreMulSum
  int operators_so_far = 0;
  uint64_t issued = 0, over = 0;  // operations: they run in the order of the calls
  simt::OperationPtr last;        // the newest one
};

namespace simt {

using CommPtr = std::shared_ptr<ncclComm>;

/// Under the lock: counts the call, injects errors. `needs_device`: refuses without a living one.
ncclResult_t enter_nccl(const char* function, bool needs_device,
                        const std::function<ncclResult_t()>& body);
/// The same, for a communicator that exists.
ncclResult_t enter_nccl(const char* function, ncclComm_t handle, bool needs_device,
                        const std::function<ncclResult_t(const CommPtr&)>& body);

/// Null if there is none.
CommPtr find_communicator(ncclComm_t handle);
/// Whether something new may begin; else why not.
ncclResult_t ready_for_calls(const ncclComm& comm);
/// Whether this thread has begun a group (calls.cpp).
bool in_group();

double nccl_clock();  // seconds

}  // namespace simt
