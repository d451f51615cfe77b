// device.h: devices by name, and the entry points of the CUDA backend.
// The CPU runs kernels at the call. Where CUDA is not part of the build, core/cuda_absent.cpp
// defines these entry points and core/kernels/cuda_absent.cpp the kernels; where it is,
// cuda_device.cpp and the chapters' .cu files.
// Test: ctest -R core_device.
#pragma once

#include <cstddef>
#include <string>

#include "core/operand.h"
#include "core/stream.h"

namespace minibert {

const char* name_of(Device device);
/// "cpu" or "cuda". Errors: UsageError for another name.
Device parse_device(const std::string& name);

// ---- The CUDA backend's entry points: core/cuda_absent.cpp in a build without it ---------------
/// Whether kernels can run on a CUDA device here. Asked by check_precision (precision.h) for every
/// verb that computes, before it writes anything, and by `env`.
bool cuda_available();
/// Why not, and what to do about it.
std::string cuda_unavailable_reason();
/// Null if the device has no more memory. Errors: UsageError if there is no device.
void* cuda_allocate(size_t bytes);
void cuda_free(void* pointer) noexcept;
/// Page-locked memory of the host: copies between it and the device run beside the host. Null if the
/// system refuses.
void* cuda_allocate_host(size_t bytes);
void cuda_free_host(void* pointer) noexcept;
/// A new stream, which does not wait for CUDA's default stream. Errors: UsageError if there is no
/// device.
Stream cuda_make_stream();
/// Waits for what was queued on it, and destroys it.
void cuda_end_stream(Stream stream) noexcept;
/// Waits for what was queued on it. Errors: InternalError, with what went wrong on the device.
void cuda_wait(Stream stream);
/// A mark after what is queued on a stream now (a CUDA event); whether the device has passed it,
/// asked without waiting; the mark's end. Errors: InternalError, with what went wrong on the device.
void* cuda_mark(Stream stream);
bool cuda_passed(void* mark);
void cuda_end_mark(void* mark) noexcept;
/// begin: from here on the stream keeps what is queued on it and runs nothing. end: makes what it kept
/// a graph, ready to launch. drop: forgets it, after an error. launch: queues the whole graph. Called
/// by DeviceGraph (device_graph.h). Errors: InternalError.
void cuda_begin_capture(Stream stream);
void* cuda_end_capture(Stream stream);
void cuda_drop_capture(Stream stream) noexcept;
void cuda_launch_graph(void* graph, Stream stream);
void cuda_end_graph(void* graph) noexcept;
/// Ranges of NVTX, which a profiler shows; they nest (range.h).
void cuda_begin_range(const char* name) noexcept;
void cuda_end_range() noexcept;

}  // namespace minibert
