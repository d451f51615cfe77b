// cross_entropy_simd.cpp: section 7 of the cross-entropy chapter, compiled once per instruction
// set. Works on one row of `n` logits. Easy to break: Highway's Exp gives 0 for NaN, so NaNs are
// looked for beside it. Tails shorter than a vector go through a copy padded with -infinity, whose
// exp is 0.
#include <cstdint>

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

namespace minibert::MB_SIMD_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr D d;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
constexpr int64_t kColumns = 1024;  // added in f32; their sums are added in double

HWY_INLINE V load_rest(const float* x, int64_t n) {
  HWY_ALIGN float rest[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) rest[i] = i < n ? x[i] : -__builtin_inff();
  return hn::Load(d, rest);
}

}  // namespace

/// The largest of n >= 1 logits; NaN if one of them is.
float row_maximum(const float* x, int64_t n) {
  V largest = hn::Set(d, -__builtin_inff());
  auto nan = hn::IsNaN(largest);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const V v = hn::LoadU(d, x + i);
    nan = hn::Or(nan, hn::IsNaN(v));
    largest = hn::Max(largest, v);
  }
  if (i < n) {
    const V v = load_rest(x + i, n - i);
    nan = hn::Or(nan, hn::IsNaN(v));
    largest = hn::Max(largest, v);
  }
  if (!hn::AllFalse(d, nan)) return __builtin_nanf("");
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

/// sum over n logits of exp(x - largest), for x <= largest.
double row_exp_sum(const float* x, int64_t n, float largest) {
  const V shift = hn::Set(d, largest);
  double total = 0;
  for (int64_t block = 0; block < n; block += kColumns) {
    const int64_t end = block + kColumns < n ? block + kColumns : n;
    V sum = hn::Zero(d);
    int64_t i = block;
    for (; i + kLanes <= end; i += kLanes)
      sum = hn::Add(sum, hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), shift)));
    if (i < end) sum = hn::Add(sum, hn::Exp(d, hn::Sub(load_rest(x + i, end - i), shift)));
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  }
  return total;
}

/// dx = exp(x - lse) * scale for n logits; dx may be x.
void row_softmax(const float* x, int64_t n, float lse, float scale, float* dx) {
  const V shift = hn::Set(d, lse), factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    hn::StoreU(hn::Mul(hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), shift)), factor), d, dx + i);
  if (i == n) return;
  HWY_ALIGN float rest[kLanes];
  hn::Store(hn::Mul(hn::Exp(d, hn::Sub(load_rest(x + i, n - i), shift)), factor), d, rest);
  for (int64_t k = 0; i + k < n; ++k) dx[i + k] = rest[k];
}

}  // namespace minibert::MB_SIMD_NAMESPACE
