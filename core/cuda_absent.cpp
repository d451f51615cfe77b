// cuda_absent.cpp: the CUDA backend of a build that has none: no device, no memory, and the reason.
// Its kernels are absent in core/kernels/cuda_absent.cpp. Test: ctest -R core_device.
#include "core/cuda_machine.h"
#include "core/device.h"
#include "core/device_marks.h"
#include "core/error.h"

namespace minibert {

bool cuda_available() {
  return false;
}

std::string cuda_unavailable_reason() {
  return "this build of minibert has CPU kernels only. Use --device cpu, or tools/build cuda";
}

int cuda_device_count() {
  return 0;
}

void cuda_use_device(int) {}

CudaDevice cuda_device() {
  return {};
}

CudaMachine cuda_machine() {
  return {};
}

void* cuda_allocate(size_t bytes) {
  fail<UsageError>("device cuda: {} bytes were asked for, but {}", bytes,
                   cuda_unavailable_reason());
}

void cuda_free(void*) noexcept {}

void* cuda_allocate_host(size_t) {
  return nullptr;
}

void cuda_free_host(void*) noexcept {}

Stream cuda_make_stream() {
  fail<UsageError>("device cuda: a stream was asked for, but {}", cuda_unavailable_reason());
}

void cuda_end_stream(Stream) noexcept {}

void cuda_wait(Stream) {}

void* cuda_mark(Stream) {
  return nullptr;
}

bool cuda_passed(void*) {
  return true;
}

void cuda_end_mark(void*) noexcept {}

void cuda_follow(Stream, void*) {}

void* cuda_timed_mark(Stream) {
  return nullptr;
}

double cuda_seconds_between(void*, void*) {
  return 0;
}

void cuda_begin_capture(Stream) {
  fail<UsageError>("device cuda: a graph was asked for, but {}", cuda_unavailable_reason());
}

void* cuda_end_capture(Stream) {
  return nullptr;
}

bool cuda_capturing(Stream) {
  return false;
}

void cuda_drop_capture(Stream) noexcept {}

void cuda_launch_graph(void*, Stream) {}

void cuda_end_graph(void*) noexcept {}

void cuda_begin_range(const char*) noexcept {}

void cuda_end_range() noexcept {}

}  // namespace minibert
