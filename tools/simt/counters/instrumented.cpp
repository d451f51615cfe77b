// instrumented.cpp: what g++ -fsanitize=thread calls at each load and store of a kernel file. The
// names are the compiler's; the bodies tell the observer, and are no race detector. The caller's
// return address stands for the place of the code. Easy to break: linked only into programs whose
// kernels are compiled so, and never beside the real ThreadSanitizer. Test: ctest -R simt_counters.
#include <cstddef>
#include <cstdint>

#include "tools/simt/observer.h"

namespace {

inline void tell(const void* address, size_t bytes, bool writes, const void* code) {
  if (simt::observer)
    simt::observer->access(address, bytes, writes, reinterpret_cast<uint64_t>(code));
}

}  // namespace

#define SIMT_ACCESS(name, bytes, writes)                       \
  void __tsan_##name(void* address) {                          \
    tell(address, bytes, writes, __builtin_return_address(0)); \
  }
#define SIMT_ACCESSES(bytes)                       \
  SIMT_ACCESS(read##bytes, bytes, false)           \
  SIMT_ACCESS(write##bytes, bytes, true)           \
  SIMT_ACCESS(unaligned_read##bytes, bytes, false) \
  SIMT_ACCESS(unaligned_write##bytes, bytes, true)

extern "C" {
SIMT_ACCESSES(1)
SIMT_ACCESSES(2)
SIMT_ACCESSES(4)
SIMT_ACCESSES(8)
SIMT_ACCESSES(16)
void __tsan_read_range(void* address, unsigned long bytes) {
  tell(address, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(void* address, unsigned long bytes) {
  tell(address, bytes, true, __builtin_return_address(0));
}
void __tsan_init() {}
// Guards of static objects, shared pointers, virtual tables: of the host's code beside the kernels.
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int) {
  return __atomic_load_n(address, __ATOMIC_SEQ_CST);
}
unsigned __tsan_atomic32_fetch_add(volatile unsigned* address, unsigned value, int) {
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void** pointer, void* value) {
  *pointer = value;
}
}  // extern "C"
