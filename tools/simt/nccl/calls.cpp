// calls.cpp: collectives, sends and receives: checks, groups, and how they get into their streams.
// Checks are as strict as NCCL's documentation, and stricter where it leaves the outcome open:
// buffers are whole pieces of device memory, and overlap only where an operation is in place. A
// capture of a stream is refused, though NCCL can do it. Test: ctest -R simt_nccl.
#include <algorithm>
#include <cstring>
#include <optional>

#include "tools/simt/memory.h"
#include "tools/simt/nccl/communicator.h"
#include "tools/simt/nccl/exchange.h"

namespace simt {
namespace {

/// One call between ncclGroupStart and ncclGroupEnd.
struct Call {
  CommPtr comm;
  cudaStream_t stream = nullptr;
  const char* function = nullptr;
  std::optional<CollectiveCall> collective;  // or
  std::vector<Message> messages;
};

struct Group {
  int depth = 0;
  ncclResult_t error = ncclSuccess;  // the first
  std::vector<Call> calls;
};
thread_local Group t_group;

// ---- In the stream -------------------------------------------------------------------------------
/// An exchange as an operation of a stream: it has its turn, fails, or is aborted.
struct Flight {
  CommPtr comm;
  std::unique_ptr<Exchange> exchange;
  std::string function;
  uint64_t turn = 0;
  bool arrived = false;                // all is done, though the stream may not have passed it
  double moved_at = 0, looked_at = 0;  // seconds; 0: not yet

  bool advance() {
    bool moved = false, over = false;
    const ncclResult_t error = exchange->advance(moved, over);
    if (error != ncclSuccess) comm->error = error;
    if (over) ++comm->over;
    if (moved) moved_at = nccl_clock();
    return arrived = over;
  }

  bool try_peers() {
    if (arrived || comm->aborted) return true;
    if (comm->error != ncclSuccess || comm->over != turn) return false;
    const double now = nccl_clock();
    if (moved_at == 0) {
      moved_at = looked_at = now;
      comm->error = static_cast<ncclResult_t>(injected_error("async/" + function));
      if (comm->error != ncclSuccess) return false;
    }
    if (advance()) return true;
    if (comm->error != ncclSuccess || now - looked_at < 0.005) return false;
    looked_at = now;
    if (comm->room->lost_one([&](int rank) { return exchange->needs(rank); })) {
      if (advance()) return true;  // it had done its part
      if (comm->error == ncclSuccess) comm->error = ncclRemoteError;
    }
    if (comm->error == ncclSuccess && now - moved_at > runtime().nccl_timeout)
      comm->error = ncclInternalError;
    return false;
  }
};

/// On the virtual clock: 100 GB/s after the latency of a kernel.
double cost_ns(const Call& call) {
  size_t bytes = 0;
  for (const Message& m : call.messages) bytes += m.bytes;
  if (call.collective) bytes += call.collective->count * size_of(call.collective->type);
  return 10000 + static_cast<double>(bytes) / 100;
}

ncclResult_t queue(const Call& call) {
  CUstream_st* stream = resolve(call.stream);
  if (!stream) return ncclInvalidArgument;
  ncclComm& comm = *call.comm;
  const auto flight = std::make_shared<Flight>();
  flight->comm = call.comm;
  flight->function = call.function;
  flight->turn = comm.issued++;
  flight->exchange = call.collective
                         ? exchange_of(comm.room, comm.rank, comm.ranks, *call.collective)
                         : exchange_of(comm.room, comm.rank, call.messages);
  Work work{cudaGraphNodeTypeKernel, call.function, {}, cost_ns(call), {}};
  work.try_peers = [flight] { return flight->try_peers(); };
  return submit(*stream, std::move(work), &comm.last) == cudaSuccess ? ncclSuccess
                                                                     : ncclUnhandledCudaError;
}

/// The sends and receives of a group go on side by side: they are one operation.
std::vector<Call> merged(std::vector<Call> calls) {
  std::vector<Call> all;
  for (Call& call : calls) {
    const auto same = std::ranges::find_if(all, [&](const Call& other) {
      return !call.collective && !other.collective && other.comm == call.comm &&
             other.stream == call.stream;
    });
    if (same == all.end()) {
      all.push_back(std::move(call));
    } else {
      same->messages.insert(same->messages.end(), call.messages.begin(), call.messages.end());
    }
  }
  return all;
}

ncclResult_t end_group() {
  if (t_group.depth == 0) return ncclInvalidUsage;
  if (--t_group.depth > 0) return ncclSuccess;
  const Group group = std::exchange(t_group, {});
  if (group.error != ncclSuccess) return group.error;
  ncclResult_t result = ncclSuccess;
  for (const Call& call : merged(group.calls)) {
    if (!call.comm->blocking) {
      call.comm->launches.push_back([call] { return queue(call); });
      result = ncclInProgress;
    } else if (const ncclResult_t error = queue(call); error != ncclSuccess) {
      return error;
    }
  }
  return result;
}

// ---- Checks --------------------------------------------------------------------------------------
bool holds(const void* data, size_t count, ncclDataType_t type) {
  const size_t bytes = count * size_of(type);
  return bytes == 0 || (reinterpret_cast<uintptr_t>(data) % size_of(type) == 0 &&
                        residence_of(data, bytes) == Residence::device);
}

/// Whether two buffers are apart, or the smaller one is just that part of the larger one.
bool apart_or(const void* small, size_t small_bytes, const void* large, size_t large_bytes,
              size_t offset) {
  const auto* a = static_cast<const std::byte*>(small);
  const auto* b = static_cast<const std::byte*>(large);
  return a + small_bytes <= b || b + large_bytes <= a || a == b + offset;
}

bool valid_buffers(const ncclComm& comm, const CollectiveCall& c) {
  const size_t bytes = c.count * size_of(c.type), ranks = static_cast<size_t>(comm.ranks);
  const size_t mine = bytes * static_cast<size_t>(comm.rank);
  switch (c.kind) {
    case CollectiveKind::reduce_scatter:
      return holds(c.send, c.count * ranks, c.type) && holds(c.receive, c.count, c.type) &&
             apart_or(c.receive, bytes, c.send, bytes * ranks, mine);
    case CollectiveKind::all_gather:
      return holds(c.send, c.count, c.type) && holds(c.receive, c.count * ranks, c.type) &&
             apart_or(c.send, bytes, c.receive, bytes * ranks, mine);
    case CollectiveKind::broadcast:
      if (!holds(c.receive, c.count, c.type)) return false;
      if (comm.rank != c.root) return true;
      return holds(c.send, c.count, c.type) && apart_or(c.send, bytes, c.receive, bytes, 0);
    case CollectiveKind::reduce:
      if (comm.rank != c.root) return holds(c.send, c.count, c.type);
      [[fallthrough]];
    case CollectiveKind::all_reduce:
      return holds(c.send, c.count, c.type) && holds(c.receive, c.count, c.type) &&
             apart_or(c.send, bytes, c.receive, bytes, 0);
  }
  return false;
}

ncclResult_t check_stream(const ncclComm& comm, cudaStream_t handle) {
  const CUstream_st* stream = resolve(handle);
  if (!stream || stream->device != comm.device) return ncclInvalidArgument;
  return stream->capture ? ncclInvalidUsage : ncclSuccess;
}

ncclResult_t find_reduction(const ncclComm& comm, ncclRedOp_t op, CollectiveCall& call) {
  if (op >= 0 && op < ncclNumOps) {
    call.reduction.op = op;
    return ncclSuccess;
  }
  const auto found = comm.operators.find(op);
  if (found == comm.operators.end() || found->second.type != call.type) return ncclInvalidArgument;
  call.reduction = found->second.reduction;
  return ncclSuccess;
}

/// Into the group, of this call alone if there is none.
ncclResult_t add(const char* function, ncclComm_t handle, cudaStream_t stream,
                 const std::function<ncclResult_t(Call&)>& fill) {
  ++t_group.depth;
  const ncclResult_t result =
      enter_nccl(function, handle, true, [&](const CommPtr& comm) -> ncclResult_t {
        if (const ncclResult_t error = ready_for_calls(*comm); error != ncclSuccess) return error;
        if (comm->stage != ncclComm::Stage::ready) return ncclInvalidArgument;
        if (const ncclResult_t error = check_stream(*comm, stream); error != ncclSuccess)
          return error;
        Call call{comm, stream, function, {}, {}};
        const ncclResult_t error = fill(call);
        if (error == ncclSuccess) t_group.calls.push_back(std::move(call));
        return error;
      });
  if (t_group.error == ncclSuccess) t_group.error = result;
  std::lock_guard lock(runtime().mutex);
  const ncclResult_t ended = end_group();
  return result != ncclSuccess ? result : ended;
}

ncclResult_t collect(const char* function, ncclComm_t handle, cudaStream_t stream, ncclRedOp_t op,
                     CollectiveCall collective) {
  return add(function, handle, stream, [&](Call& call) {
    const ncclComm& comm = *call.comm;
    if (size_of(collective.type) == 0) return ncclInvalidArgument;
    if (collective.root < 0 || collective.root >= comm.ranks) return ncclInvalidArgument;
    const ncclResult_t error = find_reduction(comm, op, collective);
    if (error != ncclSuccess) return error;
    if (!valid_buffers(comm, collective)) return ncclInvalidArgument;
    call.collective = collective;
    return ncclSuccess;
  });
}

ncclResult_t send_or_receive(const char* function, bool sends, const void* data, size_t count,
                             ncclDataType_t type, int peer, ncclComm_t handle,
                             cudaStream_t stream) {
  return add(function, handle, stream, [&](Call& call) {
    if (size_of(type) == 0 || peer < 0 || peer >= call.comm->ranks || !holds(data, count, type))
      return ncclInvalidArgument;
    call.messages = {
        {sends, peer, static_cast<std::byte*>(const_cast<void*>(data)), count * size_of(type)}};
    return ncclSuccess;
  });
}

}  // namespace

bool in_group() {
  return t_group.depth > 0;
}

}  // namespace simt

using simt::CollectiveKind;
using simt::CommPtr;
using simt::enter_nccl;

ncclResult_t ncclGroupStart() {
  return enter_nccl(__func__, false, [] {
    ++simt::t_group.depth;
    return ncclSuccess;
  });
}

ncclResult_t ncclGroupEnd() {
  return enter_nccl(__func__, false, [] { return simt::end_group(); });
}

ncclResult_t ncclAllReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return simt::collect(__func__, comm, stream, op,
                       {CollectiveKind::all_reduce, send, receive, count, type, {}, 0});
}

ncclResult_t ncclReduce(const void* send, void* receive, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream) {
  return simt::collect(__func__, comm, stream, op,
                       {CollectiveKind::reduce, send, receive, count, type, {}, root});
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return simt::collect(__func__, comm, stream, op,
                       {CollectiveKind::reduce_scatter, send, receive, count, type, {}, 0});
}

ncclResult_t ncclAllGather(const void* send, void* receive, size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return simt::collect(__func__, comm, stream, ncclSum,
                       {CollectiveKind::all_gather, send, receive, count, type, {}, 0});
}

ncclResult_t ncclBroadcast(const void* send, void* receive, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return simt::collect(__func__, comm, stream, ncclSum,
                       {CollectiveKind::broadcast, send, receive, count, type, {}, root});
}

ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return simt::send_or_receive(__func__, true, data, count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return simt::send_or_receive(__func__, false, data, count, type, peer, comm, stream);
}

// The scalar is read now: one in device memory, to be read when it is used, is not imitated.
ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t type,
                                      ncclScalarResidence_t residence, ncclComm_t handle) {
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    if (!op || !scalar || simt::size_of(type) == 0) return ncclInvalidArgument;
    if (residence != ncclScalarHostImmediate) return ncclInvalidUsage;
    ncclComm::Operator made{{.op = ncclSum, .multiplies = true}, type};
    std::memcpy(made.reduction.factor, scalar, simt::size_of(type));
    const int number = ncclNumOps + comm->operators_so_far++;
    comm->operators[number] = made;
    *op = static_cast<ncclRedOp_t>(number);
    return ncclSuccess;
  });
}

ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t handle) {
  return enter_nccl(__func__, handle, false, [&](const CommPtr& comm) {
    return comm->operators.erase(op) > 0 ? ncclSuccess : ncclInvalidArgument;
  });
}
