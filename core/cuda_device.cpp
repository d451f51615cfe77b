// cuda_device.cpp: the entry points of core/device.h over the CUDA runtime. Under emulation the
// runtime is tools/simt/runtime, and there is always a device. Easy to break: without a driver
// cudaGetDeviceCount leaves the count as it was. Test: ctest -R core_device.
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include "core/cuda_error.h"
#include "core/device.h"
#include "core/error.h"

namespace minibert {
namespace {

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

}  // namespace

bool cuda_available() {
  return look_for_device() == cudaSuccess;
}

std::string cuda_unavailable_reason() {
  const cudaError_t error = look_for_device();
  return fmt::format("CUDA finds no device here: {} ({}). Use --device cpu, or see nvidia-smi",
                     cudaGetErrorName(error), cudaGetErrorString(error));
}

void* cuda_allocate(size_t bytes) {
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
  cudaFree(pointer);
}

void* cuda_allocate_host(size_t bytes) {
  void* pointer = nullptr;
  if (cudaMallocHost(&pointer, bytes) == cudaSuccess) return pointer;
  cudaGetLastError();
  return nullptr;
}

void cuda_free_host(void* pointer) noexcept {
  cudaFreeHost(pointer);
}

Stream cuda_make_stream() {
  MB_CHECK(cuda_available(), "device cuda: a stream was asked for, but {}",
           cuda_unavailable_reason());
  cudaStream_t stream = nullptr;
  MB_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return {stream};
}

void cuda_end_stream(Stream stream) noexcept {
  cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle));
  cudaStreamDestroy(static_cast<cudaStream_t>(stream.handle));
}

void cuda_wait(Stream stream) {
  MB_CUDA(cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle)));
}

void* cuda_mark(Stream stream) {
  cudaEvent_t event = nullptr;
  MB_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  MB_CUDA(cudaEventRecord(event, static_cast<cudaStream_t>(stream.handle)));
  return event;
}

bool cuda_passed(void* mark) {
  const cudaError_t state = cudaEventQuery(static_cast<cudaEvent_t>(mark));
  if (state == cudaErrorNotReady) return false;
  MB_CUDA(state);
  return true;
}

void cuda_end_mark(void* mark) noexcept {
  cudaEventDestroy(static_cast<cudaEvent_t>(mark));
}

// Thread-local: a loader's thread may ask for page-locked memory meanwhile.
void cuda_begin_capture(Stream stream) {
  MB_CUDA(cudaStreamBeginCapture(static_cast<cudaStream_t>(stream.handle),
                                 cudaStreamCaptureModeThreadLocal));
}

void* cuda_end_capture(Stream stream) {
  cudaGraph_t graph = nullptr;
  MB_CUDA(cudaStreamEndCapture(static_cast<cudaStream_t>(stream.handle), &graph));
  cudaGraphExec_t ready = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  MB_CUDA(error);
  return ready;
}

void cuda_drop_capture(Stream stream) noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(static_cast<cudaStream_t>(stream.handle), &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void cuda_launch_graph(void* graph, Stream stream) {
  MB_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph),
                          static_cast<cudaStream_t>(stream.handle)));
}

void cuda_end_graph(void* graph) noexcept {
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

void cuda_begin_range(const char* name) noexcept {
  nvtxRangePushA(name);
}

void cuda_end_range() noexcept {
  nvtxRangePop();
}

}  // namespace minibert
