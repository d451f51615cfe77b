// embedding_simd.cpp: section 7 of the embedding chapter, compiled once per instruction set.
// Only additions, in the order of the contract: the same bits on every instruction set.
#include "core/kernels/elements_simd.h"
#include "core/kernels/embedding.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

constexpr FloatTag d;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
constexpr int kUnroll = 4;  // vectors of a row kept in registers while positions pass by

// y[h] = rows[0][h] + rows[1][h] + ... + rows[count - 1][h] for h < H.
template <class E>
HWY_INLINE void sum_row(const E* const* rows, int count, int64_t H, E* y) {
  for_vectors(H, [&](int64_t h, size_t n) HWY_ATTR {
    FloatVec sum = load_some(d, rows[0] + h, n);
    for (int k = 1; k < count; ++k) sum = hn::Add(sum, load_some(d, rows[k] + h, n));
    store_some(d, sum, y + h, n);
  });
}

template <class E>
void sum_rows(const EmbeddingForward& args, int64_t begin, int64_t end) {
  const int64_t H = args.y.dim(1);
  for (int64_t n = begin; n < end; ++n) {
    const E* rows[EmbeddingForward::kMaxTables] = {};
    for (int k = 0; k < args.count; ++k)
      rows[k] = args.table[k].data<E>() + args.index[k].data<int32_t>()[n] * H;
    sum_row(rows, args.count, H, args.y.data<E>() + n * H);
  }
}

// Adds columns [h, h + vectors * kLanes) of the listed rows of dy to row.
template <int vectors, class E>
HWY_INLINE void add_columns(const E* dy, int64_t H, const int32_t* position, int64_t n, int64_t h,
                            float* row) {
  FloatVec sum[vectors];
  for (int k = 0; k < vectors; ++k) sum[k] = load(d, row + h + k * kLanes);
  for (int64_t i = 0; i < n; ++i) {
    const E* from = dy + position[i] * H + h;
    for (int k = 0; k < vectors; ++k) sum[k] = hn::Add(sum[k], load(d, from + k * kLanes));
  }
  for (int k = 0; k < vectors; ++k) store(d, sum[k], row + h + k * kLanes);
}

// row[h] += dy[position[0]][h], then dy[position[1]][h], ... for begin <= h < end; dy is [N, H].
template <class E>
HWY_INLINE void add_positions(const E* dy, int64_t H, const int32_t* position, int64_t n,
                              int64_t begin, int64_t end, float* row) {
  int64_t h = begin;
  for (; h + kUnroll * kLanes <= end; h += kUnroll * kLanes)
    add_columns<kUnroll>(dy, H, position, n, h, row);
  for (; h + kLanes <= end; h += kLanes) add_columns<1>(dy, H, position, n, h, row);
  for (; h < end; ++h) {
    float sum = row[h];
    for (int64_t i = 0; i < n; ++i) sum += to_float(dy[position[i] * H + h]);
    row[h] = sum;
  }
}

template <class E>
void add_groups(const EmbeddingBackward& args, int64_t first, int64_t last, int64_t begin,
                int64_t end) {
  const int64_t H = args.dy.dim(1);
  const int32_t* start = args.start.data<int32_t>();
  for (int64_t u = first; u < last; ++u) {
    add_positions(args.dy.data<E>(), H, args.order.data<int32_t>() + start[u],
                  start[u + 1] - start[u], begin, end,
                  args.dtable.data<float>() + args.row.data<int32_t>()[u] * H);
  }
}

}  // namespace

/// Rows begin .. end - 1 of y.
void embedding_sum_rows(const EmbeddingForward& args, int64_t begin, int64_t end) {
  with_element(args.y.dtype(), [&](auto e) { sum_rows<decltype(e)>(args, begin, end); });
}

/// Groups first .. last - 1, columns begin .. end - 1 of dtable.
void embedding_add_groups(const EmbeddingBackward& args, int64_t first, int64_t last, int64_t begin,
                          int64_t end) {
  with_element(args.dy.dtype(),
               [&](auto e) { add_groups<decltype(e)>(args, first, last, begin, end); });
}

}  // namespace minibert::MB_SIMD_NAMESPACE
