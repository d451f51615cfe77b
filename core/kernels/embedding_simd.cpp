// embedding_simd.cpp: section 7 of the embedding chapter, compiled once per instruction set.
// Only additions, in the order of the contract: the same bits on every instruction set.
#include "core/kernels/math_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

constexpr FloatTag d;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
constexpr int kUnroll = 4;  // vectors of a row kept in registers while positions pass by

// Adds columns [h, h + vectors * kLanes) of the listed rows of dy to row.
template <int vectors>
HWY_INLINE void add_columns(const float* dy, int64_t H, const int32_t* position, int64_t n,
                            int64_t h, float* row) {
  FloatVec sum[vectors];
  for (int k = 0; k < vectors; ++k) sum[k] = hn::LoadU(d, row + h + k * kLanes);
  for (int64_t i = 0; i < n; ++i) {
    const float* from = dy + position[i] * H + h;
    for (int k = 0; k < vectors; ++k) sum[k] = hn::Add(sum[k], hn::LoadU(d, from + k * kLanes));
  }
  for (int k = 0; k < vectors; ++k) hn::StoreU(sum[k], d, row + h + k * kLanes);
}

}  // namespace

/// y[h] = rows[0][h] + rows[1][h] + ... + rows[count - 1][h] for h < H.
void embedding_sum_rows(const float* const* rows, int count, int64_t H, float* y) {
  int64_t h = 0;
  for (; h + kLanes <= H; h += kLanes) {
    auto sum = hn::LoadU(d, rows[0] + h);
    for (int k = 1; k < count; ++k) sum = hn::Add(sum, hn::LoadU(d, rows[k] + h));
    hn::StoreU(sum, d, y + h);
  }
  for (; h < H; ++h) {
    float sum = rows[0][h];
    for (int k = 1; k < count; ++k) sum += rows[k][h];
    y[h] = sum;
  }
}

/// row[h] += dy[position[0]][h], then dy[position[1]][h], ... for begin <= h < end; dy is [T, H].
void embedding_add_positions(const float* dy, int64_t H, const int32_t* position, int64_t n,
                             int64_t begin, int64_t end, float* row) {
  int64_t h = begin;
  for (; h + kUnroll * kLanes <= end; h += kUnroll * kLanes)
    add_columns<kUnroll>(dy, H, position, n, h, row);
  for (; h + kLanes <= end; h += kLanes) add_columns<1>(dy, H, position, n, h, row);
  for (; h < end; ++h) {
    float sum = row[h];
    for (int64_t i = 0; i < n; ++i) sum += dy[position[i] * H + h];
    row[h] = sum;
  }
}

}  // namespace minibert::MB_SIMD_NAMESPACE
