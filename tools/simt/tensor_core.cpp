// tensor_core.cpp: gathers fragments, multiplies, scatters. Test: ctest -R simt_engine_ptx,
// simt_engine_oracle.
#include "tools/simt/tensor_core.h"

#include <cmath>
#include <cstring>

#include "tools/simt/arena.h"
#include "tools/simt/observer.h"
#include "tools/simt/warp.h"

namespace simt {
namespace {

using Vector = float __attribute__((vector_size(16)));  // four floats, added one by one

struct Fragments {
  const uint32_t* a;
  uint32_t b[2];
  float* c;
};
const Fragments& fragments(const Thread& lane) {
  return *static_cast<const Fragments*>(lane.operand);
}

/// c [16, 8] += a [16, K] b [K, 8], by rows.
template <int K>
void multiply(Vector (&c)[16][2], const float (&a)[16][K], const Vector (&b)[K][2]) {
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < K; ++k) {
      const Vector x = {a[m][k], a[m][k], a[m][k], a[m][k]};
      c[m][0] += x * b[k][0];
      c[m][1] += x * b[k][1];
    }
}

void gather(const Thread* lanes, float (&c)[16][8]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const float* own = fragments(lanes[lane]).c;
    c[g][2 * t] = own[0], c[g][2 * t + 1] = own[1];
    c[g + 8][2 * t] = own[2], c[g + 8][2 * t + 1] = own[3];
  }
}
void scatter(const float (&c)[16][8], Thread* lanes) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    float* own = fragments(lanes[lane]).c;
    own[0] = c[g][2 * t], own[1] = c[g][2 * t + 1];
    own[2] = c[g + 8][2 * t], own[3] = c[g + 8][2 * t + 1];
  }
}

float bf16_value(uint32_t bits) {
  return __builtin_bit_cast(float, bits << 16);
}
/// The exponents of f16 are those of f32 after a multiplication by 2^112; subnormals come along.
float f16_value(uint32_t bits) {
  float magnitude = __builtin_bit_cast(float, (bits & 0x7FFF) << 13) * 0x1p112f;
  uint32_t word = __builtin_bit_cast(uint32_t, magnitude) | (bits & 0x8000) << 16;
  if ((bits & 0x7C00) == 0x7C00) word |= 0x7F800000;  // infinity and NaN
  return __builtin_bit_cast(float, word);
}

template <float (*value)(uint32_t)>
void compute_k16(Thread* lanes, uint32_t) {
  float a[16][16];
  alignas(16) float b[16][8], c[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const Fragments& f = fragments(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = g + i % 2 * 8, column = 2 * t + i / 2 * 8;
      a[row][column] = value(f.a[i] & 0xFFFF);
      a[row][column + 1] = value(f.a[i] >> 16);
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = value(f.b[i] & 0xFFFF);
      b[2 * t + 8 * i + 1][g] = value(f.b[i] >> 16);
    }
  }
  gather(lanes, c);
  multiply(reinterpret_cast<Vector(&)[16][2]>(c), a, reinterpret_cast<Vector(&)[16][2]>(b));
  scatter(c, lanes);
  if (observer) observer->tensor_operation(2 * 16 * 8 * 16);
}

/// A tensor core reads the upper 19 bits of a tf32 operand.
float tf32_value(uint32_t bits) {
  return __builtin_bit_cast(float, bits & 0xFFFFE000);
}

void compute_tf32(Thread* lanes, uint32_t) {
  float a[16][8];
  alignas(16) float b[8][8], c[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const Fragments& f = fragments(lanes[lane]);
    for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][t + i / 2 * 4] = tf32_value(f.a[i]);
    for (int i = 0; i < 2; ++i) b[t + 4 * i][g] = tf32_value(f.b[i]);
  }
  gather(lanes, c);
  multiply(reinterpret_cast<Vector(&)[16][2]>(c), a, reinterpret_cast<Vector(&)[8][2]>(b));
  scatter(c, lanes);
  if (observer) observer->tensor_operation(2 * 16 * 8 * 8);
}

constexpr Operation kMmaBf16{"mma_m16n8k16", compute_k16<bf16_value>, true};
constexpr Operation kMmaF16{"mma_m16n8k16", compute_k16<f16_value>, true};
constexpr Operation kMmaTf32{"mma_m16n8k8_tf32", compute_tf32, true};

void mma(const Operation& operation, float* c, const uint32_t* a, uint32_t b0, uint32_t b1,
         Place place) {
  const Fragments own{a, {b0, b1}, c};
  meet(operation, ~0u, &own, nullptr, place);
}

// ---- ldmatrix ----------------------------------------------------------------------------------
template <int Matrices, bool Transposed>
void compute_ldmatrix(Thread* lanes, uint32_t) {
  for (int i = 0; i < Matrices; ++i) {
    uint16_t matrix[8][8];
    for (int row = 0; row < 8; ++row)
      std::memcpy(matrix[row], lanes[8 * i + row].operand, sizeof matrix[row]);
    for (int lane = 0; lane < kLanes; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const uint32_t low = Transposed ? matrix[2 * t][g] : matrix[g][2 * t],
                     high = Transposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
      static_cast<uint32_t*>(lanes[lane].result)[i] = high << 16 | low;
    }
  }
}

template <int Matrices>
constexpr Operation kLdmatrix[2] = {{Matrices == 4   ? "ldmatrix_x4"
                                     : Matrices == 2 ? "ldmatrix_x2"
                                                     : "ldmatrix_x1",
                                     compute_ldmatrix<Matrices, false>, true},
                                    {Matrices == 4   ? "ldmatrix_x4_trans"
                                     : Matrices == 2 ? "ldmatrix_x2_trans"
                                                     : "ldmatrix_x1_trans",
                                     compute_ldmatrix<Matrices, true>, true}};

}  // namespace

void mma_bf16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place) {
  mma(kMmaBf16, c, a, b0, b1, place);
}
void mma_f16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place) {
  mma(kMmaF16, c, a, b0, b1, place);
}
void mma_tf32(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Place place) {
  mma(kMmaTf32, c, a, b0, b1, place);
}

void load_matrices(int matrices, bool transposed, uint32_t* r, const void* row, Place place) {
  const Operation& operation = matrices == 4   ? kLdmatrix<4>[transposed]
                               : matrices == 2 ? kLdmatrix<2>[transposed]
                                               : kLdmatrix<1>[transposed];
  if (this_lane() < 8 * matrices) {
    if (reinterpret_cast<uintptr_t>(row) % 16)
      fail(std::string(operation.name) + " at " + to_string(place) + ": the row's address is " +
           std::to_string(smem_u32(row)) + ", not a multiple of 16");
    check_shared(row, 16, operation.name, place);
  }
  meet(operation, ~0u, row, r, place);
}

uint32_t cvt_tf32(float x) {
  if (std::isnan(x)) return 0x7FFFFFFF;
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  if (std::isinf(x)) return bits;
  return (bits + 0x1000) & 0xFFFFE000;
}

float exp2_approx(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}

}  // namespace simt
