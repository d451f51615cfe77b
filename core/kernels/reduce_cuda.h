// reduce_cuda.h: the second stage of sums over rows, which layer_norm shares with column_sum: a
// kernel's blocks each leave a row of sums, and these rows are added here in an order of their own.
// Implemented by reduce.cu. Easy to break: how many blocks there are must depend
// on the shape alone, never on the device, so that its bits do not. Test: ctest -R kernels_reduce_cuda.
#pragma once

#include <cstdint>

#include "core/stream.h"

namespace minibert {

/// Where sums go: y[h] = or, with `accumulate`, y[h] +=. Null: nobody wants them.
struct ColumnTarget {
  float* y = nullptr;
  bool accumulate = false;
};
/// Up to three matrices of sums [blocks, H], one after the other, and a target for each.
template <typename P>
struct ColumnPartials {
  const P* data;
  int64_t blocks, H;
  ColumnTarget target[3];
};
/// y[h] (+)= sum over the blocks, added in double in a fixed tree. P: float or double.
template <typename P>
void add_partials_cuda(const ColumnPartials<P>& partials, Stream stream);

}  // namespace minibert
