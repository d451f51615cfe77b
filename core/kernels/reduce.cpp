// reduce.cpp: reference of reduce.h, and its fast CPU version over fixed chunks.
#include "core/kernels/reduce.h"

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/reduce_simd.h"
#include "core/kernels/workspace.h"
#include "core/parallel.h"

namespace minibert {
namespace {

void check_column_sum(const Tensor& x, const Tensor& y) {
  check_rank("column_sum", "x", x, 2);
  check_tensor("column_sum", "y", y, {x.dim(1)}, "the last dimension of x");
}

}  // namespace

// ---- 6. Reference ------------------------------------------------------------------------------
void column_sum_reference(const Tensor& x, const Tensor& y, bool accumulate) {
  check_column_sum(x, y);
  const int64_t T = x.dim(0), H = x.dim(1);
  const float* in = x.data<float>();
  float* out = y.data<float>();
  for (int64_t h = 0; h < H; ++h) {
    double total = accumulate ? out[h] : 0.0;
    for (int64_t t = 0; t < T; ++t) total += in[t * H + h];
    out[h] = static_cast<float>(total);
  }
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

constexpr int64_t kRowsPerBlock = 64;
constexpr int64_t kChunk = 65536;  // elements

// chunk(first, count) of every fixed chunk of x, added in ascending order.
template <typename Chunk>
double sum_over_chunks(const Tensor& x, Chunk chunk) {
  const float* in = x.data<float>();
  const int64_t chunks = (x.numel() + kChunk - 1) / kChunk;
  const Workspace<double> sums(chunks);
  double* partial = sums.data();
  parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
    partial[begin / kChunk] = chunk(in + begin, end - begin);
  });
  double total = 0;
  for (int64_t i = 0; i < chunks; ++i) total += partial[i];
  return total;
}

}  // namespace

void column_sum(const Tensor& x, const Tensor& y, bool accumulate, Stream) {
  check_column_sum(x, y);
  dispatch("column_sum", x.device(), x.numel(), 4.0 * x.numel(), [&] {
    const int64_t T = x.dim(0), H = x.dim(1), blocks = (T + kRowsPerBlock - 1) / kRowsPerBlock;
    const Workspace<double> sums(blocks * H);
    const float* in = x.data<float>();
    double* partial = sums.data();
    const auto add_rows = MB_SIMD(sum_rows);
    parallel_for(T, kRowsPerBlock, [&](int64_t begin, int64_t end) {
      add_rows(in + begin * H, end - begin, H, partial + begin / kRowsPerBlock * H);
    });
    MB_SIMD(add_partials)(partial, blocks, H, y.data<float>(), accumulate);
  });
}

double sum(const Tensor& x, Stream) {
  check_type("sum", "x", x);
  double total = 0;
  dispatch("sum", x.device(), x.numel(), 4.0 * x.numel(),
           [&] { total = sum_over_chunks(x, MB_SIMD(sum_chunk)); });
  return total;
}

double sum_of_squares(const Tensor& x, Stream) {
  check_type("sum_of_squares", "x", x);
  double total = 0;
  dispatch("sum_of_squares", x.device(), 2.0 * x.numel(), 4.0 * x.numel(),
           [&] { total = sum_over_chunks(x, MB_SIMD(sum_of_squares_chunk)); });
  return total;
}

bool all_finite(const Tensor& x, Stream) {
  check_type("all_finite", "x", x);
  double bad_chunks = 0;
  dispatch("all_finite", x.device(), x.numel(), 4.0 * x.numel(), [&] {
    bad_chunks = sum_over_chunks(x, [finite = MB_SIMD(finite_chunk)](const float* in, int64_t n) {
      return finite(in, n) ? 0.0 : 1.0;
    });
  });
  return bad_chunks == 0;
}

}  // namespace minibert
