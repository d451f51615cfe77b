// layer_norm.cpp: LayerNorm, and add_norm: bias, dropout, residual sum and LayerNorm in one pass
// over memory, which ends both halves of an encoder layer. add_norm saves the sum z, written over x
// where nobody else can see x. Kernel: core/kernels/layer_norm.h. Composed twin:
// autograd/composed.cpp. Test: ctest -R autograd_composed.
#include "core/kernels/layer_norm.h"

#include "autograd/check.h"
#include "autograd/composed.h"
#include "autograd/op_samples.h"
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

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

OpSample layer_norm_sample(int64_t T, int64_t H, float eps, uint64_t seed) {
  SampleMaker make(seed);
  OpSample s;
  s.sizes = fmt::format("T={} H={} eps={}", T, H, eps);
  s.inputs = {make.values({T, H}, 2, 0.5), make.values({H}, 0.5, 1), make.values({H})};
  s.forward = [eps](const std::vector<Variable>& in) {
    return layer_norm(in[0], in[1], in[2], eps);
  };
  s.reference = [=](const std::vector<Doubles>& in) {
    return plain::layer_norm(in[0], in[1], in[2], T, H, eps);
  };
  const double n = static_cast<double>(T * H);
  s.forward_cost = moved(2 * n + 2 * T + 2 * H, 8 * n);
  s.backward_cost = moved(3 * n + 2 * T + 3 * H, 16 * n);
  s.saved_bytes = 2 * 4 * T;
  return s;
}

OpSample add_norm_sample(int64_t T, int64_t H, float p, float eps, uint64_t seed) {
  SampleMaker make(seed);
  const RowPlaces places = make.places(T);
  const Dropout site = make.dropout(p);
  OpSample s;
  s.sizes = fmt::format("T={} H={} p={}", T, H, p);
  s.inputs = {make.values({T, H}), make.values({H}), make.values({T, H}), make.values({H}, 0.5, 1),
              make.values({H})};
  s.forward = [=](const std::vector<Variable>& in) {
    return add_norm(in[0], in[1], in[2], in[3], in[4], eps, places, site);
  };
  s.composed = [=](const std::vector<Variable>& in) {
    return composed::add_norm(in[0], in[1], in[2], in[3], in[4], eps, places, site);
  };
  s.reference = [=](const std::vector<Doubles>& in) {
    Doubles x = in[0];
    for (size_t i = 0; i < x.size(); ++i) x[i] += in[1][i % static_cast<size_t>(H)];
    const Doubles z = plain::add(in[2], plain::dropout(x, T, H, places, site));
    return plain::layer_norm(z, in[3], in[4], T, H, eps);
  };
  const double n = static_cast<double>(T * H);
  s.forward_cost = moved(4 * n + 4 * T + 3 * H, 11 * n);
  s.backward_cost = moved(4 * n + 4 * T + 4 * H, 18 * n);
  s.saved_bytes = 4 * (T * H + 2 * T);
  return s;
}

}  // namespace

OpInfo layer_norm_info() {
  return {"layer_norm",
          "y = (x - mean) / sqrt(var + eps) * weight + beta",
          "x, y [T, H]; weight, beta [H]",
          "x, weight, mean [T], rstd [T]",
          {"x", "weight", "beta"},
          ToleranceClass::reduction,
          [](uint64_t seed) {
            return std::vector<OpSample>{
                layer_norm_sample(0, 5, 1e-12f, seed), layer_norm_sample(1, 1, 1e-3f, seed),
                layer_norm_sample(3, 2, 0.5f, seed), layer_norm_sample(13, 37, 1e-12f, seed),
                layer_norm_sample(3, 128, 1e-5f, seed)};
          },
          [](uint64_t seed) { return layer_norm_sample(BertBase::T, BertBase::H, 1e-12f, seed); }};
}

OpInfo add_norm_info() {
  return {
      "add_norm",
      "y = layer_norm(residual + dropout(x + bias))",
      "x, residual, y [T, H]; bias, weight, beta [H]",
      "z = residual + dropout(x + bias) [T, H], weight, mean [T], rstd [T]",
      {"x", "bias", "residual", "weight", "beta"},
      ToleranceClass::reduction,
      [](uint64_t seed) {
        return std::vector<OpSample>{
            add_norm_sample(0, 5, 0.1f, 1e-12f, seed), add_norm_sample(1, 1, 0.5f, 1e-3f, seed),
            add_norm_sample(13, 37, 0.1f, 1e-12f, seed), add_norm_sample(7, 16, 0, 1e-12f, seed)};
      },
      [](uint64_t seed) { return add_norm_sample(BertBase::T, BertBase::H, 0.1f, 1e-12f, seed); }};
}

}  // namespace minibert
