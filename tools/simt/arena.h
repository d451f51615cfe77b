// arena.h: the shared memory of the block that runs: dynamic memory first, then the static arrays,
// each as the first thread reaches its MB_SHARED. Every array is filled with 0xFF, a NaN in each
// float type, before each block, and followed by a guard: a canary checked after each block, or
// poison under AddressSanitizer. Called by MB_SHARED and dynamic_shared of core/cuda_kernel.h.
// Easy to break: a site keeps its place for one launch only. Test: ctest -R simt_engine_shared.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tools/simt/report.h"

namespace simt {

/// One MB_SHARED in the code: a static object beside the array's name.
struct SharedSite {
  constexpr SharedSite(const char* name, size_t bytes, const char* file, int line)
      : name(name), bytes(bytes), place{file, line} {}

  const char* name;
  size_t bytes;
  Place place;
  uint64_t launch = 0;  // number of the launch for which `address` holds
  void* address = nullptr;
};

extern uint64_t launch_number;
void* add_shared_array(SharedSite& site);

/// The array of this site in the running block.
inline void* shared_array(SharedSite& site) {
  return site.launch == launch_number ? site.address : add_shared_array(site);
}
/// The launch's dynamic memory. Fails if it has none.
void* dynamic_shared();

/// Before a launch: the arena has dynamic memory only.
void begin_arena(size_t dynamic_bytes);
/// Before a block: fills all arrays. After it: looks at the guards.
void fill_arena();
void check_arena();

/// Fails unless all bytes lie in one array of the running block. `what` and `place` name the access.
void check_shared(const void* address, size_t bytes, const char* what, Place place);
/// The 32-bit address that the machine's instructions use. Fails outside of shared memory.
uint32_t smem_u32(const void* shared);

}  // namespace simt
