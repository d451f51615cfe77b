// reduce.h: sums in a fixed order: over columns, over everything, of squares; and the search for
// non-finite values. Called by autograd (bias gradients, losses) and optim (norms). Easy to break:
// who adds what, and when, must not depend on the thread count. Test: ctest -R kernels_reduce.
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   column_sum  y[h] = sum_T(x[t, h]): the gradient of a bias that was added to every row
//   sum, sum_of_squares  over all elements;  all_finite  no infinity and no NaN (x * 0 == 0)
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   x f32 of any shape, for column_sum [T, H]; y [H] f32; the other results are double and bool.
// ---- 3. Cost ------------------------------------------------------------------------------------
//   One addition, two FLOP for squares, and 4 bytes an element: bound by memory.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Everything is added in double, over fixed blocks (64 rows; 65,536 elements) and then in block
//   order: the thread count does not change bits. The vector length does: lanes are added last.
//   An infinity or NaN reaches the sums.
// ---- 5. Interface -------------------------------------------------------------------------------
/// y[h] (+)= sum over t of x[t, h], over fixed blocks of rows.  Shapes  x [T, H]; y [H].
void column_sum(const Tensor& x, const Tensor& y, bool accumulate, Stream stream = {});
/// Sum of all elements, in double over fixed chunks.
double sum(const Tensor& x, Stream stream = {});
/// Sum of squares of all elements, in double over fixed chunks.
double sum_of_squares(const Tensor& x, Stream stream = {});
/// Whether every element is finite.
bool all_finite(const Tensor& x, Stream stream = {});

void column_sum_reference(const Tensor& x, const Tensor& y, bool accumulate);

}  // namespace minibert
