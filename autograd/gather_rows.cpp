// gather_rows.cpp: some rows of a matrix, in a given order: the masked rows for the MLM head, the
// first row of each sequence for the pooler. Kernel: core/kernels/copy.h. Test: ctest -R
// autograd_op_info.
#include "autograd/check.h"
#include "autograd/ops.h"
#include "core/kernels/copy.h"

namespace minibert {

Variable gather_rows(const Variable& x, const Tensor& row) {
  check_rank("gather_rows", "x", x, 2);
  check_index("gather_rows", "row", row, row.numel(), "row of the result");
  Tensor y = Tensor::empty({row.numel(), x.shape()[1]});
  gather_rows(x.value(), row, y);
  return make_result("gather_rows", y, {x},
                     [row](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       scatter_add_rows(dy, row, inputs[0].buffer, inputs[0].accumulate);
                     });
}

}  // namespace minibert
