// gather_rows.cpp: some rows of a matrix, in a given order: the masked rows for the MLM head, the
// first row of each sequence for the pooler. Kernel: core/kernels/copy.h.
// Test: ctest -R autograd_op_info.
#include "autograd/check.h"
#include "autograd/ops.h"
#include "core/kernels/copy.h"

namespace minibert {
namespace {

// Adds to the gradient itself where it has dy's type, else (a leaf) by way of a tensor that has.
void backward(const Tensor& dy, const Tensor& row, const GradientTarget& target) {
  const auto add = [&](const Tensor& dx, bool accumulate) {
    scatter_add_rows({dy, row, dx, accumulate});
  };
  if (target.buffer.dtype() == dy.dtype()) return add(target.buffer, target.accumulate);
  target.write(dy.dtype(), [&](const Tensor& dx) { add(dx, false); });
}

}  // namespace

Variable gather_rows(const Variable& x, const Tensor& row) {
  check_rank("gather_rows", "x", x, 2);
  check_index("gather_rows", "row", row, row.numel(), "row of the result");
  const Tensor y = x.value().like({row.numel(), x.shape()[1]});
  gather_rows(GatherRows{x.value(), row, y});
  return make_result("gather_rows", y, {x},
                     [row](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       backward(dy, row, inputs[0]);
                     });
}

}  // namespace minibert
