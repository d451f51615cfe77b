// layer_norm.cpp: checks, costs, the double reference and the caller of the fast CPU kernels
// (layer_norm_simd.cpp). Contract and mathematics: layer_norm.h. Test: ctest -R layer_norm.
#include "core/kernels/layer_norm.h"

#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/dropout_mask.h"
#include "core/kernels/reduce.h"
#include "core/kernels/reference.h"
#include "core/kernels/workspace.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"

namespace minibert {

// Rows begin .. end - 1. factor: room for a row of dropout's factors, in whole vectors.
MB_SIMD_DECLARE(void, layer_norm_forward_rows,
                (const LayerNormForward& args, float* factor, int64_t begin, int64_t end))
// dbias, dweight, dbeta [H]: sums over these rows alone, overwritten; null where not wanted.
MB_SIMD_DECLARE(void, layer_norm_backward_rows,
                (const LayerNormBackward& args, float* factor, float* dbias, float* dweight,
                 float* dbeta, int64_t begin, int64_t end))

namespace {

// Checks the operands of one call against its main operand, x or dy [T, H].
struct Checker {
  const char *op, *main_name;
  const Operand& main;
  Shape TH, T, H;

  Checker(const char* op, const char* main_name, const Operand& main)
      : op(op), main_name(main_name), main(main) {
    check_compute(op, main_name, main, 2);
    MB_CHECK(main.dim(1) >= 1, "{}: {} is {}, expected [T, H] with H at least 1.", op, main_name,
             shape_of(main).str());
    TH = {main.dim(0), main.dim(1)}, T = {main.dim(0)}, H = {main.dim(1)};
  }
  void is(const char* name, const Operand& t, const Shape& shape, DType dtype) const {
    if (t.defined() && shape_of(t) == shape && t.dtype() == dtype) return;
    check_tensor(op, name, t, shape, fmt::format("for {} {}", main_name, TH.str()), dtype);
  }
  void rows(const char* name, const Operand& t) const { is(name, t, TH, main.dtype()); }
  void statistic(const char* name, const Operand& t) const { is(name, t, T, DType::f32); }
  void vector(const char* name, const Operand& t) const { is(name, t, H, DType::f32); }
  void dropout(const Dropout& dropout, const Operand& position, const Operand& row_sample) const {
    if (!dropout.active()) return;
    is("position", position, T, DType::i32);
    is("row_sample", row_sample, T, DType::i32);
  }
};

void check(const LayerNormForward& args) {
  const Checker check("layer_norm_forward", "x", args.x);
  if (args.bias.defined()) check.is("bias", args.bias, check.H, args.x.dtype());
  if (args.residual.defined()) check.rows("residual", args.residual);
  check.vector("weight", args.weight);
  check.vector("beta", args.beta);
  check.rows("y", args.y);
  check.statistic("mean", args.mean);
  check.statistic("rstd", args.rstd);
  const bool plain = !args.bias.defined() && !args.residual.defined() && !args.dropout.active();
  if (args.z.defined() || !plain) check.rows("z", args.z);
  check.dropout(args.dropout, args.position, args.row_sample);
}

void check(const LayerNormBackward& args) {
  const Checker check("layer_norm_backward", "dy", args.dy);
  check.rows("z", args.z);
  check.statistic("mean", args.mean);
  check.statistic("rstd", args.rstd);
  check.vector("weight", args.weight);
  check.rows("dz", args.dz);
  if (args.dbias.defined()) check.vector("dbias", args.dbias);
  if (args.dweight.defined()) check.vector("dweight", args.dweight);
  if (args.dbeta.defined()) check.vector("dbeta", args.dbeta);
  if (args.dx.defined() || args.dropout.active()) check.rows("dx", args.dx);
  check.dropout(args.dropout, args.position, args.row_sample);
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
namespace {

// Bytes of what is given; twice where it is added to.
double moved(const Operand& t, bool accumulate = false) {
  return t.defined() ? (accumulate ? 2.0 : 1.0) * static_cast<double>(t.bytes()) : 0.0;
}

template <typename Args>
double places_moved(const Args& args) {
  return args.dropout.active() ? moved(args.position) + moved(args.row_sample) : 0.0;
}

}  // namespace

Cost layer_norm_forward_cost(const LayerNormForward& args) {
  double bytes = places_moved(args);
  for (const Operand* t : {&args.x, &args.bias, &args.residual, &args.weight, &args.beta, &args.z,
                           &args.y, &args.mean, &args.rstd})
    bytes += moved(*t);
  return {10.0 * static_cast<double>(args.x.numel()), bytes};
}

Cost layer_norm_backward_cost(const LayerNormBackward& args) {
  double bytes = places_moved(args);
  for (const Operand* t : {&args.dy, &args.z, &args.mean, &args.rstd, &args.weight, &args.dx})
    bytes += moved(*t);
  bytes += moved(args.dz, args.accumulate_dz) + moved(args.dbias, args.accumulate_dbias) +
           moved(args.dweight, args.accumulate_dweight) + moved(args.dbeta, args.accumulate_dbeta);
  return {20.0 * static_cast<double>(args.dy.numel()), bytes};
}

// ---- 6. Reference ------------------------------------------------------------------------------
namespace {

double average(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

// target (+)= sum
void store_sums(const std::vector<double>& sum, const Operand& target, bool accumulate) {
  if (!target.defined()) return;
  for (int64_t h = 0; h < target.numel(); ++h)
    put(target, h, (accumulate ? get(target, h) : 0.0) + sum[h]);
}

}  // namespace

void layer_norm_forward_reference(const LayerNormForward& args) {
  check(args);
  const int64_t T = args.x.dim(0), H = args.x.dim(1);
  std::vector<double> z(H);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h) {
      const int64_t at = t * H + h;
      const double bias = args.bias.defined() ? get(args.bias, h) : 0.0;
      const double residual = args.residual.defined() ? get(args.residual, at) : 0.0;
      z[h] = residual +
             dropped(get(args.x, at) + bias,
                     hidden_dropout_factor(args.dropout, args.position, args.row_sample, t, h));
      if (!args.z.defined()) continue;
      put(args.z, at, z[h]);
      z[h] = get(args.z, at);  // normalised as it is stored
    }
    const double mean = average(z);
    double variance = 0;
    for (double value : z) variance += (value - mean) * (value - mean) / static_cast<double>(H);
    const double rstd = 1.0 / std::sqrt(variance + args.eps);
    for (int64_t h = 0; h < H; ++h)
      put(args.y, t * H + h, (z[h] - mean) * rstd * get(args.weight, h) + get(args.beta, h));
    put(args.mean, t, mean);
    put(args.rstd, t, rstd);
  }
}

void layer_norm_backward_reference(const LayerNormBackward& args) {
  check(args);
  const int64_t T = args.dy.dim(0), H = args.dy.dim(1);
  std::vector<double> dbias(H), dweight(H), dbeta(H), z(H), g(H), xhat(H), g_xhat(H);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h) z[h] = get(args.z, t * H + h);
    const double mean = average(z), rstd = get(args.rstd, t);
    for (int64_t h = 0; h < H; ++h) {
      const double dy = get(args.dy, t * H + h);
      xhat[h] = (z[h] - mean) * rstd;
      g[h] = dy * get(args.weight, h);
      g_xhat[h] = g[h] * xhat[h];
      dweight[h] += dy * xhat[h];
      dbeta[h] += dy;
    }
    const double average_g = average(g), average_g_xhat = average(g_xhat);
    for (int64_t h = 0; h < H; ++h) {
      const int64_t at = t * H + h;
      const double dz = rstd * (g[h] - average_g - xhat[h] * average_g_xhat);
      const double dx =
          dropped(dz, hidden_dropout_factor(args.dropout, args.position, args.row_sample, t, h));
      put(args.dz, at, (args.accumulate_dz ? get(args.dz, at) : 0.0) + dz);
      if (args.dx.defined()) put(args.dx, at, dx);
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

// Rows of a block of the backward pass, which also has its own sums over columns: enough that these
// sums cost little. The same for any T: spare rows, whose terms are zeros, leave the sums' bits alone.
constexpr int64_t kBackwardRows = 32;

// Floats of a task's row of dropout factors: H rounded up to the columns that one call of Philox
// serves at most. None without dropout.
int64_t factor_floats(const Dropout& dropout, int64_t H) {
  return dropout.active() ? (H + 31) / 32 * 32 : 0;
}

float* factor_row(const Dropout& dropout, int64_t H) {
  const int64_t floats = factor_floats(dropout, H);
  return floats == 0 ? nullptr : thread_scratch_of<float>(static_cast<size_t>(floats));
}

KernelMemory forward_memory(const LayerNormForward& args) {
  if (args.x.device() == Device::cuda) return {};
  return {.thread_scratch = 4 * factor_floats(args.dropout, args.x.dim(1))};
}

void forward_cpu(const LayerNormForward& args) {
  const auto rows = MB_SIMD(layer_norm_forward_rows);
  parallel_for(args.x.dim(0), kForwardRows, [&](int64_t begin, int64_t end) {
    rows(args, factor_row(args.dropout, args.x.dim(1)), begin, end);
  });
}

// Sums over columns of each block of rows, f32 [blocks, H], added in block order by finish().
struct ColumnSums {
  Operand target, partial;
  bool accumulate;

  ColumnSums(const Operand& target, bool accumulate, int64_t blocks, float* memory)
      : target(target), partial(target), accumulate(accumulate) {
    partial.pointer = memory;
    partial.axes = 2;
    partial.dims[1] = target.dim(0);
    partial.dims[0] = blocks;
  }
  float* block(int64_t number) const {
    return target.defined() ? partial.data<float>() + number * partial.dim(1) : nullptr;
  }
  void finish() const {
    if (target.defined()) column_sum(partial, target, accumulate);
  }
};

// Floats from one array of column sums to the next: at least n, and a quarter of a page beyond whole
// pages. A row adds to all three arrays at once, and where their addresses agree in the last 12 bits
// a load waits for the store before it.
int64_t distance_of_sums(int64_t n) {
  constexpr int64_t kPage = 4096 / sizeof(float);
  return (n + kPage - 1) / kPage * kPage + kPage / 4;
}

// Blocks of rows of the backward pass, and their column sums.
struct BackwardSums {
  int64_t T, H, blocks, room;  // room: distance_of_sums
  explicit BackwardSums(const Operand& dy)
      : T(dy.dim(0)),
        H(dy.dim(1)),
        blocks((T + kBackwardRows - 1) / kBackwardRows),
        room(distance_of_sums(blocks * H)) {}
};

KernelMemory backward_memory(const LayerNormBackward& args) {
  const BackwardSums s(args.dy);
  const int64_t floats = 3 * s.room;  // on CUDA about as many: 3 blocks H of blocks as long
  if (args.dy.device() == Device::cuda) return {.workspaces = {4 * floats}};
  return {.workspaces = {4 * floats, column_sum_workspace(s.blocks, s.H)},
          .thread_scratch = 4 * factor_floats(args.dropout, s.H)};
}

void backward_cpu(const LayerNormBackward& args) {
  const BackwardSums s(args.dy);
  const Workspace<float> sums(3 * s.room);
  const ColumnSums dbias(args.dbias, args.accumulate_dbias, s.blocks, sums.data()),
      dweight(args.dweight, args.accumulate_dweight, s.blocks, sums.data() + s.room),
      dbeta(args.dbeta, args.accumulate_dbeta, s.blocks, sums.data() + 2 * s.room);
  const auto rows = MB_SIMD(layer_norm_backward_rows);
  parallel_for(s.T, kBackwardRows, [&](int64_t begin, int64_t end) {
    const int64_t block = begin / kBackwardRows;
    rows(args, factor_row(args.dropout, s.H), dbias.block(block), dweight.block(block),
         dbeta.block(block), begin, end);
  });
  for (const ColumnSums* target : {&dbias, &dweight, &dbeta}) target->finish();
}

}  // namespace

void layer_norm_forward(const LayerNormForward& args) {
  check(args);
  dispatch(
      "layer_norm_forward", args.x.device(), [&] { return layer_norm_forward_cost(args); },
      [&] { forward_cpu(args); }, [&](Stream stream) { layer_norm_forward_cuda(args, stream); },
      [&] { return forward_memory(args); });
}

void layer_norm_backward(const LayerNormBackward& args) {
  check(args);
  dispatch(
      "layer_norm_backward", args.dy.device(), [&] { return layer_norm_backward_cost(args); },
      [&] { backward_cpu(args); }, [&](Stream stream) { layer_norm_backward_cuda(args, stream); },
      [&] { return backward_memory(args); });
}

}  // namespace minibert
