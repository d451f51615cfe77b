// linear_activation.cpp: a linear layer and what is applied to it: linear_gelu (the MLM head's
// transform) and linear_tanh (the pooler). Composed twins: autograd/composed.cpp.
// Test: ctest -R autograd_composed.
#include <cmath>

#include "autograd/check.h"
#include "autograd/composed.h"
#include "autograd/linear.h"
#include "autograd/op_samples.h"
#include "core/kernels/elementwise.h"

namespace minibert {
namespace {

// inputs: x, weight, bias of the linear layer; dpre [T, N] is the gradient of its result.
void backward_linear(const Tensor& dpre, const Tensor& x, const Tensor& weight,
                     std::vector<GradientTarget>& inputs) {
  linear_backward_x(dpre, weight, inputs[0]);
  linear_backward_weight(dpre, x, inputs[1]);
  linear_backward_bias(dpre, inputs[2]);
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

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

using Variables = std::vector<Variable>;

OpSample linear_then_sample(int64_t T, int64_t N, int64_t K, uint64_t seed,
                            const std::function<double(double)>& activation) {
  SampleMaker make(seed);
  OpSample s;
  s.sizes = fmt::format("T={} N={} K={}", T, N, K);
  // One element alone stays where slopes are large, since errors are relative to the largest.
  const bool alone = T * N == 1;
  s.inputs = {make.values({T, K}, 0.5), make.values({N, K}, 0.5 / std::sqrt(1.0 * K)),
              alone ? make.values({N}, 0.1, 1) : make.values({N}, 0.5)};
  s.reference = [=](const std::vector<Doubles>& in) {
    return plain::map(plain::linear(in[0], in[1], in[2], T, N, K), activation);
  };
  s.forward_cost = product(T, N, K);
  s.backward_cost = linear_backward_cost(T, N, K) + moved(3.0 * T * N, 1.0 * T * N);
  return s;
}

OpSample linear_gelu_sample(int64_t T, int64_t N, int64_t K, Gelu kind, uint64_t seed) {
  OpSample s = linear_then_sample(T, N, K, seed, [kind](double x) { return plain::gelu(x, kind); });
  s.sizes += kind == Gelu::erf ? " erf" : " tanh";
  s.forward = [kind](const Variables& in) { return linear_gelu(in[0], in[1], in[2], kind); };
  s.composed = [kind](const Variables& in) {
    return composed::linear_gelu(in[0], in[1], in[2], kind);
  };
  s.forward_cost = s.forward_cost + moved(1.0 * T * N, 1.0 * T * N);
  s.saved_bytes = 4 * T * N;
  return s;
}

OpSample linear_tanh_sample(int64_t T, int64_t N, int64_t K, uint64_t seed) {
  OpSample s = linear_then_sample(T, N, K, seed, [](double x) { return std::tanh(x); });
  s.forward = [](const Variables& in) { return linear_tanh(in[0], in[1], in[2]); };
  s.composed = [](const Variables& in) { return composed::linear_tanh(in[0], in[1], in[2]); };
  s.forward_cost = s.forward_cost + moved(2.0 * T * N, 1.0 * T * N);
  return s;
}

}  // namespace

OpInfo linear_gelu_info() {
  return {"linear_gelu",
          "y = gelu(x weight^T + bias)",
          "x [T, K]; weight [N, K]; bias [N]; y [T, N]",
          "x, weight, pre-activation [T, N]",
          {"x", "weight", "bias"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{linear_gelu_sample(0, 3, 5, Gelu::erf, seed),
                                         linear_gelu_sample(1, 1, 1, Gelu::erf, seed),
                                         linear_gelu_sample(7, 33, 17, Gelu::tanh, seed),
                                         linear_gelu_sample(17, 19, 33, Gelu::erf, seed)};
          },
          [](uint64_t seed) {
            return linear_gelu_sample(BertBase::P, BertBase::H, BertBase::H, Gelu::erf, seed);
          }};
}

OpInfo linear_tanh_info() {
  return {"linear_tanh",
          "y = tanh(x weight^T + bias)",
          "x [T, K]; weight [N, K]; bias [N]; y [T, N]",
          "x, weight, y",
          {"x", "weight", "bias"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{linear_tanh_sample(0, 3, 5, seed),
                                         linear_tanh_sample(1, 1, 1, seed),
                                         linear_tanh_sample(5, 33, 17, seed)};
          },
          [](uint64_t seed) {
            return linear_tanh_sample(BertBase::B, BertBase::H, BertBase::H, seed);
          }};
}

}  // namespace minibert
