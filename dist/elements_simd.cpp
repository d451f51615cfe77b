// elements_simd.cpp: sums of 16-bit elements, compiled once per instruction set. Called by
// elements.cpp. Easy to break: each addition is made in f32 and rounded once, as the plain loop does.
#include "core/kernels/elements_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

template <class E>
void add(E* sum, const E* a, const E* b, int64_t count) {
  const FloatTag d;
  for_vectors(count, [&](int64_t i, size_t n) HWY_ATTR {
    store_some(d, hn::Add(load_some(d, a + i, n), load_some(d, b + i, n)), sum + i, n);
  });
}

}  // namespace

void add_bf16(bf16* sum, const bf16* a, const bf16* b, int64_t count) {
  add(sum, a, b, count);
}
void add_f16(f16* sum, const f16* a, const f16* b, int64_t count) {
  add(sum, a, b, count);
}

}  // namespace minibert::MB_SIMD_NAMESPACE
