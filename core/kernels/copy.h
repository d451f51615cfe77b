// copy.h: rows picked from a matrix, and put back. Called by autograd/gather_rows.cpp (heads on the
// masked rows only).
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
/// y[p] = x[row[p]].  Shapes x [T, H]; row [P] i32; y [P, H].  Errors: DataError for a row outside
/// x.
void gather_rows(const Tensor& x, const Tensor& row, const Tensor& y, Stream stream = {});
/// dx[row[p]] += dy[p], in ascending p; unless `accumulate`, dx is zeroed first. Rows may repeat.
void scatter_add_rows(const Tensor& dy, const Tensor& row, const Tensor& dx, bool accumulate,
                      Stream stream = {});

}  // namespace minibert
