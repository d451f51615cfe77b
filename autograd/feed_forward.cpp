// feed_forward.cpp: linear, GELU, linear as one op, so that bias and GELU live in the epilogue of
// the first product and GELU's derivative and the bias gradient in that of backward's first. The
// second bias belongs to add_norm. Called by nn's encoder layer. Composed twin:
// autograd/composed.cpp. Test: ctest -R autograd_composed.
#include "autograd/check.h"
#include "autograd/linear.h"

namespace minibert {
namespace {

/// What backward needs. `hidden` is free once ddown is computed: its buffer then holds dpre.
struct Saved {
  Tensor x;         // [T, H]
  Tensor up, down;  // [F, H], [H, F]
  Tensor pre_gelu;  // [T, F]
  Tensor hidden;    // [T, F]  gelu(pre_gelu)
  Gelu kind;
};

void backward(const Saved& saved, const Tensor& dy, std::vector<GradientTarget>& inputs) {
  const GradientTarget &dx = inputs[0], &dup = inputs[1], &dup_bias = inputs[2], &ddown = inputs[3];
  linear_backward_weight(dy, saved.hidden, ddown);
  if (!dx.wanted() && !dup.wanted() && !dup_bias.wanted()) return;
  GemmArgs args;  // dpre [T, F] = (dy [T, H] down [H, F]) * gelu'(pre)
  args.a = dy;
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
  linear_backward_weight(dpre, saved.x, dup);
  linear_backward_x(dpre, saved.up, dx);
}

}  // namespace

Variable feed_forward(const Variable& x, const Variable& up, const Variable& up_bias,
                      const Variable& down, Gelu kind) {
  constexpr const char* kOp = "feed_forward";
  check_rank(kOp, "up_bias", up_bias, 1);
  check_linear(kOp, x, up, up_bias);
  check_rank(kOp, "down", down, 2);
  check_shape(kOp, "down", down.shape(), {down.shape()[0], up.shape()[0]}, "columns = rows of up",
              up.shape());
  const bool save = will_record({x, up, up_bias, down});
  const Shape inner{x.shape()[0], up.shape()[0]};  // [T, F]
  const Tensor hidden = x.value().like(inner);
  const Tensor pre_gelu = save ? x.value().like(inner) : Tensor();
  GemmArgs first = linear_gemm(x.value(), up.value(), hidden);
  first.bias = up_bias.value();
  first.epilogue = GemmArgs::Epilogue::bias_gelu;
  first.gelu = kind;
  first.pre_activation = pre_gelu;
  gemm(first);
  const Tensor y = x.value().like({x.shape()[0], down.shape()[0]});
  gemm(linear_gemm(hidden, down.value(), y));
  const Saved saved{x.value(), up.value(), down.value(), pre_gelu, hidden, kind};
  return make_result(kOp, y, {x, up, up_bias, down},
                     [saved](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       backward(saved, dy, inputs);
                     });
}

}  // namespace minibert
