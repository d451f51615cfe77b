// losses.cpp: softmax cross-entropy of logits, and masked_lm_loss, which computes the logits itself
// (the tied decoder), so that [P, V] exists once: backward turns it into its own gradient in place.
// The site's scale is 1 / rows of the whole global step, so micro-batches add up. Kernel:
// core/kernels/cross_entropy.h. Composed twin: autograd/composed.cpp.
// Test: ctest -R autograd_composed.
#include <cmath>
#include <memory>

#include "autograd/check.h"
#include "autograd/composed.h"
#include "autograd/linear.h"
#include "autograd/loss_meter.h"
#include "autograd/op_samples.h"
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
                       linear_backward_weight(dlogits, x, inputs[1]);
                       linear_backward_bias(dlogits, inputs[2]);
                     });
}

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

// Labels below `classes`; each fifth row is ignored.
Tensor some_labels(SampleMaker& make, int64_t P, int64_t classes) {
  const Tensor label = make.indices(P, classes);
  for (int64_t p = 4; p < P; p += 5) label.data<int32_t>()[p] = -1;
  return label;
}

OpSample cross_entropy_sample(int64_t P, int64_t V, float scale, uint64_t seed) {
  SampleMaker make(seed);
  const Tensor label = some_labels(make, P, V);
  const auto meter = std::make_shared<LossMeter>(scale);
  OpSample s;
  s.sizes = fmt::format("P={} V={}", P, V);
  s.inputs = {make.values({P, V}, 2)};
  s.forward = [=](const std::vector<Variable>& in) {
    return cross_entropy(in[0], label, meter->site());
  };
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
  const Tensor label = some_labels(make, P, classes);
  const auto meter = std::make_shared<LossMeter>(scale);
  OpSample s;
  s.sizes = fmt::format("P={} H={} V={} classes={}", P, H, V, classes);
  s.inputs = {make.values({P, H}), make.values({V, H}, 2 / std::sqrt(1.0 * H)), make.values({V})};
  s.forward = [=](const std::vector<Variable>& in) {
    return masked_lm_loss(in[0], in[1], in[2], label, classes, meter->site());
  };
  s.composed = [=](const std::vector<Variable>& in) {
    return composed::masked_lm_loss(in[0], in[1], in[2], label, classes, meter->site());
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
          "loss = scale * sum over p with a label of (log sum_v exp(logits[p, v]) - logits[p, "
          "label[p]])",
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
