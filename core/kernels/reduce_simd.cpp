// reduce_simd.cpp: section 7 of the reduce chapter: sums of one block, vectorised.
// Compiled once per instruction set; reduce.cpp threads over fixed blocks. Which lane adds which
// element depends on the vector length, so bits differ between instruction sets, never between
// thread counts.
#include "core/kernels/reduce_simd.h"

#include "core/kernels/math_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

using DoubleTag = hn::ScalableTag<double>;
using DoubleVec = hn::Vec<DoubleTag>;

// Sum over i of term(x[i]) in double. Four accumulators hide the latency of the additions.
template <class Term>
HWY_INLINE double sum_terms(const float* x, int64_t n, Term term) {
  const DoubleTag d;
  const hn::Rebind<float, DoubleTag> half;  // as many floats as a vector has doubles
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  DoubleVec sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const auto v = hn::PromoteTo(d, hn::LoadU(half, x + i + j * lanes));
      sum[j] = term(v, sum[j]);
    }
  }
  const auto all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  HWY_ALIGN double parts[HWY_MAX_BYTES / sizeof(double)];
  hn::Store(all, d, parts);
  double total = 0;
  for (int64_t j = 0; j < lanes; ++j) total += parts[j];
  const hn::CappedTag<double, 1> one;
  for (; i < n; ++i)
    total = hn::GetLane(term(hn::Set(one, static_cast<double>(x[i])), hn::Set(one, total)));
  return total;
}

// sums[h] += the column's elements in kRows rows, in ascending order.
template <int kRows>
HWY_INLINE void add_rows(const float* x, int64_t H, double* sums) {
  const DoubleTag d;
  const hn::Rebind<float, DoubleTag> half;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t h = 0;
  for (; h + lanes <= H; h += lanes) {
    auto sum = hn::LoadU(d, sums + h);
    for (int r = 0; r < kRows; ++r)
      sum = hn::Add(sum, hn::PromoteTo(d, hn::LoadU(half, x + r * H + h)));
    hn::StoreU(sum, d, sums + h);
  }
  for (; h < H; ++h)
    for (int r = 0; r < kRows; ++r) sums[h] += x[r * H + h];
}

}  // namespace

void sum_rows(const float* x, int64_t rows, int64_t H, double* sums) {
  memset(sums, 0, static_cast<size_t>(H) * sizeof(double));
  int64_t t = 0;
  for (; t + 4 <= rows; t += 4) add_rows<4>(x + t * H, H, sums);
  for (; t < rows; ++t) add_rows<1>(x + t * H, H, sums);
}

void add_partials(const double* partial, int64_t blocks, int64_t H, float* y, bool accumulate) {
  for (int64_t h = 0; h < H; ++h) {
    double total = accumulate ? y[h] : 0.0;
    for (int64_t block = 0; block < blocks; ++block) total += partial[block * H + h];
    y[h] = static_cast<float>(total);
  }
}

double sum_chunk(const float* x, int64_t n) {
  return sum_terms(x, n, [](auto v, auto sum) HWY_ATTR { return hn::Add(sum, v); });
}

double sum_of_squares_chunk(const float* x, int64_t n) {
  return sum_terms(x, n, [](auto v, auto sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
}

bool finite_chunk(const float* x, int64_t n) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVec any = hn::Zero(d);  // x * 0 is 0 for finite x and NaN otherwise; NaN stays
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) any = hn::MulAdd(hn::LoadU(d, x + i), hn::Zero(d), any);
  any = hn::MulAdd(load_some(d, x + i, static_cast<size_t>(n - i)), hn::Zero(d), any);
  return hn::AllTrue(d, hn::Eq(any, hn::Zero(d)));
}

}  // namespace minibert::MB_SIMD_NAMESPACE
