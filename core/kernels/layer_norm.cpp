// layer_norm.cpp: checks, costs, the double reference and the caller of the fast CPU kernels
// (layer_norm_simd.cpp). Contract and mathematics: layer_norm.h. Test: ctest -R layer_norm.
#include "core/kernels/layer_norm.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/layer_norm_simd.h"
#include "core/kernels/reduce.h"
#include "core/parallel.h"

namespace minibert {
namespace {

// Shapes that follow from the main operand, x or dy [T, H].
struct Shapes {
  Shape TH, T, H;
  std::string why;  // "for x [37, 768]"
};

Shapes shapes_of(const char* op, const char* name, const Tensor& main) {
  check_rank(op, name, main, 2);
  MB_CHECK(main.dim(1) >= 1, "{}: {} is {}, expected [T, H] with H at least 1.", op, name,
           main.shape().str());
  return {main.shape(),
          {main.dim(0)},
          {main.dim(1)},
          fmt::format("for {} {}", name, main.shape().str())};
}

void check_optional(const char* op, const char* name, const Tensor& t, const Shape& shape,
                    const std::string& why) {
  if (t.defined()) check_tensor(op, name, t, shape, why);
}

// `Args` is LayerNormForward or LayerNormBackward.
template <typename Args>
void check_dropout(const char* op, const Args& args, const Shapes& s) {
  if (!args.dropout.active()) return;
  check_tensor(op, "position", args.position, s.T, s.why, DType::i32);
  check_tensor(op, "row_sample", args.row_sample, s.T, s.why, DType::i32);
}

void check(const LayerNormForward& args) {
  const char* op = "layer_norm_forward";
  const Shapes s = shapes_of(op, "x", args.x);
  check_optional(op, "bias", args.bias, s.H, s.why);
  check_optional(op, "residual", args.residual, s.TH, s.why);
  check_tensor(op, "weight", args.weight, s.H, s.why);
  check_tensor(op, "beta", args.beta, s.H, s.why);
  check_tensor(op, "y", args.y, s.TH, s.why);
  check_tensor(op, "mean", args.mean, s.T, s.why);
  check_tensor(op, "rstd", args.rstd, s.T, s.why);
  const bool plain = !args.bias.defined() && !args.residual.defined() && !args.dropout.active();
  if (args.z.defined() || !plain) check_tensor(op, "z", args.z, s.TH, s.why);
  check_dropout(op, args, s);
}

void check(const LayerNormBackward& args) {
  const char* op = "layer_norm_backward";
  const Shapes s = shapes_of(op, "dy", args.dy);
  check_tensor(op, "z", args.z, s.TH, s.why);
  check_tensor(op, "mean", args.mean, s.T, s.why);
  check_tensor(op, "rstd", args.rstd, s.T, s.why);
  check_tensor(op, "weight", args.weight, s.H, s.why);
  check_tensor(op, "dz", args.dz, s.TH, s.why);
  check_optional(op, "dbias", args.dbias, s.H, s.why);
  check_optional(op, "dweight", args.dweight, s.H, s.why);
  check_optional(op, "dbeta", args.dbeta, s.H, s.why);
  if (args.dx.defined() || args.dropout.active()) check_tensor(op, "dx", args.dx, s.TH, s.why);
  check_dropout(op, args, s);
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
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

// ---- 6. Reference ------------------------------------------------------------------------------
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

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

// Rows of a block of the forward pass: enough to be worth a thread's while.
constexpr int64_t kForwardRows = 16;

// Rows of a block of the backward pass, which also has its own sums over columns: at least 32, so
// that these sums cost little, and at most 128 blocks. Depends on T alone.
int64_t backward_rows(int64_t T) {
  return std::max<int64_t>(32, (T + 127) / 128);
}

// Pointer to the first float, or null where the tensor is undefined.
float* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<float>() : nullptr;
}

template <typename Args>
RowDropout row_dropout(const Args& args) {
  RowDropout d;
  if (!args.dropout.active()) return d;
  d.position = args.position.template data<int32_t>();
  d.row_sample = args.row_sample.template data<int32_t>();
  d.seed = args.dropout.seed;
  d.step_layer_purpose = args.dropout.step_layer_purpose;
  d.threshold = args.dropout.threshold;
  d.scale = args.dropout.scale;
  return d;
}

// A task's row of dropout factors; undefined without dropout.
Tensor factor_row(const Dropout& dropout, int64_t H) {
  if (!dropout.active()) return {};
  return Tensor::empty({layer_norm_padded_size(H)}, DType::f32, MemoryCategory::workspace);
}

void forward_cpu(const LayerNormForward& args) {
  LayerNormForwardRows rows;
  rows.H = args.x.dim(1);
  rows.x = args.x.data<float>();
  rows.bias = data_or_null(args.bias);
  rows.residual = data_or_null(args.residual);
  rows.weight = args.weight.data<float>();
  rows.beta = args.beta.data<float>();
  rows.z = data_or_null(args.z);
  rows.y = args.y.data<float>();
  rows.mean = args.mean.data<float>();
  rows.rstd = args.rstd.data<float>();
  rows.eps = args.eps;
  rows.dropout = row_dropout(args);
  parallel_for(args.x.dim(0), kForwardRows, [&](int64_t begin, int64_t end) {
    const Tensor factor = factor_row(args.dropout, rows.H);
    LayerNormForwardRows mine = rows;
    mine.factor = data_or_null(factor);
    MB_SIMD(layer_norm_forward_rows)(mine, begin, end);
  });
}

// Sums over columns of each block of rows, [blocks, H], added in block order by finish().
struct ColumnSums {
  Tensor target, partial;
  bool accumulate;

  ColumnSums(const Tensor& target, bool accumulate, int64_t blocks)
      : target(target), accumulate(accumulate) {
    if (target.defined())
      partial = Tensor::empty({blocks, target.dim(0)}, DType::f32, MemoryCategory::workspace);
  }
  float* block(int64_t number) const {
    return target.defined() ? partial.data<float>() + number * target.dim(0) : nullptr;
  }
  void finish() const {
    if (target.defined()) column_sum(partial, target, accumulate);
  }
};

void backward_cpu(const LayerNormBackward& args) {
  const int64_t T = args.dy.dim(0), grain = backward_rows(T), blocks = (T + grain - 1) / grain;
  const ColumnSums dbias(args.dbias, args.accumulate_dbias, blocks),
      dweight(args.dweight, args.accumulate_dweight, blocks),
      dbeta(args.dbeta, args.accumulate_dbeta, blocks);
  LayerNormBackwardRows rows;
  rows.H = args.dy.dim(1);
  rows.dy = args.dy.data<float>();
  rows.z = args.z.data<float>();
  rows.mean = args.mean.data<float>();
  rows.rstd = args.rstd.data<float>();
  rows.weight = args.weight.data<float>();
  rows.dz = args.dz.data<float>();
  rows.dx = data_or_null(args.dx);
  rows.accumulate_dz = args.accumulate_dz;
  rows.dropout = row_dropout(args);
  parallel_for(T, grain, [&](int64_t begin, int64_t end) {
    const Tensor factor = factor_row(args.dropout, rows.H);
    LayerNormBackwardRows mine = rows;
    mine.factor = data_or_null(factor);
    mine.dbias = dbias.block(begin / grain);
    mine.dweight = dweight.block(begin / grain);
    mine.dbeta = dbeta.block(begin / grain);
    MB_SIMD(layer_norm_backward_rows)(mine, begin, end);
  });
  for (const ColumnSums* sums : {&dbias, &dweight, &dbeta}) sums->finish();
}

}  // namespace

void layer_norm_forward(const LayerNormForward& args, Stream) {
  check(args);
  dispatch("layer_norm_forward", args.x.device(), 10.0 * static_cast<double>(args.x.numel()),
           layer_norm_forward_bytes(args), [&] { forward_cpu(args); });
}

void layer_norm_backward(const LayerNormBackward& args, Stream) {
  check(args);
  dispatch("layer_norm_backward", args.dy.device(), 20.0 * static_cast<double>(args.dy.numel()),
           layer_norm_backward_bytes(args), [&] { backward_cpu(args); });
}

}  // namespace minibert
