// state.h: what the files of the stand-in runtime share: streams, operations, captures, one lock.
// call() is the door of every function of the API: it takes the lock, counts, injects errors, and
// applies the rules that all functions share (no device, dead device, capture). submit() puts work
// into a stream or into the graph that the stream is recording; queue.cpp runs it. Easy to break:
// handles are checked with resolve() and the sets below before they are followed, because using a
// destroyed stream must be an error and not a crash. Test: ctest -R simt_.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>

#include "tools/simt/control.h"

namespace simt {

/// Something the device or, for host functions, the host does in stream order.
struct Work {
  cudaGraphNodeType kind = cudaGraphNodeTypeEmpty;
  std::string what;
  std::function<void()> run;  // empty: nothing, as for events
  double cost_ns = 0;         // on the virtual clock
  LaunchShape shape;          // of kernels
  /// Of work that needs other processes: does what it can of it, and says whether it may run now. Asked
  /// often, also after it has said so.
  std::function<bool()> try_peers = {};
};

struct Operation;
using OperationPtr = std::shared_ptr<Operation>;

/// Work in a stream. Done means that it ran and that everything in `after` had run before.
struct Operation {
  Work work;
  std::vector<OperationPtr> after;
  uint64_t number = 0;     // in order of submission, so it is larger than those of `after`
  uint64_t stream_id = 0;  // for the log
  double earliest_ns = 0;  // what the host knew to be over when it submitted this
  double end_ns = 0;
  bool done = false;
};

struct Capture;

}  // namespace simt

struct CUgraphNode_st {
  simt::Work work;
  std::vector<size_t> after;  // indices of nodes of the same graph, all smaller than its own
  size_t index = 0;
};

struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;  // in order of capture: a topological order
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<CUgraphNode_st>> nodes;
  simt::OperationPtr last;  // launches of one executable graph run one after the other
};

struct CUstream_st {
  uint64_t id = 0;
  int device = 0;
  unsigned flags = cudaStreamDefault;  // a blocking stream unless cudaStreamNonBlocking
  int priority = 0;
  uint32_t urgency = 0;                    // under the random schedule (queue.cpp)
  std::deque<simt::OperationPtr> queue;    // what has not run
  simt::OperationPtr last;                 // the newest operation, run or not
  std::shared_ptr<simt::Capture> capture;  // while it records
  std::vector<size_t> frontier;            // nodes that its next node comes after
  bool is_null() const { return id == 0; }
  bool blocking() const { return !(flags & cudaStreamNonBlocking); }
};

struct CUevent_st {
  unsigned flags = cudaEventDefault;
  int device = 0;
  simt::OperationPtr recorded;             // null: never recorded, or recorded in a capture
  std::shared_ptr<simt::Capture> capture;  // where it was last recorded, if in a capture
  std::vector<size_t> frontier;
};

struct CUmemPoolHandle_st {
  int device = 0;
  bool is_default = false;
  uint64_t release_threshold = 0;
  uint64_t used = 0, used_high = 0;
};

namespace simt {

/// One recording, from cudaStreamBeginCapture to cudaStreamEndCapture.
struct Capture {
  unsigned long long id = 0;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  CUstream_st* origin = nullptr;
  std::unique_ptr<CUgraph_st> graph;
  std::set<CUstream_st*> streams;  // the origin and the streams that joined through events
  bool invalid = false;
};

struct PinnedRange {
  size_t bytes = 0;
  unsigned flags = 0;
  size_t mapped_bytes = 0;  // 0: cudaHostRegister, not ours to free
};

struct PooledAllocation {
  cudaMemPool_t pool = nullptr;
  size_t bytes = 0;
};

struct Failure {
  std::string function;
  int calls_left = 0;
  int code = 0;
};

/// A recursive mutex whose owner can let others in while it waits for another process.
class Lock {
 public:
  void lock();
  void unlock();
  /// Called by the owner, who must take for changed all that the mutex guards. Takes some microseconds.
  void let_others_in();

 private:
  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};
  int depth_ = 0;
};

struct Runtime {
  Lock mutex;  // guards everything here and in memory.cpp

  // ---- Settings
  Schedule schedule = Schedule::eager;
  std::mt19937_64 random{1};
  DeviceModel model;
  std::vector<Failure> failures;
  bool log_launches = false;      // on stderr
  bool records_launches = false;  // in `launches`, once a test has asked
  bool strict_memory = false;
  bool cublaslt_refuses = false;
  double nccl_timeout = 600;  // seconds

  // ---- Objects that exist
  std::vector<std::unique_ptr<CUstream_st>> null_streams;  // one a device
  std::map<std::thread::id, std::unique_ptr<CUstream_st>> thread_streams;
  std::set<CUstream_st*> streams;                     // that the program made
  std::vector<std::unique_ptr<CUstream_st>> zombies;  // destroyed with work still queued
  std::set<CUevent_st*> events;
  std::set<CUgraph_st*> graphs;
  std::set<CUgraphExec_st*> graph_execs;
  std::set<CUmemPoolHandle_st*> pools;
  std::vector<std::unique_ptr<CUmemPoolHandle_st>> default_pools;  // one a device
  std::vector<cudaMemPool_t> current_pools;                        // one a device
  std::map<void*, PooledAllocation> pooled;
  std::map<const std::byte*, PinnedRange> pinned;
  std::map<const void*, size_t> dynamic_shared;  // raised limits, by kernel
  std::set<std::shared_ptr<Capture>> captures;   // that are going on

  // ---- What happened
  cudaError_t sticky = cudaSuccess;  // once the device is dead
  std::string fault;                 // what killed it
  uint64_t operations = 0;
  uint64_t last_stream_id = 0;
  uint64_t last_capture_id = 0;
  double host_ns = 0;  // virtual time that the host has waited for
  std::vector<LaunchRecord> launches;
  std::map<std::string, uint64_t> calls;
  uint64_t pageable_async_copies = 0;

  std::vector<CUstream_st*> all_streams();
};

/// The one runtime of the process; the first call reads the environment.
Runtime& runtime();

// ---- call.cpp: the door --------------------------------------------------------------------------
enum Rules : unsigned {
  kPlain = 0,
  kUnsafeInCapture = 1,  // refused while this thread, or another in global mode, is capturing
  kWithoutDevice = 2,    // works without a device and on a dead one
};
cudaError_t call(const char* function, unsigned rules, const std::function<cudaError_t()>& body);
/// The error to inject into this call, or 0.
int injected_error(const std::string& function);
/// Kills the device: reports the fault on stderr; every later call returns its code.
cudaError_t die(const std::string& what, const std::string& message, int code);
int& current_device();
/// True while a function given to cudaLaunchHostFunc runs: it may not call the runtime.
bool& in_host_function();

// ---- queue.cpp: streams as queues ----------------------------------------------------------------
/// The stream behind a handle, or null if there is none.
CUstream_st* resolve(cudaStream_t handle);
/// Into the stream's queue, or into the graph that it records. `queued` gets the operation, or null
/// if it was recorded; `after` are operations to wait for besides the stream's own.
cudaError_t submit(CUstream_st& stream, Work work, OperationPtr* queued = nullptr,
                   const std::vector<OperationPtr>& after = {});
cudaError_t enqueue_work(cudaStream_t stream, Work work);
uint32_t random_urgency();
/// Runs work, now: opens memory, logs, injects, catches.
void execute(const Work& work, uint64_t stream_id);
/// Runs at least what these wait for. Each tells the virtual clock that the host waited. Meanwhile
/// other threads may come in, if the work is up to another process.
void wait_for(OperationPtr operation);
void wait_for_stream(CUstream_st& stream);
void wait_for_device(int device);
/// Lets one operation run that this one needs, for hosts that poll. Whether it was done before.
bool poll(const OperationPtr& operation);

// ---- capture.cpp ---------------------------------------------------------------------------------
/// Whether a call that is unsafe in a capture must be refused now; invalidates the captures if so.
bool capture_forbids_unsafe_call();
void invalidate(Capture& capture);
/// Records a node at the end of a capturing stream.
cudaError_t record_node(CUstream_st& stream, Work work);
/// cudaStreamWaitEvent where stream or event belongs to a capture.
cudaError_t wait_in_capture(CUstream_st& stream, CUevent_st& event);

// ---- allocation.cpp ------------------------------------------------------------------------------
enum class Residence { device, pinned, pageable, invalid };
/// Where these bytes lie; invalid if they leave a device allocation or touch a freed one.
Residence residence_of(const void* address, size_t bytes);
void forget_pooled(void* pointer);  // pool.cpp
void free_all_device_memory();      // memory.cpp; canaries no longer matter
void free_everything();

}  // namespace simt
