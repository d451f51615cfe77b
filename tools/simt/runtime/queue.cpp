// queue.cpp: streams as queues of operations, and when these run.
// An operation comes after the one before it in its stream, after the events its stream was told to
// wait for, and, between the null stream and blocking streams, after what CUDA's legacy rules say. A
// collective (tools/simt/nccl) also comes after what other processes do, under every schedule.
// Whatever else order a program relies on is its bug, and lazy and random schedules show it.
#include "tools/simt/queue.h"

#include <algorithm>
#include <cstdio>
#include <unordered_set>

#include "tools/simt/memory.h"
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

void log_launch(const Work& work, uint64_t stream_id) {
  Runtime& r = runtime();
  if (r.records_launches) r.launches.push_back({work.what, work.shape, stream_id});
  if (!r.log_launches) return;
  const LaunchShape& s = work.shape;
  std::fprintf(stderr, "simt: stream %llu: %s <<<(%u, %u, %u), (%u, %u, %u), %zu>>>\n",
               static_cast<unsigned long long>(stream_id), work.what.c_str(), s.grid[0], s.grid[1],
               s.grid[2], s.block[0], s.block[1], s.block[2], s.shared_bytes);
}

void call_host_function(const Work& work) {
  struct Scope {
    Scope() { in_host_function() = true; }
    ~Scope() { in_host_function() = false; }
  } scope;
  work.run();
}

void run(const OperationPtr& operation) {
  Operation& o = *operation;
  o.end_ns = o.earliest_ns;
  for (const OperationPtr& before : o.after) o.end_ns = std::max(o.end_ns, before->end_ns);
  o.end_ns += o.work.cost_ns;
  execute(o.work, o.stream_id);
  o.done = true;
  o.work.run = nullptr;
  o.after.clear();  // else every operation would keep all before it alive
}

void run_front(CUstream_st& stream) {
  const OperationPtr operation = stream.queue.front();
  run(operation);
  stream.queue.pop_front();
}

/// Whether other processes have done their part in it. A dead device waits for nobody.
bool peers_ready(const Work& work) {
  if (!work.try_peers || runtime().sticky != cudaSuccess) return true;
  try {
    const DeviceAccess access;
    return work.try_peers();
  } catch (const DeviceFault& fault) {
    die(work.what, fault.what(), fault.code());
  }
  return true;
}

bool ready(const Operation& operation) {
  return std::all_of(operation.after.begin(), operation.after.end(),
                     [](const OperationPtr& before) { return before->done; }) &&
         peers_ready(operation.work);
}

void forget_finished_streams() {
  std::erase_if(runtime().zombies, [](const auto& stream) { return stream->queue.empty(); });
}

// Streams of at least this urgency, half of them, may run at any submission under the random
// schedule; the others run only when something waits.
constexpr uint32_t kUrgent = 0x80000000u;

uint64_t pick(uint64_t count) {
  return runtime().random() % count;
}

/// Runs some operations of the most urgent stream that has one ready, of those at least this urgent.
/// Whether any ran. Urgencies are random and seldom change: an early producer whose stream happens
/// to be lazy is overtaken by any consumer, however late, that doesn't wait for it.
bool run_burst(uint32_t least_urgency) {
  CUstream_st* stream = nullptr;
  for (CUstream_st* other : runtime().all_streams()) {
    const bool able = !other->queue.empty() && ready(*other->queue.front());
    if (able && other->urgency >= least_urgency && (!stream || other->urgency > stream->urgency))
      stream = other;
  }
  if (!stream) return false;
  for (uint64_t left = 1 + pick(4); left > 0; --left)
    if (!stream->queue.empty() && ready(*stream->queue.front())) run_front(*stream);
  if (pick(8) == 0) stream->urgency = random_urgency();
  return true;
}

/// What has to run for this operation, itself last, in order of submission.
std::vector<OperationPtr> chain_of(const OperationPtr& operation) {
  std::vector<OperationPtr> chain, open{operation};
  std::unordered_set<const Operation*> seen;
  while (!open.empty()) {
    const OperationPtr next = open.back();
    open.pop_back();
    if (next->done || !seen.insert(next.get()).second) continue;
    chain.push_back(next);
    open.insert(open.end(), next->after.begin(), next->after.end());
  }
  std::sort(chain.begin(), chain.end(),
            [](const auto& a, const auto& b) { return a->number < b->number; });
  return chain;
}

void drop_done() {
  for (CUstream_st* stream : runtime().all_streams())
    while (!stream->queue.empty() && stream->queue.front()->done) stream->queue.pop_front();
  forget_finished_streams();
}

/// Runs this operation and what it needs, but for what other processes are not ready for. Whether any
/// ran.
bool run_towards(const OperationPtr& operation) {
  bool any = false;
  for (const OperationPtr& next : chain_of(operation)) {
    if (!ready(*next)) continue;
    run(next);
    any = true;
  }
  drop_done();
  return any;
}

void run_until(const OperationPtr& operation) {
  const bool random = runtime().schedule == Schedule::random;
  while (!operation->done)
    if (!(random ? run_burst(0) : run_towards(operation))) runtime().mutex.let_others_in();
  drop_done();
}

/// Operations that the legacy rules put before a new one in this stream: the null stream waits for
/// every blocking stream of its device, and each of these for the null stream.
void add_legacy_order(const CUstream_st& stream, std::vector<OperationPtr>& after) {
  if (!stream.blocking()) return;
  for (CUstream_st* other : runtime().all_streams()) {
    const bool ordered = other->device == stream.device && other->blocking() &&
                         (stream.is_null() || other->is_null());
    if (ordered && other != &stream && other->last && !other->last->done)
      after.push_back(other->last);
  }
}

/// The null stream can't be used while a stream that it would wait for is capturing.
bool implicit_dependency_on_capture(const CUstream_st& stream) {
  bool found = false;
  if (!stream.is_null()) return false;
  for (const auto& capture : runtime().captures) {
    for (const CUstream_st* member : capture->streams) {
      if (!member->blocking() || member->device != stream.device) continue;
      invalidate(*capture);
      found = true;
    }
  }
  return found;
}

cudaError_t check_shape(const LaunchShape& s) {
  const uint64_t threads = uint64_t{s.block[0]} * s.block[1] * s.block[2];
  const bool grid_fits = s.grid[0] >= 1 && s.grid[0] <= 0x7fffffffu && s.grid[1] >= 1 &&
                         s.grid[1] <= 65535 && s.grid[2] >= 1 && s.grid[2] <= 65535;
  if (!grid_fits || threads < 1 || threads > 1024 || s.block[2] > 64)
    return cudaErrorInvalidConfiguration;
  return s.shared_bytes > dynamic_shared_limit(s.function) ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace

std::vector<CUstream_st*> Runtime::all_streams() {
  std::vector<CUstream_st*> all;
  for (const auto& stream : null_streams) all.push_back(stream.get());
  for (const auto& [thread, stream] : thread_streams) all.push_back(stream.get());
  all.insert(all.end(), streams.begin(), streams.end());
  for (const auto& stream : zombies) all.push_back(stream.get());
  // By id, not by address, so that one seed gives one order in every run.
  std::sort(all.begin(), all.end(), [](const CUstream_st* a, const CUstream_st* b) {
    return std::pair(a->id, a->device) < std::pair(b->id, b->device);
  });
  return all;
}

uint32_t random_urgency() {
  return static_cast<uint32_t>(runtime().random());
}

CUstream_st* resolve(cudaStream_t handle) {
  Runtime& r = runtime();
  const int device = current_device();
  if (handle == nullptr || handle == cudaStreamLegacy) {
    while (static_cast<int>(r.null_streams.size()) <= device) {
      r.null_streams.push_back(std::make_unique<CUstream_st>());
      r.null_streams.back()->urgency = random_urgency();
      r.null_streams.back()->device = static_cast<int>(r.null_streams.size()) - 1;
    }
    return r.null_streams[device].get();
  }
  if (handle == cudaStreamPerThread) {
    auto& stream = r.thread_streams[std::this_thread::get_id()];
    if (!stream) {
      stream = std::make_unique<CUstream_st>();
      stream->id = ++r.last_stream_id;
      stream->device = device;
      stream->urgency = random_urgency();
    }
    return stream.get();
  }
  return r.streams.count(handle) ? handle : nullptr;
}

void execute(const Work& work, uint64_t stream_id) {
  Runtime& r = runtime();
  if (r.sticky != cudaSuccess) return;  // a dead device does nothing more
  if (const int code = injected_error("device/" + work.what)) {
    die(work.what, "fails as told by fail_call or SIMT_FAIL", code);
    return;
  }
  if (work.kind == cudaGraphNodeTypeKernel) log_launch(work, stream_id);
  if (!work.run) return;
  try {
    if (work.kind == cudaGraphNodeTypeHost) {
      call_host_function(work);
    } else if (work.kind == cudaGraphNodeTypeGraph) {
      work.run();  // executes its nodes, each by its own kind
    } else {
      const DeviceAccess access;
      work.run();
    }
  } catch (const DeviceFault& fault) {
    die(work.what, fault.what(), fault.code());
  } catch (const std::exception& error) {
    die(work.what, error.what(), cudaErrorLaunchFailure);
  }
}

cudaError_t submit(CUstream_st& stream, Work work, OperationPtr* queued,
                   const std::vector<OperationPtr>& after) {
  if (stream.capture) return record_node(stream, std::move(work));
  if (implicit_dependency_on_capture(stream)) return cudaErrorStreamCaptureImplicit;
  Runtime& r = runtime();
  auto operation = std::make_shared<Operation>();
  operation->work = std::move(work);
  operation->number = ++r.operations;
  operation->stream_id = stream.id;
  operation->earliest_ns = r.host_ns;
  if (stream.last) operation->after.push_back(stream.last);
  operation->after.insert(operation->after.end(), after.begin(), after.end());
  add_legacy_order(stream, operation->after);
  stream.last = operation;
  stream.queue.push_back(operation);
  if (queued) *queued = operation;
  if (r.schedule == Schedule::eager) run_towards(operation);
  if (r.schedule == Schedule::random && pick(2) == 0) {
    run_burst(kUrgent);
    drop_done();
  }
  // What ran at once and failed is reported by the next call, as on a device.
  return cudaSuccess;
}

cudaError_t enqueue_work(cudaStream_t handle, Work work) {
  return call("cudaLaunchKernel", kPlain, [&] {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    const cudaError_t fits = check_shape(work.shape);
    return fits != cudaSuccess ? fits : submit(*stream, std::move(work));
  });
}

void enqueue(void* cuda_stream, std::string what, std::function<void()> work) {
  enqueue(cuda_stream, std::move(what), LaunchShape{}, std::move(work));
}

void enqueue(void* cuda_stream, std::string what, const LaunchShape& shape,
             std::function<void()> work) {
  constexpr double kKernelCost = 5000;  // ns on the virtual clock
  enqueue_work(static_cast<cudaStream_t>(cuda_stream),
               {cudaGraphNodeTypeKernel, std::move(what), std::move(work), kKernelCost, shape});
}

void wait_for(OperationPtr operation) {
  if (!operation) return;
  if (!operation->done) run_until(operation);
  runtime().host_ns = std::max(runtime().host_ns, operation->end_ns);
}

void wait_for_stream(CUstream_st& stream) {
  wait_for(stream.last);
}

void wait_for_device(int device) {
  std::vector<OperationPtr> all;
  for (CUstream_st* stream : runtime().all_streams())
    if (stream->device == device && !stream->queue.empty()) all.push_back(stream->last);
  for (const OperationPtr& last : all) wait_for(last);
}

bool poll(const OperationPtr& operation) {
  if (!operation || operation->done) return true;
  const std::vector<OperationPtr> chain = chain_of(operation);
  const auto next = std::ranges::find_if(chain, [](const OperationPtr& o) { return ready(*o); });
  if (next != chain.end()) run(*next);
  drop_done();
  return false;
}

size_t pending_operations() {
  std::lock_guard lock(runtime().mutex);
  size_t count = 0;
  for (const CUstream_st* stream : runtime().all_streams()) count += stream->queue.size();
  return count;
}

}  // namespace simt
