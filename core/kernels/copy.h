// copy.h: rows picked from a matrix, and put back. Called by autograd/gather_rows.cpp (heads on the
// masked rows only). Test: ctest -R kernels_copy.
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   gather y[p] = x[row[p]]; its backward is scatter_add dx[t] = sum of dy[p] over row[p] = t
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   x, dx [T, H]; y, dy [P, H] f32; row [P] i32, 0-based
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory:  gather 8 P H bytes;  scatter_add 12 P H, and 4 T H where dx is zeroed first
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Copies are exact. Sums are f32 in ascending p; threads share out columns, never rows, so their
//   number does not change bits.
// ---- 5. Interface -------------------------------------------------------------------------------
/// y[p] = x[row[p]].
/// Shapes  x [T, H]; row [P] i32; y [P, H].
/// Errors  DataError for a row outside x; UsageError for shapes or types that disagree.
void gather_rows(const Tensor& x, const Tensor& row, const Tensor& y, Stream stream = {});
/// dx[row[p]] += dy[p], in ascending p; unless `accumulate`, dx is zeroed first. Rows may repeat.
/// Errors as gather_rows.
void scatter_add_rows(const Tensor& dy, const Tensor& row, const Tensor& dx, bool accumulate,
                      Stream stream = {});

}  // namespace minibert
