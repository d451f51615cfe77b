// launch.h: a launch of a kernel: checked at the call, handed to the runtime's queue, and run block
// after block. Called by launch of core/cuda_kernel.h. Easy to break: arguments are copied at the
// call, since the queue may run later. Test: ctest -R simt_engine_launch.
#pragma once

#include <cstdint>
#include <utility>

#include <cuda_runtime_api.h>

#include "tools/simt/queue.h"
#include "tools/simt/report.h"
#include "tools/simt/symbols.h"

namespace simt {

struct LaunchRequest {
  const void* kernel;
  int64_t grid[3];
  int64_t block[3];
  size_t shared_bytes;
  Place place;  // of the call
};
/// What a CUDA device would answer: cudaErrorInvalidConfiguration or cudaErrorInvalidValue for
/// shapes and sizes beyond its limits.
cudaError_t check(const LaunchRequest& request);
/// Runs body(data) for every thread. Throws Error for a fault of the kernel.
void run(const LaunchRequest& request, void (*body)(const void*), const void* data);
/// The kernel's name and launch, for reports: "cast_rows<float> (2 x 1 x 1 blocks of 256 x 1 x 1)".
std::string describe(const LaunchRequest& request);

/// Queues a launch whose threads each call body(). What the queue refuses appears in
/// cudaGetLastError, as with <<<>>>.
template <typename Body>
cudaError_t launch(const void* kernel, const int64_t (&grid)[3], const int64_t (&block)[3],
                   size_t shared_bytes, void* stream, const char* file, int line, Body body) {
  const LaunchRequest request{kernel,
                              {grid[0], grid[1], grid[2]},
                              {block[0], block[1], block[2]},
                              shared_bytes,
                              {file, line}};
  if (const cudaError_t error = check(request); error != cudaSuccess) return error;
  LaunchShape shape;
  for (int i = 0; i < 3; ++i) {
    shape.grid[i] = static_cast<unsigned>(grid[i]);
    shape.block[i] = static_cast<unsigned>(block[i]);
  }
  shape.shared_bytes = shared_bytes;
  shape.function = kernel;
  enqueue(stream, symbol_name(kernel), shape, [request, body = std::move(body)] {
    run(
        request, [](const void* data) { (*static_cast<const Body*>(data))(); }, &body);
  });
  return cudaSuccess;
}

}  // namespace simt
