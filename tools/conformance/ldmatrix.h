// ldmatrix.h: ldmatrix in its six forms, and what each lane must get: for memory.cu, and for the
// engine's own test in all schedules (tests/tools/simt/engine/ptx_test.cpp). Model: a search of each
// element. Source: PTX ISA 9.0, 9.7.14.5.15. Test: ctest -R engine_ptx.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ptx.h"

namespace minibert::conformance {

/// Row of shared memory where row `row` of matrix `matrix` lies: rows are scattered.
__host__ __device__ constexpr int place_of(int matrix, int row) {
  return (matrix * 8 + row) * 13 % 32;
}
/// What an element holds: it says where it is.
__host__ __device__ constexpr uint32_t number_of(int matrix, int row, int column) {
  return static_cast<uint32_t>(matrix * 64 + row * 8 + column + 1);
}

/// One warp loads 1, 2 or 4 matrices: out[i * 32 + lane] is the lane's register i, else 0.
static __global__ void load_matrices(int matrices, bool transposed, uint32_t* out) {
  MB_SHARED(uint16_t[8], tile, 32);
  const int lane = lane_id();
  for (int column = 0; column < 8; ++column)
    tile[place_of(lane / 8, lane % 8)][column] =
        static_cast<uint16_t>(number_of(lane / 8, lane % 8, column));
  __syncthreads();
  uint32_t r[4] = {};
  const uint16_t* row = tile[place_of(lane / 8, lane % 8)];
  if (matrices == 1) {
    transposed ? ldmatrix_x1_trans(r[0], row) : ldmatrix_x1(r[0], row);
  } else if (matrices == 2) {
    transposed ? ldmatrix_x2_trans(r[0], r[1], row) : ldmatrix_x2(r[0], r[1], row);
  } else {
    transposed ? ldmatrix_x4_trans(r, row) : ldmatrix_x4(r, row);
  }
  for (int i = 0; i < 4; ++i) out[i * 32 + lane] = r[i];
}

/// What load_matrices must write.
inline std::vector<uint32_t> loaded_matrices(int matrices, bool transposed) {
  std::vector<uint32_t> wanted;
  for (int i = 0; i < 4; ++i)
    for (int lane = 0; lane < 32; ++lane) {
      uint32_t both = 0;
      for (int half = 0; half < 2 && i < matrices; ++half) {
        const int group = lane / 4, pair = 2 * (lane % 4) + half;
        both |= (transposed ? number_of(i, pair, group) : number_of(i, group, pair)) << (16 * half);
      }
      wanted.push_back(both);
    }
  return wanted;
}

}  // namespace minibert::conformance
