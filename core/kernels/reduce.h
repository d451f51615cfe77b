// reduce.h: sums in a fixed order: over columns, over everything, of squares; and the search for
// non-finite values. Called by autograd (bias gradients, losses) and optim (norms).
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
/// y[h] (+)= sum over t of x[t, h].  Shapes x [T, H]; y [H].  Fixed row blocks, added in block
/// order.
void column_sum(const Tensor& x, const Tensor& y, bool accumulate, Stream stream = {});
/// Sum of all elements, in double over fixed chunks.
double sum(const Tensor& x, Stream stream = {});
/// Sum of squares of all elements, in double over fixed chunks.
double sum_of_squares(const Tensor& x, Stream stream = {});
/// Whether every element is finite.
bool all_finite(const Tensor& x, Stream stream = {});

void column_sum_reference(const Tensor& x, const Tensor& y, bool accumulate);

}  // namespace minibert
