// scratch.h: a kernel task's own memory: one buffer a thread, which grows to the largest request and
// stays. Called inside the tasks of parallel_blocks, where the allocator's lock would be waited for.
// Easy to break: a second request on the same thread gets the same memory, so a task asks once and
// divides what it got. Test: ctest -R core_parallel.
#pragma once

#include <cstddef>

namespace minibert {

/// `bytes` of uninitialised memory, 64-byte aligned, until this thread asks again.
void* thread_scratch(size_t bytes);

template <typename T>
T* thread_scratch_of(size_t count) {
  return static_cast<T*>(thread_scratch(count * sizeof(T)));
}

}  // namespace minibert
