// feed_forward.cpp: linear, GELU, linear and the end of the sublayer as one op. Bias and GELU live in
// the epilogue of the first product; bias, dropout and the residual sum, the residual being x, in that
// of the second; GELU's derivative and the first bias's gradient in that of backward's first. Called by
// nn's encoder layer. Composed twin: autograd/composed.cpp. Test: ctest -R autograd_composed.
#include "autograd/check.h"
#include "autograd/layer_norm.h"

namespace minibert {
namespace {

/// What backward needs. `hidden` is free once ddown is computed: its buffer then holds dpre.
struct Saved {
  Tensor x;         // [T, H]
  Tensor up, down;  // [F, H], [H, F]
  Tensor pre_gelu;  // [T, F]
  Tensor hidden;    // [T, F]  gelu(pre_gelu)
  Gelu kind;
  SavedNorm norm;
};

// inputs: x, up, up_bias, down, and the end's bias, weight and beta.
void backward(const Saved& saved, const Tensor& dy, std::vector<GradientTarget>& inputs) {
  GradientTarget dx = inputs[0];
  const GradientTarget &dup = inputs[1], &dup_bias = inputs[2], &ddown = inputs[3];
  const bool into_first = dx.wanted() || dup.wanted() || dup_bias.wanted();
  GradientTarget second;  // of hidden down^T
  if (into_first || ddown.wanted()) second.buffer = dy.like(dy.shape());
  norm_backward(saved.norm, dy, {second, inputs[4], dx, inputs[5], inputs[6]});
  linear_backward_parameters(second.buffer, saved.hidden, ddown);
  if (!into_first) return;
  dx.accumulate = true;  // holds what came by way of the residual
  GemmArgs args;         // dpre [T, F] = (d second [T, H] down [H, F]) * gelu'(pre)
  args.a = second.buffer;
  args.b = saved.down;
  args.c = saved.hidden;
  args.epilogue = GemmArgs::Epilogue::dgelu;
  args.gelu = saved.kind;
  args.pre_activation = saved.pre_gelu;
  const auto run = [&](const Tensor& sums, bool accumulate) {
    args.column_sum = sums;
    args.accumulate_column_sum = accumulate;
    gemm(args);
  };
  dup_bias.wanted() ? dup_bias.write_or_add(DType::f32, run) : run({}, /* accumulate= */ false);
  const Tensor& dpre = saved.hidden;
  linear_backward_parameters(dpre, saved.x, dup);
  linear_backward_x(dpre, saved.up, dx);
}

}  // namespace

Variable feed_forward_add_norm(const Variable& x, const Variable& up, const Variable& up_bias,
                               const Variable& down, const Variable& down_bias, Gelu kind,
                               const Norm& norm, const RowPlaces& places, const Dropout& dropout) {
  constexpr const char* kOp = "feed_forward_add_norm";
  check_rank(kOp, "up_bias", up_bias, 1);
  check_linear(kOp, x, up, up_bias);
  check_rank(kOp, "down", down, 2);
  check_shape(kOp, "down", down.shape(), {down.shape()[0], up.shape()[0]}, "columns = rows of up",
              up.shape());
  const std::vector<Variable> inputs{x, up, up_bias, down, down_bias, norm.weight, norm.beta};
  const bool save = will_record(inputs);
  const Shape inner{x.shape()[0], up.shape()[0]};  // [T, F]
  const Tensor hidden = x.value().like(inner);
  const Tensor pre_gelu = save ? x.value().like(inner) : Tensor();
  GemmArgs first = linear_gemm(x.value(), up.value(), hidden);
  first.bias = up_bias.value();
  first.epilogue = GemmArgs::Epilogue::bias_gelu;
  first.gelu = kind;
  first.pre_activation = pre_gelu;
  gemm(first);
  SavedNorm saved_norm;
  const Tensor y = product_add_norm(kOp, linear_gemm(hidden, down.value()),
                                    {down_bias, x, norm, places, dropout}, saved_norm);
  const Saved saved{x.value(), up.value(), down.value(), pre_gelu, hidden, kind, saved_norm};
  return make_result(kOp, y, inputs, [saved](const Tensor& dy, std::vector<GradientTarget>& to) {
    backward(saved, dy, to);
  });
}

}  // namespace minibert
