// cross_entropy_simd.cpp: section 7 of the cross-entropy chapter, compiled once per instruction
// set. Works on one row of `n` logits. Easy to break: a NaN must reach the sum. row_maximum may
// drop it (x86's maximum does), exp does not.
#include "core/kernels/math_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

constexpr FloatTag d;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
constexpr int64_t kColumns = 1024;  // added in f32; their sums are added in double

// The first `count` < kLanes logits, then -infinity, whose exp is 0.
HWY_INLINE FloatVec load_rest(const float* x, int64_t count) {
  const auto rest = hn::FirstN(d, static_cast<size_t>(count));
  return hn::IfThenElse(rest, load_some(d, x, static_cast<size_t>(count)),
                        hn::Set(d, -__builtin_inff()));
}

}  // namespace

/// The largest of n >= 1 logits, NaNs aside.
float row_maximum(const float* x, int64_t n) {
  FloatVec largest = hn::Set(d, -__builtin_inff());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) largest = hn::Max(hn::LoadU(d, x + i), largest);
  if (i < n) largest = hn::Max(load_rest(x + i, n - i), largest);
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

/// sum over n logits of exp(x - largest), for x <= largest; NaN if one is NaN or largest infinite.
double row_exp_sum(const float* x, int64_t n, float largest) {
  const FloatVec shift = hn::Set(d, largest);
  double total = 0;
  for (int64_t block = 0; block < n; block += kColumns) {
    const int64_t end = block + kColumns < n ? block + kColumns : n;
    FloatVec sum = hn::Zero(d);
    int64_t i = block;
    for (; i + kLanes <= end; i += kLanes)
      sum = hn::Add(sum, Exp(d, hn::Sub(hn::LoadU(d, x + i), shift)));
    if (i < end) sum = hn::Add(sum, Exp(d, hn::Sub(load_rest(x + i, end - i), shift)));
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  }
  return total;
}

/// dx = exp(x - lse) * scale for n logits; dx may be x.
void row_softmax(const float* x, int64_t n, float lse, float scale, float* dx) {
  const FloatVec shift = hn::Set(d, lse), factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    hn::StoreU(hn::Mul(Exp(d, hn::Sub(hn::LoadU(d, x + i), shift)), factor), d, dx + i);
  if (i == n) return;
  const FloatVec rest = Exp(d, hn::Sub(load_rest(x + i, n - i), shift));
  store_some(d, hn::Mul(rest, factor), dx + i, static_cast<size_t>(n - i));
}

}  // namespace minibert::MB_SIMD_NAMESPACE
