// control.h: the knobs and gauges of the stand-in CUDA runtime, cuBLASLt and NCCL, for tests.
// Each knob is also an environment variable, read at the first call of the runtime, so that a
// whole program can run under it (runtime/README.md lists them). Easy to break: change the device
// or the schedule only while nothing is queued, best right after cudaDeviceReset().
// Test: ctest -R simt_runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tools/simt/queue.h"

namespace simt {

// ---- When queued work runs ---------------------------------------------------------------------
enum class Schedule {
  eager,   // at the call: how a debugger wants it
  lazy,    // when something waits for it, and no earlier: finds a missing synchronise
  random,  // any order that streams and events allow: finds a missing wait between streams
};
void set_schedule(Schedule schedule, uint64_t seed = 1);

// ---- The device --------------------------------------------------------------------------------
struct DeviceModel {
  std::string name = "Emulated sm_80";
  int major = 8, minor = 0;
  int multiprocessors = 108;
  size_t memory_bytes = size_t{8} << 30;  // more than this is "out of memory"
  int devices = 1;                        // 0: cudaErrorNoDevice
};
/// Capability 80 or 90; the other fields as above.
DeviceModel device_model(int capability);
void set_device_model(const DeviceModel& model);

// ---- Errors at will ----------------------------------------------------------------------------
/// The nth call from now (from 1) of this function of the runtime or of cuBLASLt does nothing and
/// returns `code`, or, for 0, the error that is usual for it: out of memory for allocations. With
/// "device/NAME", the nth run of an operation of that name (a kernel, "memcpy", "memset",
/// "cublasLtMatmul") fails on the device, which is reported by whatever next waits for it. With
/// "async/NAME", the nth run of a collective fails as if another rank were lost.
void fail_call(const std::string& function, int nth, int code = 0);
/// Forgets every pending fail_call.
void clear_failures();

/// Seconds that a collective may stand still before NCCL takes it for failed: 600, if nobody says so.
void set_nccl_timeout(double seconds);

/// cuBLASLt refuses every product (heuristics find nothing): callers must have something else.
void set_cublaslt_refuses(bool refuses);

// ---- What happened -----------------------------------------------------------------------------
struct LaunchRecord {
  std::string name;
  LaunchShape shape;
  uint64_t stream = 0;  // cudaStreamGetId of the stream it ran in; 0 is the null stream
};
/// Every kernel (and cuBLASLt product) that ran since the last clear_launches(), in that order.
/// Before the first one nothing is recorded, so that a long run does not fill memory.
std::vector<LaunchRecord> launches();
void clear_launches();
/// Calls of a function of the runtime or of cuBLASLt since the start, failed ones included.
uint64_t calls_of(const std::string& function);
/// Asynchronous copies that named pageable memory and so did not overlap with anything.
uint64_t pageable_async_copies();
/// What killed the device, "kernel: message"; empty while it lives.
std::string last_fault();
/// Operations that are queued and have not run.
size_t pending_operations();

}  // namespace simt
