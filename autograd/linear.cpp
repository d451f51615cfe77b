// linear.cpp: y = x weight^T + bias, as three matrix products: forward, dx, and dweight together with
// dbias, a sum over the rows of dy, which that product reads anyway. Gradients are written straight
// into their buffers, f32 for leaves: the GEMM accumulates unless it is the first contribution.
// Called by nn/modules.h. Kernels: core/kernels/gemm.h. Test: ctest -R autograd_op_info.
#include "autograd/linear.h"

#include "autograd/check.h"
#include "core/kernels/reduce.h"

namespace minibert {

void check_linear(const char* op, const Variable& x, const Variable& weight, const Variable& bias) {
  check_rank(op, "x", x, 2);
  check_rank(op, "weight", weight, 2);
  check_shape(op, "weight", weight.shape(), {weight.shape()[0], x.shape()[1]}, "columns as in x",
              x.shape());
  if (bias.defined())
    check_shape(op, "bias", bias.shape(), {weight.shape()[0]}, "rows of weight", weight.shape());
}

GemmArgs linear_gemm(const Tensor& x, const Tensor& weight, const Tensor& y) {
  GemmArgs args;
  args.a = x;
  args.b = weight;
  args.transpose_b = true;
  args.c = y;
  return args;
}

void linear_backward_x(const Tensor& dy, const Tensor& weight, const GradientTarget& dx) {
  if (!dx.wanted()) return;
  GemmArgs args;  // dx [T, K] = dy [T, N] weight [N, K]
  args.a = dy;
  args.b = weight;
  args.c = dx.buffer;
  args.accumulate = dx.accumulate;
  gemm(args);
}

void linear_backward_parameters(const Tensor& dy, const Tensor& x, const GradientTarget& dweight,
                                const GradientTarget& dbias) {
  if (!dweight.wanted()) {
    dbias.write_or_add(DType::f32,
                       [&](const Tensor& sums, bool add) { column_sum(dy, sums, add); });
    return;
  }
  GemmArgs args;  // dweight [N, K] = dy^T [N, T] x [T, K]
  args.a = dy;
  args.transpose_a = true;
  args.b = x;
  args.c = dweight.buffer;
  args.accumulate = dweight.accumulate;
  if (!dbias.wanted()) return gemm(args);
  dbias.write_or_add(DType::f32, [&](const Tensor& sums, bool add) {
    args.row_sum = sums;
    args.accumulate_row_sum = add;
    gemm(args);
  });
}

Variable linear(const Variable& x, const Variable& weight, const Variable& bias) {
  check_linear("linear", x, weight, bias);
  const Tensor y = x.value().like({x.shape()[0], weight.shape()[0]});
  GemmArgs args = linear_gemm(x.value(), weight.value(), y);
  if (bias.defined()) args.bias = bias.value();
  gemm(args);
  return make_result("linear", y, {x, weight, bias},
                     [x = x.value(), weight = weight.value()](const Tensor& dy,
                                                              std::vector<GradientTarget>& inputs) {
                       linear_backward_x(dy, weight, inputs[0]);
                       linear_backward_parameters(dy, x, inputs[1], inputs[2]);
                     });
}

}  // namespace minibert
