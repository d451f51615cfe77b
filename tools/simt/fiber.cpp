// fiber.cpp: the pool of stacks, and the words for AddressSanitizer.
// Source: System V ABI for x86-64, 3.2.2 (the stack's alignment at an entry).
// Test: ctest -R simt_engine_launch.
#include "tools/simt/fiber.h"

#include <cstdint>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "tools/simt switches stacks in x86-64 assembler; other CPUs have no emulated CUDA build"
#endif

namespace simt {
namespace {

/// A stack, and what was left behind on it.
struct Pooled : Stack {
  std::byte* lowest = nullptr;  // under AddressSanitizer no byte below this is poisoned
};
Stack* pool = nullptr;
#if SIMT_ASAN
const void* host_bottom = nullptr;  // learnt at each switch away from the host
size_t host_bytes = 0;
#endif

}  // namespace

Stack& acquire_stack() {
  if (!pool) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, Stack::kBytes + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) throw std::bad_alloc();
    auto* fresh = new Pooled;
    fresh->bottom = static_cast<std::byte*>(memory) + page;
    fresh->lowest = fresh->bottom + Stack::kBytes;
    pool = fresh;
  }
  Stack& stack = *pool;
  pool = stack.next;
  return stack;
}

// A thread that ended leaves the frames of its worker behind, poisoned in part; to unpoison all of the
// stack at each use would take longer than most threads run.
void release_stack(Stack& stack) {
#if SIMT_ASAN
  auto* here = static_cast<std::byte*>(__builtin_frame_address(0));
  const bool on_it = here >= stack.bottom && here < stack.bottom + Stack::kBytes;
  static_cast<Pooled&>(stack).lowest = on_it ? here : stack.bottom;
#endif
  stack.next = pool;
  pool = &stack;
}

void* prepare(Stack& stack, void (*entry)()) {
#if SIMT_ASAN
  std::byte* lowest = static_cast<Pooled&>(stack).lowest;
  __asan_unpoison_memory_region(lowest, static_cast<size_t>(stack.bottom + Stack::kBytes - lowest));
#endif
  // From the top: a null return address, where a debugger's backtrace ends, and below it the entry,
  // which the switch jumps to. At an entry the stack is 16-byte aligned less 8.
  auto* top = reinterpret_cast<uintptr_t*>(stack.bottom + Stack::kBytes) - 1;
  top[0] = 0;
  top[-1] = reinterpret_cast<uintptr_t>(entry);
  return top - 1;
}

void leaving([[maybe_unused]] Sanitizer* saved, [[maybe_unused]] Stack* to) {
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(saved ? &saved->fake_stack : nullptr,
                                 to ? to->bottom : host_bottom, to ? Stack::kBytes : host_bytes);
#endif
}

void came_back([[maybe_unused]] Sanitizer* saved) {
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(saved ? saved->fake_stack : nullptr, nullptr, nullptr);
#endif
}

void stack_entered([[maybe_unused]] bool from_host) {
#if SIMT_ASAN
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (from_host) host_bottom = bottom, host_bytes = bytes;
#endif
}

}  // namespace simt
