// cast_simd.cpp: section 7 of the cast chapter, compiled once per instruction set.
#include "core/kernels/cast.h"
#include "core/kernels/elements_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

template <class X, class Y>
void cast_elements(const X* x, Y* y, int64_t n, bool accumulate) {
  const FloatTag d;
  for_vectors(n, [&](int64_t i, size_t count) HWY_ATTR {
    FloatVec v = load_some(d, x + i, count);
    if (accumulate) v = hn::Add(load_some(d, y + i, count), v);
    store_some(d, v, y + i, count);
  });
}

}  // namespace

/// Elements begin .. end - 1.
void cast_block(const CastArgs& args, int64_t begin, int64_t end) {
  with_element(args.x.dtype(), [&](auto x) {
    with_element(args.y.dtype(), [&](auto y) {
      cast_elements(args.x.data<decltype(x)>() + begin, args.y.data<decltype(y)>() + begin,
                    end - begin, args.accumulate);
    });
  });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
