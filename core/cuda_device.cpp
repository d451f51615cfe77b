// cuda_device.cpp: the entry points of core/device.h over the CUDA runtime. Under emulation the
// runtime is tools/simt/runtime, and there is a device unless SIMT_DEVICES=0. Easy to break: without
// a driver cudaGetDeviceCount leaves the count as it was. Test: ctest -R core_device.
#include <atomic>

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include "core/cuda_error.h"
#include "core/device.h"
#include "core/device_marks.h"
#include "core/dry_run.h"
#include "core/error.h"

namespace minibert {
namespace {

std::atomic<int> g_device = 0;  // this process's

/// CUDA keeps one for each thread, 0 at first. Asked before anything is made on a device.
void enter_device() {
  thread_local int entered = 0;
  const int device = g_device;
  if (entered == device) return;
  MB_CUDA(cudaSetDevice(device));
  entered = device;
}

/// What CUDA says of this machine; cudaSuccess if there is a device.
cudaError_t look_for_device() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return error;
  }
  return count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

/// For calls whose failure changes nothing: else it would be blamed on the next launch.
void forgive(cudaError_t error) noexcept {
  if (error != cudaSuccess) cudaGetLastError();
}

cudaStream_t stream_of(Stream stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

void* make_mark(Stream stream, unsigned flags) {
  if (DryRun::on()) return nullptr;
  enter_device();
  cudaEvent_t event = nullptr;
  MB_CUDA(cudaEventCreateWithFlags(&event, flags));
  if (const cudaError_t error = cudaEventRecord(event, stream_of(stream)); error != cudaSuccess) {
    cuda_end_mark(event);
    cuda_failed(error, "cudaEventRecord", __FILE__, __LINE__);
  }
  return event;
}

}  // namespace

bool cuda_available() {
  return look_for_device() == cudaSuccess;
}

std::string cuda_unavailable_reason() {
  const cudaError_t error = look_for_device();
  return fmt::format("CUDA finds no device here: {} ({}). Use --device cpu, or see nvidia-smi",
                     cudaGetErrorName(error), cudaGetErrorString(error));
}

int cuda_device_count() {
  int count = 0;
  forgive(cudaGetDeviceCount(&count));
  return cuda_available() ? count : 0;
}

void cuda_use_device(int number) {
  g_device = number;
  enter_device();
}

CudaDevice cuda_device() {
  enter_device();
  int device = 0;
  cudaDeviceProp properties{};
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  forgive(error);
  if (error != cudaSuccess) return {};
  return {properties.name, static_cast<int64_t>(properties.totalGlobalMem)};
}

void* cuda_allocate(size_t bytes) {
  enter_device();
  void* pointer = nullptr;
  const cudaError_t error = cudaMalloc(&pointer, bytes);
  if (error == cudaSuccess) return pointer;
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) return nullptr;
  MB_CHECK(cuda_available(), "device cuda: {} bytes were asked for, but {}", bytes,
           cuda_unavailable_reason());
  cuda_failed(error, "cudaMalloc", __FILE__, __LINE__);
}

void cuda_free(void* pointer) noexcept {
  forgive(cudaFree(pointer));
}

void* cuda_allocate_host(size_t bytes) {
  enter_device();
  void* pointer = nullptr;
  if (cudaMallocHost(&pointer, bytes) == cudaSuccess) return pointer;
  cudaGetLastError();
  return nullptr;
}

void cuda_free_host(void* pointer) noexcept {
  forgive(cudaFreeHost(pointer));
}

Stream cuda_make_stream() {
  MB_CHECK(cuda_available(), "device cuda: a stream was asked for, but {}",
           cuda_unavailable_reason());
  enter_device();
  cudaStream_t stream = nullptr;
  MB_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return {stream};
}

void cuda_end_stream(Stream stream) noexcept {
  forgive(cudaStreamSynchronize(stream_of(stream)));
  forgive(cudaStreamDestroy(stream_of(stream)));
}

void cuda_wait(Stream stream) {
  MB_CUDA(cudaStreamSynchronize(stream_of(stream)));
}

void* cuda_mark(Stream stream) {
  return make_mark(stream, cudaEventDisableTiming);
}

bool cuda_passed(void* mark) {
  if (!mark) return true;
  const cudaError_t state = cudaEventQuery(static_cast<cudaEvent_t>(mark));
  forgive(state);
  if (state == cudaErrorNotReady) return false;
  if (state != cudaSuccess) cuda_failed(state, "cudaEventQuery", __FILE__, __LINE__);
  return true;
}

void cuda_end_mark(void* mark) noexcept {
  if (!mark) return;  // of a dry run
  forgive(cudaEventDestroy(static_cast<cudaEvent_t>(mark)));
}

void cuda_follow(Stream stream, void* mark) {
  if (!mark) return;
  MB_CUDA(cudaStreamWaitEvent(stream_of(stream), static_cast<cudaEvent_t>(mark), 0));
}

void* cuda_timed_mark(Stream stream) {
  return make_mark(stream, cudaEventDefault);
}

double cuda_seconds_between(void* earlier, void* later) {
  float milliseconds = 0;
  MB_CUDA(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(earlier),
                               static_cast<cudaEvent_t>(later)));
  return 1e-3 * static_cast<double>(milliseconds);
}

// Relaxed: the allocator may ask for memory meanwhile, here or in a loader's thread.
void cuda_begin_capture(Stream stream) {
  MB_CUDA(cudaStreamBeginCapture(stream_of(stream), cudaStreamCaptureModeRelaxed));
}

bool cuda_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  MB_CUDA(cudaStreamIsCapturing(stream_of(stream), &status));
  return status != cudaStreamCaptureStatusNone;
}

void* cuda_end_capture(Stream stream) {
  cudaGraph_t graph = nullptr;
  MB_CUDA(cudaStreamEndCapture(stream_of(stream), &graph));
  cudaGraphExec_t ready = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&ready, graph, 0);
  forgive(cudaGraphDestroy(graph));
  if (error != cudaSuccess) cuda_failed(error, "cudaGraphInstantiate", __FILE__, __LINE__);
  return ready;
}

void cuda_drop_capture(Stream stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_of(stream), &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void cuda_launch_graph(void* graph, Stream stream) {
  MB_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream_of(stream)));
}

void cuda_end_graph(void* graph) noexcept {
  forgive(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

void cuda_begin_range(const char* name) noexcept {
  nvtxRangePushA(name);
}

void cuda_end_range() noexcept {
  nvtxRangePop();
}

}  // namespace minibert
