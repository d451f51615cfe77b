// reduce.cpp: reference of reduce.h, and its fast CPU version over fixed chunks.
#include "core/kernels/reduce.h"

#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/check.h"

namespace minibert {
namespace {

void check_column_sum(const Tensor& x, const Tensor& y) {
  check_rank("column_sum", "x", x, 2);
  check_tensor("column_sum", "y", y, {x.dim(1)}, "the last dimension of x");
}

}  // namespace

// ---- 6. Reference
// -----------------------------------------------------------------------------------------------
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

// ---- 7. Fast CPU
// ------------------------------------------------------------------------------------------------
void column_sum(const Tensor& x, const Tensor& y, bool accumulate, Stream) {
  check_column_sum(x, y);
  dispatch("column_sum", x.device(), x.numel(), 4.0 * x.numel(),
           [&] { column_sum_reference(x, y, accumulate); });
}

double sum(const Tensor& x, Stream) {
  check_type("sum", "x", x);
  double total = 0;
  dispatch("sum", x.device(), x.numel(), 4.0 * x.numel(), [&] {
    for (float value : x.span<float>()) total += value;
  });
  return total;
}

double sum_of_squares(const Tensor& x, Stream) {
  check_type("sum_of_squares", "x", x);
  double total = 0;
  dispatch("sum_of_squares", x.device(), 2.0 * x.numel(), 4.0 * x.numel(), [&] {
    for (float value : x.span<float>()) total += static_cast<double>(value) * value;
  });
  return total;
}

bool all_finite(const Tensor& x, Stream) {
  check_type("all_finite", "x", x);
  bool finite = true;
  dispatch("all_finite", x.device(), x.numel(), 4.0 * x.numel(), [&] {
    for (float value : x.span<float>()) finite &= std::isfinite(value);
  });
  return finite;
}

}  // namespace minibert
