// dropout.cpp: dropout on hidden rows. Nothing is saved: the mask is a function of a counter
// (core/philox.h), so backward draws it again. In BERT most dropout is inside add_norm and
// attention; this op stands after the embeddings and before a classifier. Kernel:
// core/kernels/elementwise.h. Test: ctest -R autograd_op_info.
#include "autograd/check.h"
#include "autograd/ops.h"
#include "core/kernels/elementwise.h"

namespace minibert {

Variable dropout(const Variable& x, const RowPlaces& places, const Dropout& dropout) {
  check_rank("dropout", "x", x, 2);
  if (!dropout.active()) return x;
  check_index("dropout", "position", places.position, x.shape()[0], "row of x");
  check_index("dropout", "row_sample", places.row_sample, x.shape()[0], "row of x");
  const Tensor y = x.value().like(x.shape());
  dropout_rows({x.value(), places.position, places.row_sample, dropout, y});
  return make_result(
      "dropout", y, {x}, [places, dropout](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
          dropout_rows({dy, places.position, places.row_sample, dropout, dx, accumulate});
        });
      });
}

}  // namespace minibert
