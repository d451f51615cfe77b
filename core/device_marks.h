// device_marks.h: marks in streams of device cuda that order streams among one another and measure
// time, besides the plain ones of device.h; and which device it is. Called by profile.cpp, by whoever
// owns a second stream, and by probes. In a build without CUDA core/cuda_absent.cpp defines them.
// Easy to break: a mark in a stream that is captured belongs to the graph, and has no time.
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
/// How many there are; 0 where cuda_available() is false.
int cuda_device_count();
/// From here on all threads of this process use device `number`, from 0; at first, 0. Called before any
/// of them uses a device: World does, for ranks that share a machine (dist/world.h).
void cuda_use_device(int number);

}  // namespace minibert
