// call.cpp: what every function of the API does before and after its own work.
#include <chrono>
#include <cstdio>
#include <utility>

#include "tools/simt/memory.h"
#include "tools/simt/runtime/state.h"

namespace simt {
namespace {

thread_local cudaError_t t_last_error = cudaSuccess;
thread_local int t_device = 0;
thread_local bool t_in_host_function = false;

// The error of a function that fails without a better reason: a cudaError_t, a cublasStatus_t
// (not initialised, not supported, execution failed, internal error), or an ncclResult_t.
int usual_error(const std::string& function) {
  if (function == "cublasLtCreate") return 1;
  if (function == "cublasLtMatmulAlgoGetHeuristic") return 15;
  if (function == "cublasLtMatmul") return 13;
  if (function.rfind("cublasLt", 0) == 0) return 14;
  if (function.rfind("async/", 0) == 0) return 6;    // ncclRemoteError
  if (function.rfind("ncclComm", 0) == 0) return 2;  // ncclSystemError
  if (function.rfind("nccl", 0) == 0) return 3;      // ncclInternalError
  const bool allocates =
      function.find("Malloc") != std::string::npos || function == "cudaHostAlloc";
  if (allocates) return cudaErrorMemoryAllocation;
  return function.rfind("device/", 0) == 0 ? cudaErrorLaunchFailure : cudaErrorUnknown;
}

cudaError_t admit(const std::string& function, unsigned rules) {
  const Runtime& r = runtime();
  if (in_host_function()) return cudaErrorNotPermitted;
  if (const int injected = injected_error(function)) return static_cast<cudaError_t>(injected);
  if (rules & kWithoutDevice) return cudaSuccess;
  if (r.model.devices == 0) return cudaErrorNoDevice;
  if (r.sticky != cudaSuccess) return r.sticky;
  if ((rules & kUnsafeInCapture) && capture_forbids_unsafe_call())
    return cudaErrorStreamCaptureUnsupported;
  return cudaSuccess;
}

}  // namespace

void Lock::lock() {
  if (owner_ != std::this_thread::get_id()) {
    mutex_.lock();
    owner_ = std::this_thread::get_id();
  }
  ++depth_;
}

void Lock::unlock() {
  if (--depth_ > 0) return;
  owner_ = std::thread::id();
  mutex_.unlock();
}

void Lock::let_others_in() {
  const int depth = std::exchange(depth_, 0);
  owner_ = std::thread::id();
  mutex_.unlock();
  std::this_thread::sleep_for(std::chrono::microseconds(50));
  mutex_.lock();
  owner_ = std::this_thread::get_id();
  depth_ = depth;
}

int& current_device() {
  return t_device;
}

bool& in_host_function() {
  return t_in_host_function;
}

int injected_error(const std::string& function) {
  std::lock_guard lock(runtime().mutex);
  auto& failures = runtime().failures;
  int code = 0;
  for (auto failure = failures.begin(); failure != failures.end();) {
    if (failure->function != function || --failure->calls_left > 0) {
      ++failure;
      continue;
    }
    code = failure->code ? failure->code : usual_error(function);
    failure = failures.erase(failure);
  }
  return code;
}

cudaError_t die(const std::string& what, const std::string& message, int code) {
  std::fprintf(stderr, "simt: %s: %s\n", what.c_str(), message.c_str());
  Runtime& r = runtime();
  if (r.sticky == cudaSuccess) {
    r.sticky = static_cast<cudaError_t>(code);
    r.fault = what + ": " + message;
  }
  return r.sticky;
}

std::string last_fault() {
  std::lock_guard lock(runtime().mutex);
  return runtime().fault;
}

cudaError_t call(const char* function, unsigned rules, const std::function<cudaError_t()>& body) {
  std::lock_guard lock(runtime().mutex);
  ++runtime().calls[function];
  cudaError_t result = admit(function, rules);
  if (result == cudaSuccess) {
    try {
      result = body();
    } catch (const DeviceFault& fault) {
      result = die(function, fault.what(), fault.code());
    }
  }
  if (result != cudaSuccess) t_last_error = result;
  return result;
}

}  // namespace simt

// The last error is the calling thread's; a dead device's error can't be cleared.
cudaError_t cudaPeekAtLastError() {
  std::lock_guard lock(simt::runtime().mutex);
  const cudaError_t sticky = simt::runtime().sticky;
  return sticky != cudaSuccess ? sticky : simt::t_last_error;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  simt::t_last_error = cudaSuccess;
  return error;
}
