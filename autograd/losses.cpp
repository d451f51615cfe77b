// losses.cpp: softmax cross-entropy of logits, and masked_lm_loss, which makes the logits itself
// (the tied decoder), so that [P, V] exists once: backward turns it into its own gradient in place.
// `scale` is 1 / rows of the whole global step, so micro-batches add up. Kernel:
// core/kernels/cross_entropy.h. Composed twin: autograd/composed.cpp.
// Test: ctest -R autograd_composed.
#include <cmath>
#include <numeric>

#include "autograd/check.h"
#include "autograd/composed.h"
#include "autograd/linear.h"
#include "autograd/op_samples.h"
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

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

OpSample cross_entropy_sample(int64_t P, int64_t V, float scale, uint64_t seed) {
  SampleMaker make(seed);
  const Tensor label = make.indices(P, V);
  OpSample s;
  s.sizes = fmt::format("P={} V={}", P, V);
  s.inputs = {make.values({P, V}, 2)};
  s.forward = [=](const std::vector<Variable>& in) { return cross_entropy(in[0], label, scale); };
  s.reference = [=](const std::vector<Doubles>& in) {
    return Doubles{scale * plain::cross_entropy(in[0], label, V, V)};
  };
  const double n = static_cast<double>(P * V);
  s.forward_cost = moved(n + 3 * P, 3 * n);
  s.backward_cost = moved(2 * n + 2 * P, 3 * n);
  s.saved_bytes = 4 * P;
  return s;
}

OpSample masked_lm_loss_sample(int64_t P, int64_t H, int64_t V, int64_t classes, float scale,
                               uint64_t seed) {
  SampleMaker make(seed);
  const Tensor label = make.indices(P, classes);
  OpSample s;
  s.sizes = fmt::format("P={} H={} V={} classes={}", P, H, V, classes);
  s.inputs = {make.values({P, H}), make.values({V, H}, 2 / std::sqrt(1.0 * H)), make.values({V})};
  s.forward = [=](const std::vector<Variable>& in) {
    return masked_lm_loss(in[0], in[1], in[2], label, classes, scale);
  };
  s.composed = [=](const std::vector<Variable>& in) {
    return composed::masked_lm_loss(in[0], in[1], in[2], label, classes, scale);
  };
  s.reference = [=](const std::vector<Doubles>& in) {
    const Doubles logits = plain::linear(in[0], in[1], in[2], P, V, H);
    return Doubles{scale * plain::cross_entropy(logits, label, V, classes)};
  };
  const double n = static_cast<double>(P * V);
  s.forward_cost = product(P, V, H) + moved(n + 3 * P, 3 * n);
  s.backward_cost = linear_backward_cost(P, V, H) + moved(2 * n + 2 * P, 3 * n);
  s.saved_bytes = 4 * (P * V + P);
  return s;
}

}  // namespace

OpInfo cross_entropy_info() {
  return {"cross_entropy",
          "loss = scale * sum over p of (log sum_v exp(logits[p, v]) - logits[p, label[p]])",
          "logits [P, V]; label [P]; loss []",
          "logits, log-sum-exp [P]",
          {"logits"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{
                cross_entropy_sample(0, 3, 1, seed), cross_entropy_sample(1, 1, 1, seed),
                cross_entropy_sample(8, 2, 0.125f, seed), cross_entropy_sample(13, 37, 0.5f, seed)};
          },
          [](uint64_t seed) { return cross_entropy_sample(BertBase::P, BertBase::V, 1, seed); }};
}

OpInfo masked_lm_loss_info() {
  return {"masked_lm_loss",
          "loss = cross_entropy(x weight^T + bias)",
          "x [P, H]; weight [V, H]; bias [V]; label [P]; loss []",
          "x, weight, logits [P, V], log-sum-exp [P]",
          {"x", "weight", "bias"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{masked_lm_loss_sample(0, 3, 5, 4, 1, seed),
                                         masked_lm_loss_sample(1, 1, 1, 1, 1, seed),
                                         masked_lm_loss_sample(5, 7, 64, 37, 0.2f, seed),
                                         masked_lm_loss_sample(13, 9, 33, 33, 1, seed)};
          },
          [](uint64_t seed) {
            return masked_lm_loss_sample(BertBase::P, BertBase::H, BertBase::V, BertBase::classes,
                                         1.0f / BertBase::P, seed);
          }};
}

}  // namespace minibert
