// elementwise.cpp: add, multiply, scale, gelu, tanh and sum: each a forward and, below it, its
// backward. Kernels: core/kernels/elementwise.h and reduce.h. Test: ctest -R autograd_op_info.
#include "core/kernels/elementwise.h"

#include "autograd/check.h"
#include "autograd/ops.h"
#include "core/kernels/reduce.h"

namespace minibert {
namespace {

void check_same_shape(const char* op, const Variable& a, const Variable& b) {
  MB_CHECK(a.defined() && b.defined(), "{}: an input is undefined, expected two tensors", op);
  check_shape(op, "b", b.shape(), a.shape(), "the shape of a", a.shape());
}

}  // namespace

Variable add(const Variable& a, const Variable& b) {
  check_same_shape("add", a, b);
  Tensor y = Tensor::empty(a.shape());
  add_forward(a.value(), b.value(), y);
  return make_result("add", y, {a, b}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    inputs[0].pass(dy);
    inputs[1].pass(dy);
  });
}

Variable multiply(const Variable& a, const Variable& b) {
  check_same_shape("multiply", a, b);
  Tensor y = Tensor::empty(a.shape());
  multiply_forward(a.value(), b.value(), y);
  return make_result(
      "multiply", y, {a, b},
      [a = a.value(), b = b.value()](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        if (inputs[0].wanted()) multiply_backward(b, dy, inputs[0].buffer, inputs[0].accumulate);
        if (inputs[1].wanted()) multiply_backward(a, dy, inputs[1].buffer, inputs[1].accumulate);
      });
}

Variable scale(const Variable& x, float factor) {
  Tensor y = Tensor::empty(x.shape());
  scale(x.value(), factor, y, /* accumulate= */ false);
  return make_result("scale", y, {x},
                     [factor](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       scale(dy, factor, inputs[0].buffer, inputs[0].accumulate);
                     });
}

Variable gelu(const Variable& x, Gelu kind) {
  Tensor y = Tensor::empty(x.shape());
  gelu_forward(x.value(), y, kind);
  return make_result("gelu", y, {x},
                     [x = x.value(), kind](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       gelu_backward(x, dy, inputs[0].buffer, kind, inputs[0].accumulate);
                     });
}

Variable tanh(const Variable& x) {
  Tensor y = Tensor::empty(x.shape());
  tanh_forward(x.value(), y);
  return make_result("tanh", y, {x}, [y](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    tanh_backward(y, dy, inputs[0].buffer, inputs[0].accumulate);
  });
}

Variable sum(const Variable& x) {
  Tensor y = Tensor::empty({});
  *y.data<float>() = static_cast<float>(sum(x.value()));
  return make_result("sum", y, {x}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    inputs[0].write([&](const Tensor& dx) { fill(dx, dy.item()); });
  });
}

}  // namespace minibert
