// device_marks.h: marks in streams of device cuda that order streams among one another and measure
// time, beside the plain ones of device.h; and what device it is. Called by profile.cpp, by who owns
// a second stream, and by probes. In a build without CUDA core/cuda_absent.cpp defines them. Easy to
// break: a mark in a stream that is captured belongs to the graph, and has no time.
// Test: ctest -R train_step_cuda.
#pragma once

#include <cstdint>
#include <string>

#include "core/stream.h"

namespace minibert {

/// What is queued on the stream from now on waits for the mark, which may be in another stream.
/// Errors, of all: InternalError, with what went wrong on the device.
void cuda_follow(Stream stream, void* mark);
/// A mark with the time at which the device passes it, and the seconds between two that it passed;
/// they end as others do (cuda_end_mark).
void* cuda_timed_mark(Stream stream);
double cuda_seconds_between(void* earlier, void* later);
bool cuda_capturing(Stream stream);

/// What kernels run on; empty if CUDA doesn't say.
struct CudaDevice {
  std::string name;
  int64_t memory_bytes = 0;
};
CudaDevice cuda_device();

}  // namespace minibert
