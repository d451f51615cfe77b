// losses.cpp: softmax cross-entropy of logits, and masked_lm_loss, which makes the logits itself
// (the tied decoder), so that [P, V] exists once: backward turns it into its own gradient in place.
// `scale` is 1 / rows of the whole global step, so micro-batches add up. Kernel:
// core/kernels/cross_entropy.h. Composed twin: autograd/composed.cpp. Test: ctest -R
// autograd_composed.
#include <numeric>

#include "autograd/check.h"
#include "autograd/linear.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/reduce.h"

namespace minibert {
namespace {

/// What backward needs: logits [P, V], label [P], lse [P].
struct Rows {
  Tensor logits, label, lse;
  int64_t classes;
  float scale;
};

// Scalar loss of the rows; fills rows.lse.
Tensor forward(Rows& rows, LossStatistics* statistics) {
  const int64_t P = rows.logits.dim(0);
  rows.lse = Tensor::empty({P});
  const Tensor row_loss = Tensor::empty({P}), correct = Tensor::empty({P}, DType::u8);
  cross_entropy_forward({rows.logits, rows.label, rows.lse, row_loss, correct, rows.classes});
  const double loss_sum = sum(row_loss);
  if (statistics != nullptr) {
    const auto hits = correct.span<uint8_t>();
    *statistics = {loss_sum, P, std::accumulate(hits.begin(), hits.end(), int64_t{0})};
  }
  const Tensor loss = Tensor::empty({});
  *loss.data<float>() = static_cast<float>(rows.scale * loss_sum);
  return loss;
}

// dlogits may be the logits themselves.
void backward(const Rows& rows, const Tensor& dy, const Tensor& dlogits) {
  cross_entropy_backward(
      {rows.logits, rows.label, rows.lse, dlogits, rows.classes, rows.scale * dy.item()});
}

}  // namespace

Variable cross_entropy(const Variable& logits, const Tensor& label, float scale,
                       LossStatistics* statistics) {
  check_rank("cross_entropy", "logits", logits, 2);
  check_index("cross_entropy", "label", label, logits.shape()[0], "row of logits");
  Rows rows{logits.value(), label, {}, logits.shape()[1], scale};
  const Tensor loss = forward(rows, statistics);
  return make_result("cross_entropy", loss, {logits},
                     [rows](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       inputs[0].write([&](const Tensor& dlogits) { backward(rows, dy, dlogits); });
                     });
}

Variable masked_lm_loss(const Variable& x, const Variable& weight, const Variable& bias,
                        const Tensor& label, int64_t classes, float scale,
                        LossStatistics* statistics) {
  constexpr const char* kOp = "masked_lm_loss";
  check_rank(kOp, "bias", bias, 1);
  check_linear(kOp, x, weight, bias);
  check_index(kOp, "label", label, x.shape()[0], "row of x");
  MB_CHECK(classes >= 1 && classes <= weight.shape()[0],
           "{}: classes is {}, expected 1 to {} = rows of weight {}. Check vocab_size", kOp,
           classes, weight.shape()[0], weight.shape().str());
  Rows rows{Tensor::empty({x.shape()[0], weight.shape()[0]}), label, {}, classes, scale};
  GemmArgs product = linear_gemm(x.value(), weight.value(), rows.logits);
  product.bias = bias.value();
  gemm(product);
  const Tensor loss = forward(rows, statistics);
  return make_result(kOp, loss, {x, weight, bias},
                     [rows, x = x.value(), weight = weight.value()](
                         const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       const Tensor& dlogits = rows.logits;  // in place
                       backward(rows, dy, dlogits);
                       linear_backward_x(dlogits, weight, inputs[0]);
                       linear_backward_weight(dlogits, x, inputs[1]);
                       linear_backward_bias(dlogits, inputs[2]);
                     });
}

}  // namespace minibert
