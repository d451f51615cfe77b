// cross_entropy_simd.cpp: section 7 of the cross-entropy chapter, compiled once per instruction
// set. Easy to break: a NaN must reach the sum. row_maximum may drop it (x86's maximum does), exp
// does not.
#include "core/kernels/cross_entropy.h"
#include "core/kernels/math_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

constexpr FloatTag d;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
constexpr int64_t kColumns = 1024;  // added in f32; their sums are added in double

// The first `count` < kLanes logits, then -infinity, whose exp is 0.
template <class E>
HWY_INLINE FloatVec load_rest(const E* x, int64_t count) {
  const auto rest = hn::FirstN(d, static_cast<size_t>(count));
  return hn::IfThenElse(rest, load_some(d, x, static_cast<size_t>(count)),
                        hn::Set(d, -__builtin_inff()));
}

/// The largest of n >= 1 logits, NaNs aside.
template <class E>
float row_maximum(const E* x, int64_t n) {
  FloatVec largest = hn::Set(d, -__builtin_inff());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) largest = hn::Max(load(d, x + i), largest);
  if (i < n) largest = hn::Max(load_rest(x + i, n - i), largest);
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

/// sum over n logits of exp(x - largest), for x <= largest; NaN if one is NaN or largest infinite.
template <class E>
double row_exp_sum(const E* x, int64_t n, float largest) {
  const FloatVec shift = hn::Set(d, largest);
  double total = 0;
  for (int64_t block = 0; block < n; block += kColumns) {
    const int64_t end = block + kColumns < n ? block + kColumns : n;
    FloatVec sum = hn::Zero(d);
    int64_t i = block;
    for (; i + kLanes <= end; i += kLanes)
      sum = hn::Add(sum, Exp(d, hn::Sub(load(d, x + i), shift)));
    if (i < end) sum = hn::Add(sum, Exp(d, hn::Sub(load_rest(x + i, end - i), shift)));
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  }
  return total;
}

/// Whether one of n logits equals `value`.
template <class E>
bool occurs(const E* x, int64_t n, float value) {
  const FloatVec wanted = hn::Set(d, value);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    if (!hn::AllFalse(d, hn::Eq(load(d, x + i), wanted))) return true;
  return i < n && !hn::AllFalse(d, hn::Eq(load_rest(x + i, n - i), wanted));
}

/// dx = exp(x - lse) * scale for n logits; dx may be x.
template <class E>
void row_softmax(const E* x, int64_t n, float lse, float scale, E* dx) {
  const FloatVec shift = hn::Set(d, lse), factor = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store(d, hn::Mul(Exp(d, hn::Sub(load(d, x + i), shift)), factor), dx + i);
  if (i == n) return;
  const FloatVec rest = Exp(d, hn::Sub(load_rest(x + i, n - i), shift));
  store_some(d, hn::Mul(rest, factor), dx + i, static_cast<size_t>(n - i));
}

/// Row p, whose label is not -1: its lse is stored, and what it counts is added.
template <class E>
void forward_row(const CrossEntropyForward& args, int64_t p, int32_t label, LossCounts* counts) {
  const E* x = args.logits.data<E>() + p * args.logits.dim(1);
  const float largest = row_maximum(x, args.classes), of_label = to_float(x[label]);
  const double lse = largest + __builtin_log(row_exp_sum(x, args.classes, largest));
  args.lse.data<float>()[p] = static_cast<float>(lse);
  counts->loss_sum += lse - of_label;
  ++counts->rows;
  counts->correct += lse == lse && of_label == largest && !occurs(x, label, largest);
}

template <class E>
void backward_row(const CrossEntropyBackward& args, int64_t p, int32_t label, float scale) {
  const int64_t V = args.logits.dim(1), C = args.classes;
  const E* x = args.logits.data<E>() + p * V;
  E* dx = args.dlogits.data<E>() + p * V;
  const float lse = args.lse.data<float>()[p];
  // Read before dx overwrites it; expm1 keeps the digits where softmax is nearly 1.
  const double of_label = __builtin_expm1(static_cast<double>(to_float(x[label])) - lse) * scale;
  row_softmax(x, C, lse, scale, dx);
  store_one(static_cast<float>(of_label), dx + label);
  memset(dx + C, 0, static_cast<size_t>(V - C) * sizeof(E));
}

template <class E>
void forward_rows(const CrossEntropyForward& args, int64_t begin, int64_t end, LossCounts* counts) {
  *counts = {0, 0, 0};
  for (int64_t p = begin; p < end; ++p) {
    const int32_t label = args.label.data<int32_t>()[p];
    if (label < 0) {
      args.lse.data<float>()[p] = 0;
    } else {
      forward_row<E>(args, p, label, counts);
    }
  }
}

template <class E>
void backward_rows(const CrossEntropyBackward& args, int64_t begin, int64_t end) {
  const int64_t V = args.logits.dim(1);
  const float scale = *args.scale * *args.dy.data<float>();
  for (int64_t p = begin; p < end; ++p) {
    const int32_t label = args.label.data<int32_t>()[p];
    if (label < 0) {
      memset(args.dlogits.data<E>() + p * V, 0, static_cast<size_t>(V) * sizeof(E));
    } else {
      backward_row<E>(args, p, label, scale);
    }
  }
}

}  // namespace

/// Rows begin .. end - 1; *counts becomes what they count.
void cross_entropy_forward_rows(const CrossEntropyForward& args, int64_t begin, int64_t end,
                                LossCounts* counts) {
  with_element(args.logits.dtype(),
               [&](auto e) { forward_rows<decltype(e)>(args, begin, end, counts); });
}

void cross_entropy_backward_rows(const CrossEntropyBackward& args, int64_t begin, int64_t end) {
  with_element(args.logits.dtype(), [&](auto e) { backward_rows<decltype(e)>(args, begin, end); });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
