// linear_activation.cpp: a linear layer and what is applied to it: linear_gelu (the MLM head's
// transform) and linear_tanh (the pooler). Composed twins: autograd/composed.cpp.
// Test: ctest -R autograd_composed.
#include "autograd/check.h"
#include "autograd/linear.h"
#include "core/kernels/elementwise.h"

namespace minibert {
namespace {

// inputs: x, weight, bias of the linear layer; dpre [T, N] is the gradient of its result.
void backward_linear(const Tensor& dpre, const Tensor& x, const Tensor& weight,
                     std::vector<GradientTarget>& inputs) {
  linear_backward_x(dpre, weight, inputs[0]);
  linear_backward_parameters(dpre, x, inputs[1], inputs[2]);
}

}  // namespace

Variable linear_gelu(const Variable& x, const Variable& weight, const Variable& bias, Gelu kind) {
  check_rank("linear_gelu", "bias", bias, 1);
  check_linear("linear_gelu", x, weight, bias);
  const Tensor y = x.value().like({x.shape()[0], weight.shape()[0]});
  GemmArgs args = linear_gemm(x.value(), weight.value(), y);
  args.bias = bias.value();
  args.epilogue = GemmArgs::Epilogue::bias_gelu;
  args.gelu = kind;
  const Tensor pre = will_record({x, weight, bias}) ? y.like(y.shape()) : Tensor();
  args.pre_activation = pre;
  gemm(args);
  return make_result("linear_gelu", y, {x, weight, bias},
                     [x = x.value(), weight = weight.value(), pre, kind](
                         const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       const Tensor& dpre = pre;  // in place: pre is needed no more
                       gelu_backward(pre, dy, dpre, kind, /* accumulate= */ false);
                       backward_linear(dpre, x, weight, inputs);
                     });
}

Variable linear_tanh(const Variable& x, const Variable& weight, const Variable& bias) {
  check_rank("linear_tanh", "bias", bias, 1);
  check_linear("linear_tanh", x, weight, bias);
  const Tensor y = x.value().like({x.shape()[0], weight.shape()[0]});
  GemmArgs args = linear_gemm(x.value(), weight.value(), y);
  args.bias = bias.value();
  gemm(args);
  tanh_forward(y, y);
  return make_result("linear_tanh", y, {x, weight, bias},
                     [x = x.value(), weight = weight.value(), y](
                         const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       const Tensor dpre = y.like(y.shape());
                       tanh_backward(y, dy, dpre, /* accumulate= */ false);
                       backward_linear(dpre, x, weight, inputs);
                     });
}

}  // namespace minibert
