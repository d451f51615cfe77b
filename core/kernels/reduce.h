// reduce.h: sums in a fixed order, over columns and over everything. Called by autograd (bias
// gradients, losses, the sum op). Easy to break: who adds what, and when, must not depend on the
// thread count. Test: ctest -R kernels_reduce.
#pragma once

#include "core/operand.h"
#include "core/profile.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   column_sum  y[h] (+)= sum_T(x[t, h]): the gradient of a bias that was added to every row
//   sum         y = sum over all elements of x
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   column_sum  x [T, H]; y [H]     sum  x of any shape; y [] or [1]     x f32, bf16 or f16; y f32
// ---- 3. Cost ------------------------------------------------------------------------------------
//   One addition an element of x, which is read once: bound by memory.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Everything is added in double, over fixed blocks (64 rows; 65,536 elements) and then in block
//   order: the thread count does not change bits. The vector length does: lanes are added last.
//   CUDA adds in double too, in a fixed tree: no atomics, the same bits in every run.
//   An infinity or NaN reaches the sums.
// ---- 5. Interface -------------------------------------------------------------------------------
struct ColumnSumArgs {
  Operand x, y;
  bool accumulate = false;  // y += instead of y =
};
/// Errors: UsageError for shapes and types that disagree.
void column_sum(const ColumnSumArgs& args);
inline void column_sum(const Operand& x, const Operand& y, bool accumulate) {
  column_sum({x, y, accumulate});
}
void column_sum_reference(const ColumnSumArgs& args);
Cost column_sum_cost(const ColumnSumArgs& args);
/// Bytes of workspace that the sums of x [T, H] take on the CPU.
int64_t column_sum_workspace(int64_t T, int64_t H);
void column_sum_cuda(const ColumnSumArgs& args, Stream stream);
/// Rung 1 .. kColumnSumRungs of reduce.cu, the last of which column_sum_cuda runs.
inline constexpr int kColumnSumRungs = 3;
void column_sum_cuda_rung(const ColumnSumArgs& args, Stream stream, int rung);

struct SumArgs {
  Operand x, y;
};
/// Errors: UsageError for a y that is not one f32 element.
void sum(const SumArgs& args);
inline void sum(const Operand& x, const Operand& y) {
  sum({x, y});
}
void sum_reference(const SumArgs& args);
Cost sum_cost(const SumArgs& args);
void sum_cuda(const SumArgs& args, Stream stream);

}  // namespace minibert
