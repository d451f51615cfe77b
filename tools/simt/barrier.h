// barrier.h: barriers of a block: __syncthreads and its counting forms, and the named barriers that
// core/ptx.h offers. A thread that ended counts as having come to __syncthreads, as on a GPU.
// Called by kernels. Easy to break: __syncthreads must be reached by all threads at the same line;
// threads that meet at different lines are reported. Source: PTX ISA 9.0, 9.7.13.1.
// Test: ctest -R simt_engine_barrier.
#pragma once

#include "tools/simt/warp.h"

namespace simt {

/// Waits for all threads of the block that have not ended. Returns how many gave a true predicate.
int barrier_all(const char* name, int predicate, Place place);
/// Waits at barrier id until `threads` have come.
void bar_sync(int id, int threads, Place place);
/// Comes and goes on.
void bar_arrive(int id, int threads, Place place);

}  // namespace simt

inline void __syncthreads(SIMT_PLACE) {
  simt::barrier_all("__syncthreads", 0, place);
}
inline int __syncthreads_count(int predicate, SIMT_PLACE) {
  return simt::barrier_all("__syncthreads_count", predicate, place);
}
inline int __syncthreads_or(int predicate, SIMT_PLACE) {
  return simt::barrier_all("__syncthreads_or", predicate, place) != 0;
}
inline int __syncthreads_and(int predicate, SIMT_PLACE) {
  return simt::barrier_all("__syncthreads_and", predicate == 0, place) == 0;
}
// Memory is seen in the order in which it is written, whatever a fence says.
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
