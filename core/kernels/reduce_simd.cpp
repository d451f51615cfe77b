// reduce_simd.cpp: section 7 of the reduce chapter: sums of one block, vectorised.
// Compiled once per instruction set; reduce.cpp threads over fixed blocks. Which lane adds which
// element of a `sum` depends on the vector length, so bits differ between instruction sets, never
// between thread counts.
#include "core/kernels/reduce_simd.h"

#include "core/kernels/elements_simd.h"
#include "core/kernels/reduce.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

using DoubleTag = hn::ScalableTag<double>;
using DoubleVec = hn::Vec<DoubleTag>;
constexpr int64_t kFloats = HWY_MAX_BYTES / sizeof(float), kDoubles = kFloats / 2;

// The halves of a vector of floats, as doubles.
HWY_INLINE DoubleVec lower(FloatVec x) {
  return hn::PromoteTo(DoubleTag(), hn::LowerHalf(x));
}
HWY_INLINE DoubleVec upper(FloatVec x) {
  const hn::Half<FloatTag> half;
  return hn::PromoteTo(DoubleTag(), hn::UpperHalf(half, x));
}

// Four accumulators hide the latency of the additions.
template <class E>
HWY_INLINE double sum_elements(const E* x, int64_t n) {
  const FloatTag d;
  const DoubleTag wide;
  DoubleVec sum[4] = {hn::Zero(wide), hn::Zero(wide), hn::Zero(wide), hn::Zero(wide)};
  int64_t i = 0;
  for (; i + 2 * kFloats <= n; i += 2 * kFloats) {
    const FloatVec first = load(d, x + i), second = load(d, x + i + kFloats);
    sum[0] = hn::Add(sum[0], lower(first));
    sum[1] = hn::Add(sum[1], upper(first));
    sum[2] = hn::Add(sum[2], lower(second));
    sum[3] = hn::Add(sum[3], upper(second));
  }
  const auto all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  HWY_ALIGN double parts[kDoubles];
  hn::Store(all, wide, parts);
  double total = 0;
  for (double part : parts) total += part;
  for (; i < n; ++i) total += hn::GetLane(load_some(d, x + i, 1));
  return total;
}

// sums[h] += the column's elements in kRows rows, in ascending order.
template <int kRows, class E>
HWY_INLINE void add_rows(const E* x, int64_t H, double* sums) {
  const FloatTag d;
  const DoubleTag wide;
  int64_t h = 0;
  for (; h + kFloats <= H; h += kFloats) {
    auto sum0 = hn::LoadU(wide, sums + h), sum1 = hn::LoadU(wide, sums + h + kDoubles);
    for (int r = 0; r < kRows; ++r) {
      const FloatVec v = load(d, x + r * H + h);
      sum0 = hn::Add(sum0, lower(v));
      sum1 = hn::Add(sum1, upper(v));
    }
    hn::StoreU(sum0, wide, sums + h);
    hn::StoreU(sum1, wide, sums + h + kDoubles);
  }
  for (; h < H; ++h)
    for (int r = 0; r < kRows; ++r) sums[h] += hn::GetLane(load_some(d, x + r * H + h, 1));
}

}  // namespace

void sum_rows(const ColumnSumArgs& args, int64_t begin, int64_t end, double* sums) {
  const int64_t H = args.x.dim(1);
  memset(sums, 0, static_cast<size_t>(H) * sizeof(double));
  with_element(args.x.dtype(), [&](auto e) {
    const auto* x = args.x.data<decltype(e)>();
    int64_t t = begin;
    for (; t + 4 <= end; t += 4) add_rows<4>(x + t * H, H, sums);
    for (; t < end; ++t) add_rows<1>(x + t * H, H, sums);
  });
}

void add_partials(const PartialSums& sums, float* y, bool accumulate, int64_t begin, int64_t end) {
  const DoubleTag wide;
  const hn::Rebind<float, DoubleTag> narrow;
  int64_t h = begin;
  for (; h + kDoubles <= end; h += kDoubles) {
    auto total = hn::Zero(wide);
    if (accumulate) total = hn::PromoteTo(wide, hn::LoadU(narrow, y + h));
    for (int64_t block = 0; block < sums.blocks; ++block)
      total = hn::Add(total, hn::LoadU(wide, sums.data + block * sums.H + h));
    hn::StoreU(hn::DemoteTo(narrow, total), narrow, y + h);
  }
  for (; h < end; ++h) {
    double total = accumulate ? y[h] : 0.0;
    for (int64_t block = 0; block < sums.blocks; ++block) total += sums.data[block * sums.H + h];
    y[h] = static_cast<float>(total);
  }
}

double sum_chunk(const SumArgs& args, int64_t begin, int64_t end) {
  return with_element(args.x.dtype(), [&](auto e) {
    return sum_elements(args.x.data<decltype(e)>() + begin, end - begin);
  });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
