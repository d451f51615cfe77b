// oracle_test.cpp: the engine's fragments, ldmatrix and swizzles against tables that we did not
// write: those of CuTe, in NVIDIA's package nvidia-cutlass (tools/install-peers). Every lane and value
// of every layout. Built only where the package is; elsewhere the test says so and is skipped.
#if __has_include(<cute/atom/mma_traits_sm80.hpp>)
#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/swizzle.hpp>
#define MB_HAS_CUTE 1
#else
#define MB_HAS_CUTE 0
#endif

#include <vector>

#include "tests/tools/simt/engine/support.h"

namespace minibert {
namespace {

#if MB_HAS_CUTE
// ---- mma ---------------------------------------------------------------------------------------
/// T: the elements of a and b; N values of a lane are packed into registers in order.
template <typename T>
__global__ void multiply(const T (*a)[8], const T (*b)[4], float (*c)[4]) {
  const int lane = lane_id();
  alignas(16) T fa[8], fb[4];
  for (int i = 0; i < 8; ++i) fa[i] = a[lane][i];
  for (int i = 0; i < 4; ++i) fb[i] = b[lane][i];
  const auto& ra = reinterpret_cast<const uint32_t(&)[4]>(fa);
  const auto& rb = reinterpret_cast<const uint32_t(&)[2]>(fb);
  float fc[4] = {};
  if constexpr (std::is_same_v<T, float>) {
    mma_m16n8k8_tf32(fc, ra, rb);
  } else {
    mma_m16n8k16<T>(fc, ra, rb);
  }
  for (int i = 0; i < 4; ++i) c[lane][i] = fc[i];
}

/// With a single 1 in a (or in b), the product is a row of b (or a column of a), whose numbers say
/// where they are: so each element of a, b and c is seen in its place.
template <typename T, typename Traits, int K>
void expect_fragments() {
  constexpr int kA = 16 * K / 32, kB = 8 * K / 32;  // values of a lane
  const auto fill_a = [](T(*a)[8], const auto& value) {
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < kA; ++i) {
        const int index = typename Traits::ALayout{}(lane, i);
        a[lane][i] = from_float<T>(value(index % 16, index / 16));
      }
  };
  const auto fill_b = [](T(*b)[4], const auto& value) {
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < kB; ++i) {
        const int index = typename Traits::BLayout{}(lane, i);
        b[lane][i] = from_float<T>(value(index / 8, index % 8));
      }
  };
  const auto expect = [](const float(*c)[4], const auto& value) {
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const int index = typename Traits::CLayout{}(lane, i);
        ASSERT_EQ(c[lane][i], value(index % 16, index / 16)) << "lane " << lane << " value " << i;
      }
  };
  T a[32][8] = {}, b[32][4] = {};
  float c[32][4];
  const auto number_b = [](int k, int n) { return static_cast<float>(k * 8 + n + 1); };
  const auto number_a = [](int m, int k) { return static_cast<float>(m * K + k + 1); };
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < K; ++k) {
      fill_a(a, [&](int row, int column) { return row == m && column == k ? 1.0f : 0.0f; });
      fill_b(b, number_b);
      launch(multiply<T>, 1, 32, 0, {}, a, b, c);
      expect(c, [&](int row, int n) { return row == m ? number_b(k, n) : 0.0f; });
    }
  for (int k = 0; k < K; ++k)
    for (int n = 0; n < 8; ++n) {
      fill_a(a, number_a);
      fill_b(b, [&](int row, int column) { return row == k && column == n ? 1.0f : 0.0f; });
      launch(multiply<T>, 1, 32, 0, {}, a, b, c);
      expect(c, [&](int m, int column) { return column == n ? number_a(m, k) : 0.0f; });
    }
}

TEST(SimtOracle, FragmentsOfMmaAreCutes) {
  using cute::MMA_Traits;
  expect_fragments<__half, MMA_Traits<cute::SM80_16x8x16_F32F16F16F32_TN>, 16>();
  expect_fragments<__nv_bfloat16, MMA_Traits<cute::SM80_16x8x16_F32BF16BF16F32_TN>, 16>();
  expect_fragments<float, MMA_Traits<cute::SM80_16x8x8_F32TF32TF32F32_TN>, 8>();
}

// ---- ldmatrix ------------------------------------------------------------------------------------
__global__ void load(int matrices, bool transposed, uint32_t (*out)[4]) {
  MB_SHARED(uint16_t[8], tile, 32);
  const int lane = lane_id();
  for (int i = 0; i < 8; ++i) tile[lane][i] = static_cast<uint16_t>(lane * 8 + i);
  __syncthreads();
  uint32_t r[4] = {};
  const uint16_t* row = tile[lane];
  if (matrices == 1) transposed ? ldmatrix_x1_trans(r[0], row) : ldmatrix_x1(r[0], row);
  if (matrices == 2) transposed ? ldmatrix_x2_trans(r[0], r[1], row) : ldmatrix_x2(r[0], r[1], row);
  if (matrices == 4) transposed ? ldmatrix_x4_trans(r, row) : ldmatrix_x4(r, row);
  for (int i = 0; i < 4; ++i) out[lane][i] = r[i];
}

/// CuTe numbers the source's bits by thread and bit; the destination's by thread and bit of its
/// registers.
template <typename Instruction>
void expect_ldmatrix(int matrices, bool transposed) {
  using Traits = cute::Copy_Traits<Instruction>;
  uint32_t out[32][4];
  launch(load, 1, 32, 0, {}, matrices, transposed, out);
  for (int lane = 0; lane < 32; ++lane)
    for (int half = 0; half < 2 * matrices; ++half) {
      const int bit = typename Traits::DstLayout{}(lane, half * 16);
      const uint32_t got = out[lane][half / 2] >> (16 * (half % 2)) & 0xFFFF;
      EXPECT_EQ(got, static_cast<uint32_t>(bit / 16))
          << matrices << (transposed ? " transposed" : "") << " lane " << lane << " half " << half;
    }
}

TEST(SimtOracle, LdmatrixIsCutes) {
  expect_ldmatrix<cute::SM75_U32x1_LDSM_N>(1, false);
  expect_ldmatrix<cute::SM75_U32x2_LDSM_N>(2, false);
  expect_ldmatrix<cute::SM75_U32x4_LDSM_N>(4, false);
  expect_ldmatrix<cute::SM75_U16x2_LDSM_T>(1, true);
  expect_ldmatrix<cute::SM75_U16x4_LDSM_T>(2, true);
  expect_ldmatrix<cute::SM75_U16x8_LDSM_T>(4, true);
}

TEST(SimtOracle, SwizzlesAreCutes) {
  EXPECT_EQ(swizzled<128>(0x1230), 0x1270u);  // read off NVIDIA's headers by hand
  for (uint32_t byte = 0; byte < 8192; ++byte) {
    ASSERT_EQ(swizzled<128>(byte), (cute::Swizzle<3, 4, 3>::apply(byte)));
    ASSERT_EQ(swizzled<64>(byte), (cute::Swizzle<2, 4, 3>::apply(byte)));
    ASSERT_EQ(swizzled<32>(byte), (cute::Swizzle<1, 4, 3>::apply(byte)));
  }
}
#else
TEST(SimtOracle, FragmentsLdmatrixAndSwizzlesAreCutes) {
  GTEST_SKIP() << "CuTe's headers are absent: run tools/install-peers, then configure again";
}
#endif

}  // namespace
}  // namespace minibert
