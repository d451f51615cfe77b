// async_copy.cpp: queues and completes the copies of a thread. Test: ctest -R simt_engine_async_copy.
#include "tools/simt/async_copy.h"

#include <cstring>

#include "tools/simt/arena.h"
#include "tools/simt/observer.h"
#include "tools/simt/options.h"
#include "tools/simt/scheduler.h"

namespace simt {
namespace {

void complete(const AsyncCopy& copy) {
  std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
  std::memset(static_cast<std::byte*>(copy.to) + copy.bytes, 0,
              static_cast<size_t>(16 - copy.bytes));
}

/// Of a line of code, for observers; apart from the addresses of instructions.
uint64_t number_of(Place place) {
  return reinterpret_cast<uintptr_t>(place.file) << 20 ^ static_cast<uint64_t>(place.line) ^
         1ull << 63;
}

bool early() {
  const Async async = options().async;
  return async == Async::early || (async == Async::random && next_random() % 2);
}

}  // namespace

void cp_async16(void* shared, const void* global, int source_bytes, Place place) {
  const std::string what = "cp_async16";
  if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16)
    fail(what + " at " + to_string(place) + ": both addresses must be multiples of 16 bytes");
  if (source_bytes < 0 || source_bytes > 16)
    fail(what + " at " + to_string(place) + ": source_bytes is " + std::to_string(source_bytes) +
         ", expected 0..16");
  check_shared(shared, 16, "cp_async16", place);
  if (observer && source_bytes > 0)
    observer->access(global, static_cast<size_t>(source_bytes), /* writes= */ false,
                     number_of(place));
  ++async_copies;
  Thread& self = *scheduler.current;
  const AsyncCopy copy{shared, global, source_bytes, self.copy_group};
  if (early()) {
    complete(copy);
  } else {
    self.copies.push_back(copy);
  }
}

void cp_async_commit() {
  ++scheduler.current->copy_group;
}

void cp_async_wait(int pending) {
  Thread& self = *scheduler.current;
  size_t done = 0;
  while (done < self.copies.size() &&
         self.copies[done].group + static_cast<uint32_t>(pending) < self.copy_group)
    complete(self.copies[done++]);
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<ptrdiff_t>(done));
}

}  // namespace simt
