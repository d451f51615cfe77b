// layer_norm.cpp: LayerNorm, and add_norm: bias, dropout, residual sum and LayerNorm in one pass
// over memory, which ends both halves of an encoder layer. add_norm saves the sum z, written over x
// where nobody else can see x. Kernel: core/kernels/layer_norm.h. Composed twin:
// autograd/composed.cpp. Test: ctest -R autograd_composed.
#include "core/kernels/layer_norm.h"

#include "autograd/check.h"
#include "autograd/ops.h"

namespace minibert {
namespace {

void check_row_vector(const char* op, const char* what, const Variable& v, const Variable& x) {
  check_rank(op, what, v, 1);
  check_shape(op, what, v.shape(), {x.shape()[1]}, "last dimension of x", x.shape());
}

// y, mean and rstd for rows of x.
LayerNormForward forward_args(const Variable& x, const Variable& weight, const Variable& beta,
                              float eps) {
  MB_CHECK(eps > 0, "layer_norm: eps is {}, expected more than 0", eps);
  LayerNormForward args;
  args.x = x.value();
  args.weight = weight.value();
  args.beta = beta.value();
  args.eps = eps;
  args.y = Tensor::empty(x.shape());
  args.mean = Tensor::empty({x.shape()[0]});
  args.rstd = Tensor::empty({x.shape()[0]});
  return args;
}

// Saved tensors, dz and the gradients of weight and beta.
LayerNormBackward backward_args(const LayerNormForward& saved, const Tensor& dy,
                                const GradientTarget& dz, const GradientTarget& dweight,
                                const GradientTarget& dbeta) {
  LayerNormBackward args;
  args.dy = dy;
  args.z = saved.z;
  args.mean = saved.mean;
  args.rstd = saved.rstd;
  args.weight = saved.weight;
  args.dz = dz.wanted() ? dz.buffer : Tensor::empty(dy.shape());
  args.accumulate_dz = dz.accumulate;
  args.dweight = dweight.buffer;
  args.accumulate_dweight = dweight.accumulate;
  args.dbeta = dbeta.buffer;
  args.accumulate_dbeta = dbeta.accumulate;
  return args;
}

}  // namespace

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& beta, float eps) {
  check_rank("layer_norm", "x", x, 2);
  check_row_vector("layer_norm", "weight", weight, x);
  check_row_vector("layer_norm", "beta", beta, x);
  LayerNormForward args = forward_args(x, weight, beta, eps);
  layer_norm_forward(args);
  const Tensor y = args.y;
  args.z = args.x;
  args.y = args.x = args.beta = {};  // not saved
  return make_result(
      "layer_norm", y, {x, weight, beta},
      [args](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        layer_norm_backward(backward_args(args, dy, inputs[0], inputs[1], inputs[2]));
      });
}

namespace {

// inputs: x, bias, residual, weight, beta. d residual = dz; dx = dz behind dropout's mask.
void add_norm_backward(const LayerNormForward& saved, const Tensor& dy,
                       std::vector<GradientTarget>& inputs) {
  LayerNormBackward args = backward_args(saved, dy, inputs[2], inputs[3], inputs[4]);
  args.dbias = inputs[1].buffer;
  args.accumulate_dbias = inputs[1].accumulate;
  args.position = saved.position;
  args.row_sample = saved.row_sample;
  args.dropout = saved.dropout;
  if (inputs[0].wanted()) {
    inputs[0].write([&](const Tensor& dx) {
      args.dx = dx;
      layer_norm_backward(args);
    });
    return;
  }
  if (args.dropout.active()) args.dx = Tensor::empty(dy.shape());
  layer_norm_backward(args);
}

Variable add_norm(const Variable& x, bool in_place, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout) {
  constexpr const char* kOp = "add_norm";
  check_rank(kOp, "x", x, 2);
  check_rank(kOp, "residual", residual, 2);
  check_shape(kOp, "residual", residual.shape(), x.shape(), "the shape of x", x.shape());
  check_row_vector(kOp, "bias", bias, x);
  check_row_vector(kOp, "weight", weight, x);
  check_row_vector(kOp, "beta", beta, x);
  LayerNormForward args = forward_args(x, weight, beta, eps);
  args.bias = bias.value();
  args.residual = residual.value();
  args.z = in_place ? args.x : Tensor::empty(x.shape());
  args.dropout = dropout;
  if (dropout.active()) {
    check_index(kOp, "position", places.position, x.shape()[0], "row of x");
    check_index(kOp, "row_sample", places.row_sample, x.shape()[0], "row of x");
    args.position = places.position;
    args.row_sample = places.row_sample;
  }
  layer_norm_forward(args);
  const Tensor y = args.y;
  args.y = args.x = args.beta = args.bias = args.residual = {};  // not saved
  return make_result(kOp, y, {x, bias, residual, weight, beta},
                     [args](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       add_norm_backward(args, dy, inputs);
                     });
}

}  // namespace

Variable add_norm(const Variable& x, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout) {
  return add_norm(x, /* in_place= */ false, bias, residual, weight, beta, eps, places, dropout);
}

Variable add_norm(Variable&& x, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout) {
  // Neither another variable nor a backward function may hold x: only then is it ours.
  const bool unseen = x.defined() && x.state().use_count() == 1 && x.value().unique();
  return add_norm(x, unseen, bias, residual, weight, beta, eps, places, dropout);
}

}  // namespace minibert
