// linear.cpp: y = x weight^T + bias, as three matrix products (forward, dx, dweight) and a column
// sum. Gradients are written straight into their buffers, f32 for leaves: the GEMM accumulates where
// it is not the first contribution. Called by nn/modules.h. Kernels:
// core/kernels/gemm.h. Test: ctest -R autograd_op_info.
#include "autograd/linear.h"

#include "autograd/check.h"
#include "autograd/op_samples.h"
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

void linear_backward_weight(const Tensor& dy, const Tensor& x, const GradientTarget& dweight) {
  if (!dweight.wanted()) return;
  GemmArgs args;  // dweight [N, K] = dy^T [N, T] x [T, K]
  args.a = dy;
  args.transpose_a = true;
  args.b = x;
  args.c = dweight.buffer;
  args.accumulate = dweight.accumulate;
  gemm(args);
}

void linear_backward_bias(const Tensor& dy, const GradientTarget& dbias) {
  dbias.write_or_add(
      DType::f32, [&](const Tensor& sums, bool accumulate) { column_sum(dy, sums, accumulate); });
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
                       linear_backward_weight(dy, x, inputs[1]);
                       linear_backward_bias(dy, inputs[2]);
                     });
}

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

OpSample linear_sample(int64_t T, int64_t N, int64_t K, bool has_bias, uint64_t seed) {
  SampleMaker make(seed);
  OpSample s;
  s.sizes = fmt::format("T={} N={} K={}{}", T, N, K, has_bias ? "" : " no bias");
  s.inputs = {make.values({T, K}), make.values({N, K}), has_bias ? make.values({N}) : Tensor()};
  s.forward = [](const std::vector<Variable>& in) { return linear(in[0], in[1], in[2]); };
  s.reference = [=](const std::vector<Doubles>& in) {
    return plain::linear(in[0], in[1], in[2], T, N, K);
  };
  s.forward_cost = product(T, N, K);
  s.backward_cost = linear_backward_cost(T, N, K);
  return s;
}

}  // namespace

OpInfo linear_info() {
  return {"linear",
          "y = x weight^T [+ bias]",
          "x [T, K]; weight [N, K]; bias [N]; y [T, N]",
          "x, weight",
          {"x", "weight", "bias"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{
                linear_sample(0, 3, 5, true, seed),   linear_sample(1, 1, 1, true, seed),
                linear_sample(7, 5, 3, false, seed),  linear_sample(17, 19, 33, true, seed),
                linear_sample(3, 65, 15, true, seed), linear_sample(16, 32, 16, false, seed)};
          },
          [](uint64_t seed) {
            return linear_sample(BertBase::T, BertBase::H, BertBase::H, true, seed);
          }};
}

}  // namespace minibert
