// communicator.cpp: making communicators, asking how they are, ending them.
#include "tools/simt/nccl/communicator.h"

#include <chrono>
#include <cstring>

namespace simt {
namespace {

std::map<ncclComm_t, CommPtr>& communicators() {
  static auto* instance = new std::map<ncclComm_t, CommPtr>;
  return *instance;
}

ncclResult_t admit(const char* function, bool needs_device) {
  const Runtime& r = runtime();
  if (in_host_function()) return ncclInvalidUsage;
  if (const int injected = injected_error(function)) return static_cast<ncclResult_t>(injected);
  const bool dead = r.model.devices == 0 || r.sticky != cudaSuccess;
  return needs_device && dead ? ncclUnhandledCudaError : ncclSuccess;
}

bool valid(const ncclConfig_t& config) {
  const bool blocking =
      config.blocking == NCCL_CONFIG_UNDEF_INT || config.blocking == 0 || config.blocking == 1;
  return config.size == sizeof config && config.magic == 0xcafebeef && blocking;
}

/// One look at whether all ranks have come.
void try_to_join(ncclComm& comm) {
  if (comm.room->complete()) {
    comm.stage = ncclComm::Stage::ready;
  } else if (comm.room->lost_one([](int) { return true; })) {
    comm.error = ncclRemoteError;
  } else if (nccl_clock() - comm.joining_since > runtime().nccl_timeout) {
    comm.error = ncclInternalError;
  }
}

/// One look at whether all that was queued is over, which this lets go on.
void try_to_finalize(ncclComm& comm) {
  if (!poll(comm.last)) return;
  comm.stage = ncclComm::Stage::finalized;
  comm.room->seat(comm.rank).presence = Presence::finalized;
}

ncclResult_t state_of(ncclComm& comm) {
  using Stage = ncclComm::Stage;
  if (comm.error == ncclSuccess && comm.stage == Stage::joining) try_to_join(comm);
  for (const auto& launch : std::exchange(comm.launches, {})) {
    if (comm.error != ncclSuccess) break;
    const ncclResult_t launched =
        launch();  // under the eager schedule it has run, and may have failed
    if (comm.error == ncclSuccess) comm.error = launched;
  }
  if (comm.error == ncclSuccess && comm.stage == Stage::finalizing) try_to_finalize(comm);
  if (comm.error != ncclSuccess) return comm.error;
  const bool busy = comm.stage == Stage::joining || comm.stage == Stage::finalizing;
  return busy ? ncclInProgress : ncclSuccess;
}

/// Until nothing is in progress: for calls that block.
ncclResult_t wait_for_state(ncclComm& comm) {
  ncclResult_t state = state_of(comm);
  while (state == ncclInProgress) {
    runtime().mutex.let_others_in();
    state = state_of(comm);
  }
  return state;
}

ncclResult_t finalize(ncclComm& comm) {
  if (const ncclResult_t ready = ready_for_calls(comm); ready != ncclSuccess) return ready;
  if (comm.stage != ncclComm::Stage::ready) return ncclInvalidArgument;  // a second time
  comm.stage = ncclComm::Stage::finalizing;
  return comm.blocking ? wait_for_state(comm) : ncclInProgress;
}

void forget(ncclComm_t handle, ncclComm& comm) {
  communicators().erase(handle);
  comm.launches.clear();
}

}  // namespace

double nccl_clock() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

CommPtr find_communicator(ncclComm_t handle) {
  const auto found = communicators().find(handle);
  return found == communicators().end() ? nullptr : found->second;
}

ncclResult_t enter_nccl(const char* function, bool needs_device,
                        const std::function<ncclResult_t()>& body) {
  std::lock_guard lock(runtime().mutex);
  ++runtime().calls[function];
  const ncclResult_t refused = admit(function, needs_device);
  return refused == ncclSuccess ? body() : refused;
}

ncclResult_t enter_nccl(const char* function, ncclComm_t handle, bool needs_device,
                        const std::function<ncclResult_t(const CommPtr&)>& body) {
  return enter_nccl(function, needs_device, [&] {
    const CommPtr comm = find_communicator(handle);
    return comm ? body(comm) : ncclInvalidArgument;
  });
}

ncclResult_t ready_for_calls(const ncclComm& comm) {
  if (comm.error != ncclSuccess) return comm.error;
  const bool busy = comm.stage == ncclComm::Stage::joining || !comm.launches.empty();
  return busy ? ncclInvalidArgument : ncclSuccess;
}

}  // namespace simt

using simt::CommPtr;
using simt::enter_nccl;

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  return enter_nccl(__func__, false, [&] {
    if (!id) return ncclInvalidArgument;
    return simt::Room::create(id) ? ncclSuccess : ncclSystemError;
  });
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  return enter_nccl(__func__, true, [&] {
    if (!comm || ranks < 1 || ranks > simt::kMostRanks || rank < 0 || rank >= ranks)
      return ncclInvalidArgument;
    if (config && !simt::valid(*config)) return ncclInvalidArgument;
    if (simt::in_group()) return ncclInvalidUsage;  // several ranks of one thread: not imitated
    *comm = nullptr;
    const auto made = std::make_shared<ncclComm>();
    made->rank = rank;
    made->ranks = ranks;
    made->device = simt::current_device();
    made->blocking = !config || config->blocking != 0;
    made->joining_since = simt::nccl_clock();
    made->room = std::make_shared<simt::Room>(id, rank, ranks);
    if (made->room->error() != ncclSuccess) return made->room->error();
    simt::communicators()[made.get()] = made;
    *comm = made.get();
    return made->blocking ? simt::wait_for_state(*made) : ncclInProgress;
  });
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  return ncclCommInitRankConfig(comm, ranks, id, rank, nullptr);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t* state) {
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    if (!state) return ncclInvalidArgument;
    *state = simt::state_of(*comm);
    return ncclSuccess;
  });
}

ncclResult_t ncclCommFinalize(ncclComm_t handle) {
  return enter_nccl(__func__, handle, false,
                    [](const CommPtr& comm) { return simt::finalize(*comm); });
}

ncclResult_t ncclCommDestroy(ncclComm_t handle) {
  if (!handle) return ncclSuccess;
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    if (comm->stage == ncclComm::Stage::ready) simt::finalize(*comm);
    if (comm->stage == ncclComm::Stage::finalizing) simt::wait_for_state(*comm);
    simt::forget(handle, *comm);
    return ncclSuccess;
  });
}

ncclResult_t ncclCommAbort(ncclComm_t handle) {
  if (!handle) return ncclSuccess;
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    comm->aborted = true;
    comm->room->seat(comm->rank).presence = simt::Presence::aborted;
    simt::forget(handle, *comm);
    return ncclSuccess;
  });
}

ncclResult_t ncclCommCount(const ncclComm_t handle, int* count) {
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    if (!count) return ncclInvalidArgument;
    *count = comm->ranks;
    return ncclSuccess;
  });
}

ncclResult_t ncclCommCuDevice(const ncclComm_t handle, int* device) {
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    if (!device) return ncclInvalidArgument;
    *device = comm->device;
    return ncclSuccess;
  });
}

ncclResult_t ncclCommUserRank(const ncclComm_t handle, int* rank) {
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    if (!rank) return ncclInvalidArgument;
    *rank = comm->rank;
    return ncclSuccess;
  });
}

ncclResult_t ncclGetVersion(int* version) {
  if (!version) return ncclInvalidArgument;
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t code) {
  switch (code) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case ncclSystemError:
      return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case ncclInternalError:
      return "internal error - please report this issue to the NCCL developers";
    case ncclInvalidArgument:
      return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case ncclInvalidUsage:
      return "invalid usage (run with NCCL_DEBUG=WARN for details)";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "unknown result code";
  }
}

const char* ncclGetLastError(ncclComm_t) {
  return "";
}
