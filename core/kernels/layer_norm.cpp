// layer_norm.cpp: checks, costs, the double reference and the caller of the fast CPU kernels
// (layer_norm_simd.cpp). Contract and mathematics: layer_norm.h. Test: ctest -R layer_norm.
#include "core/kernels/layer_norm.h"

#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace minibert {
namespace {

// Checks one operand against the shape that x (or dy), called `main`, asks for.
struct Checker {
  const char* op;
  const char* main_name;
  Shape main;

  void operator()(const char* name, const Tensor& tensor, const Shape& expected,
                  DType dtype = DType::f32) const {
    MB_CHECK(tensor.defined() && tensor.dtype() == dtype && tensor.shape() == expected,
             "{}: {} is {} {}, expected {} {} ({} is {}).", op, name,
             tensor.defined() ? name_of(tensor.dtype()) : "undefined", tensor.shape().str(),
             name_of(dtype), expected.str(), main_name, main.str());
  }
  void optional(const char* name, const Tensor& tensor, const Shape& expected) const {
    if (tensor.defined()) (*this)(name, tensor, expected);
  }
};

Checker check_main(const char* op, const char* name, const Tensor& tensor) {
  MB_CHECK(
      tensor.defined() && tensor.dtype() == DType::f32 && tensor.rank() == 2 && tensor.dim(1) >= 1,
      "{}: {} is {}, expected f32 [T, H] with H at least 1.", op, name, tensor.shape().str());
  return {op, name, tensor.shape()};
}

void check(const LayerNormForward& args) {
  const Checker check = check_main("layer_norm_forward", "x", args.x);
  const Shape TH = args.x.shape(), T{TH[0]}, H{TH[1]};
  check.optional("bias", args.bias, H);
  check.optional("residual", args.residual, TH);
  check("weight", args.weight, H);
  check("beta", args.beta, H);
  check("y", args.y, TH);
  check("mean", args.mean, T);
  check("rstd", args.rstd, T);
  const bool plain = !args.bias.defined() && !args.residual.defined() && !args.dropout.active();
  if (args.z.defined() || !plain) check("z", args.z, TH);
  if (!args.dropout.active()) return;
  check("position", args.position, T, DType::i32);
  check("row_sample", args.row_sample, T, DType::i32);
}

void check(const LayerNormBackward& args) {
  const Checker check = check_main("layer_norm_backward", "dy", args.dy);
  const Shape TH = args.dy.shape(), T{TH[0]}, H{TH[1]};
  check("z", args.z, TH);
  check("mean", args.mean, T);
  check("rstd", args.rstd, T);
  check("weight", args.weight, H);
  check("dz", args.dz, TH);
  check.optional("dbias", args.dbias, H);
  check.optional("dweight", args.dweight, H);
  check.optional("dbeta", args.dbeta, H);
  if (args.dx.defined() || args.dropout.active()) check("dx", args.dx, TH);
  if (!args.dropout.active()) return;
  check("position", args.position, T, DType::i32);
  check("row_sample", args.row_sample, T, DType::i32);
}

}  // namespace

// ---- 3. Cost ----
double layer_norm_forward_bytes(const LayerNormForward& args) {
  const double TH = static_cast<double>(args.x.numel());
  const int arrays = 2 + (args.residual.defined() ? 1 : 0) + (args.z.defined() ? 1 : 0);
  return 4.0 * (arrays * TH + 3.0 * args.x.dim(1) + 2.0 * args.x.dim(0));
}

double layer_norm_backward_bytes(const LayerNormBackward& args) {
  const double TH = static_cast<double>(args.dy.numel());
  const int arrays = 3 + (args.dx.defined() ? 1 : 0) + (args.accumulate_dz ? 1 : 0);
  return 4.0 * (arrays * TH + 4.0 * args.dy.dim(1) + 2.0 * args.dy.dim(0));
}

// ---- 6. Reference ----
namespace {

double dropout_factor(const Dropout& dropout, const Tensor& position, const Tensor& row_sample,
                      int64_t t, int64_t h) {
  if (!dropout.active()) return 1.0;
  const PhiloxOutput output =
      philox4x32(hidden_counter(dropout, static_cast<uint32_t>(h / 4),
                                static_cast<uint32_t>(position.data<int32_t>()[t]),
                                static_cast<uint32_t>(row_sample.data<int32_t>()[t])),
                 dropout.seed);
  const bool keep = dropout_keeps(output[static_cast<size_t>(h % 4)], dropout.threshold);
  return keep ? 65536.0 / (65536.0 - dropout.threshold) : 0.0;
}

double average(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// target (+)= sum
void store_sums(const std::vector<double>& sum, const Tensor& target, bool accumulate) {
  if (!target.defined()) return;
  float* out = target.data<float>();
  for (size_t h = 0; h < sum.size(); ++h)
    out[h] = static_cast<float>(accumulate ? out[h] + sum[h] : sum[h]);
}

}  // namespace

void layer_norm_forward_reference(const LayerNormForward& args) {
  check(args);
  const int64_t T = args.x.dim(0), H = args.x.dim(1);
  std::vector<double> z(H);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h) {
      const double bias = args.bias.defined() ? args.bias.data<float>()[h] : 0.0;
      const double residual = args.residual.defined() ? args.residual.data<float>()[t * H + h] : 0;
      z[h] = residual + (args.x.data<float>()[t * H + h] + bias) *
                            dropout_factor(args.dropout, args.position, args.row_sample, t, h);
    }
    const double mean = average(z);
    double variance = 0;
    for (double value : z) variance += (value - mean) * (value - mean) / static_cast<double>(H);
    const double rstd = 1.0 / std::sqrt(variance + args.eps);
    for (int64_t h = 0; h < H; ++h) {
      if (args.z.defined()) args.z.data<float>()[t * H + h] = static_cast<float>(z[h]);
      args.y.data<float>()[t * H + h] = static_cast<float>(
          (z[h] - mean) * rstd * args.weight.data<float>()[h] + args.beta.data<float>()[h]);
    }
    args.mean.data<float>()[t] = static_cast<float>(mean);
    args.rstd.data<float>()[t] = static_cast<float>(rstd);
  }
}

void layer_norm_backward_reference(const LayerNormBackward& args) {
  check(args);
  const int64_t T = args.dy.dim(0), H = args.dy.dim(1);
  std::vector<double> dbias(H), dweight(H), dbeta(H), g(H), xhat(H), g_xhat(H);
  for (int64_t t = 0; t < T; ++t) {
    const float *dy = args.dy.data<float>() + t * H, *z = args.z.data<float>() + t * H;
    const double mean = average(std::vector<double>(z, z + H));
    const double rstd = args.rstd.data<float>()[t];
    for (int64_t h = 0; h < H; ++h) {
      xhat[h] = (z[h] - mean) * rstd;
      g[h] = static_cast<double>(dy[h]) * args.weight.data<float>()[h];
      g_xhat[h] = g[h] * xhat[h];
      dweight[h] += dy[h] * xhat[h];
      dbeta[h] += dy[h];
    }
    const double average_g = average(g), average_g_xhat = average(g_xhat);
    for (int64_t h = 0; h < H; ++h) {
      const double dz = rstd * (g[h] - average_g - xhat[h] * average_g_xhat);
      const double dx = dz * dropout_factor(args.dropout, args.position, args.row_sample, t, h);
      float* out = args.dz.data<float>() + t * H + h;
      *out = static_cast<float>(args.accumulate_dz ? *out + dz : dz);
      if (args.dx.defined()) args.dx.data<float>()[t * H + h] = static_cast<float>(dx);
      dbias[h] += dx;
    }
  }
  store_sums(dbias, args.dbias, args.accumulate_dbias);
  store_sums(dweight, args.dweight, args.accumulate_dweight);
  store_sums(dbeta, args.dbeta, args.accumulate_dbeta);
}

// ---- 7. Fast CPU ----
void layer_norm_forward(const LayerNormForward& args, Stream) {
  check(args);
  dispatch("layer_norm_forward", args.x.device(), 10.0 * args.x.numel(),
           layer_norm_forward_bytes(args), [&] { layer_norm_forward_reference(args); });
}

void layer_norm_backward(const LayerNormBackward& args, Stream) {
  check(args);
  dispatch("layer_norm_backward", args.dy.device(), 20.0 * args.dy.numel(),
           layer_norm_backward_bytes(args), [&] { layer_norm_backward_reference(args); });
}

}  // namespace minibert
