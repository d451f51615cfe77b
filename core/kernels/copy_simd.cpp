// copy_simd.cpp: rows added to a matrix; section 7 of the copy chapter, compiled once per
// instruction set. Called by copy.cpp, which shares out columns.
#include "core/kernels/copy.h"
#include "core/kernels/elements_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

template <class E>
void add_columns(const ScatterAddRows& args, int64_t begin, int64_t end) {
  const FloatTag d;
  const int64_t P = args.dy.dim(0), H = args.dy.dim(1);
  for (int64_t p = 0; p < P; ++p) {
    const int64_t row = args.row.data<int32_t>()[p];
    if (row < 0) continue;
    const E* from = args.dy.data<E>() + p * H + begin;
    E* to = args.dx.data<E>() + row * H + begin;
    for_vectors(end - begin, [&](int64_t h, size_t n) HWY_ATTR {
      store_some(d, hn::Add(load_some(d, to + h, n), load_some(d, from + h, n)), to + h, n);
    });
  }
}

}  // namespace

/// Columns begin .. end - 1 of dx.
void scatter_add_columns(const ScatterAddRows& args, int64_t begin, int64_t end) {
  with_element(args.dx.dtype(), [&](auto e) { add_columns<decltype(e)>(args, begin, end); });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
