// losses.cpp: softmax cross-entropy of logits, and masked_lm_loss, which computes the logits itself
// (the tied decoder), so that [P, V] exists once: backward turns it into its own gradient in place.
// The site's scale is the loss scale / rows of the whole global step, so micro-batches add up.
// Kernel: core/kernels/cross_entropy.h. Composed twin: autograd/composed.cpp.
// Test: ctest -R autograd_composed.
#include "autograd/check.h"
#include "autograd/linear.h"
#include "core/kernels/cross_entropy.h"

namespace minibert {
namespace {

/// What backward needs: logits [P, V], label [P], lse [P], and where the scale is.
struct Rows {
  Tensor logits, label, lse;
  int64_t classes;
  const float* scale;
};

// Scalar loss of the rows; fills rows.lse.
Tensor forward(Rows& rows, const LossSite& site) {
  const auto f32 = [&](Shape shape) {
    return Tensor::empty(shape, DType::f32, MemoryCategory::activations, rows.logits.device());
  };
  rows.lse = f32({rows.logits.dim(0)});
  const Tensor loss = f32({});
  cross_entropy_forward({rows.logits, rows.label, rows.lse, loss, site, rows.classes});
  return loss;
}

// dlogits may be the logits themselves.
void backward(const Rows& rows, const Tensor& dy, const Tensor& dlogits) {
  cross_entropy_backward(
      {rows.logits, rows.label, rows.lse, dy, dlogits, rows.scale, rows.classes});
}

}  // namespace

Variable cross_entropy(const Variable& logits, const Tensor& label, const LossSite& site) {
  check_rank("cross_entropy", "logits", logits, 2);
  check_index("cross_entropy", "label", label, logits.shape()[0], "row of logits");
  Rows rows{logits.value(), label, {}, logits.shape()[1], site.scale};
  const Tensor loss = forward(rows, site);
  return make_result("cross_entropy", loss, {logits},
                     [rows](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       inputs[0].write(rows.logits.dtype(),
                                       [&](const Tensor& dlogits) { backward(rows, dy, dlogits); });
                     });
}

Variable masked_lm_loss(const Variable& x, const Variable& weight, const Variable& bias,
                        const Tensor& label, int64_t classes, const LossSite& site) {
  constexpr const char* kOp = "masked_lm_loss";
  check_rank(kOp, "bias", bias, 1);
  check_linear(kOp, x, weight, bias);
  check_index(kOp, "label", label, x.shape()[0], "row of x");
  MB_CHECK(classes >= 1 && classes <= weight.shape()[0],
           "{}: classes is {}, expected 1 to {} = rows of weight {}. Check vocab_size", kOp,
           classes, weight.shape()[0], weight.shape().str());
  Rows rows{x.value().like({x.shape()[0], weight.shape()[0]}), label, {}, classes, site.scale};
  GemmArgs product = linear_gemm(x.value(), weight.value(), rows.logits);
  product.bias = bias.value();
  gemm(product);
  const Tensor loss = forward(rows, site);
  return make_result(kOp, loss, {x, weight, bias},
                     [rows, x = x.value(), weight = weight.value()](
                         const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       const Tensor& dlogits = rows.logits;  // in place
                       backward(rows, dy, dlogits);
                       linear_backward_x(dlogits, weight, inputs[0]);
                       linear_backward_parameters(dlogits, x, inputs[1], inputs[2]);
                     });
}

}  // namespace minibert
