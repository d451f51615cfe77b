// elementwise.cpp: add, multiply, scale, gelu, tanh, sum and add_bias: each a forward and, below
// it, its backward. Kernels: core/kernels/elementwise.h and reduce.h.
// Test: ctest -R autograd_op_info.
#include "core/kernels/elementwise.h"

#include "autograd/check.h"
#include "autograd/ops.h"
#include "core/kernels/reduce.h"

namespace minibert {
namespace {

void check_same_shape(const char* op, const Variable& a, const Variable& b) {
  MB_CHECK(a.defined() && b.defined(), "{}: an input is undefined, expected two tensors", op);
  check_shape(op, "b", b.shape(), a.shape(), "the shape of a", a.shape());
  check_type(op, "b", b, a.value().dtype(), "the type of a");
}

}  // namespace

Variable add(const Variable& a, const Variable& b) {
  check_same_shape("add", a, b);
  const Tensor y = a.value().like(a.shape());
  add_forward({a.value(), b.value(), y});
  return make_result("add", y, {a, b}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    inputs[0].pass(dy);
    inputs[1].pass(dy);
  });
}

Variable multiply(const Variable& a, const Variable& b) {
  check_same_shape("multiply", a, b);
  const Tensor y = a.value().like(a.shape());
  multiply({a.value(), b.value(), y});
  return make_result(
      "multiply", y, {a, b},
      [a = a.value(), b = b.value()](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        inputs[0].write_or_add(dy.dtype(), [&](const Tensor& da, bool accumulate) {
          multiply({dy, b, da, accumulate});
        });
        inputs[1].write_or_add(dy.dtype(), [&](const Tensor& db, bool accumulate) {
          multiply({dy, a, db, accumulate});
        });
      });
}

Variable scale(const Variable& x, float factor) {
  const Tensor y = x.value().like(x.shape());
  scale({x.value(), factor, y});
  return make_result("scale", y, {x},
                     [factor](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
                         scale({dy, factor, dx, accumulate});
                       });
                     });
}

Variable gelu(const Variable& x, Gelu kind) {
  const Tensor y = x.value().like(x.shape());
  gelu_forward({x.value(), y, kind});
  return make_result("gelu", y, {x},
                     [x = x.value(), kind](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
                         gelu_backward({x, dy, dx, kind, accumulate});
                       });
                     });
}

Variable tanh(const Variable& x) {
  const Tensor y = x.value().like(x.shape());
  tanh_forward({x.value(), y});
  return make_result("tanh", y, {x}, [y](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
      tanh_backward({y, dy, dx, accumulate});
    });
  });
}

// The sum is f32 whatever x is: it may be a loss.
Variable sum(const Variable& x) {
  const Tensor y = Tensor::empty({}, DType::f32, MemoryCategory::activations, x.value().device());
  sum(x.value(), y);
  return make_result("sum", y, {x}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    fill_from({dy, inputs[0].buffer, inputs[0].accumulate});
  });
}

Variable add_bias(const Variable& x, const Variable& bias) {
  check_rank("add_bias", "x", x, 2);
  check_rank("add_bias", "bias", bias, 1);
  check_shape("add_bias", "bias", bias.shape(), {x.shape()[1]}, "last dimension of x", x.shape());
  check_type("add_bias", "bias", bias, x.value().dtype(), "the type of x");
  const Tensor y = x.value().like(x.shape());
  add_bias({x.value(), bias.value(), y});
  return make_result(
      "add_bias", y, {x, bias}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        inputs[0].pass(dy);
        inputs[1].write_or_add(
            DType::f32, [&](const Tensor& db, bool accumulate) { column_sum(dy, db, accumulate); });
      });
}

}  // namespace minibert
