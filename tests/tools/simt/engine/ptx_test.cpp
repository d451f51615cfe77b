// ptx_test.cpp: mma and ldmatrix against plain models: the tables of the PTX manual for who holds
// which element, a product in double, and a search of each loaded element in shared memory.
// NVIDIA's own tables, exhaustively: oracle_test.cpp.
#include <cmath>
#include <random>
#include <vector>

#include "tests/tools/simt/engine/support.h"
#include "tools/conformance/ldmatrix.h"

namespace minibert {
namespace {

struct Element {
  int row, column;
};

// ---- Tables: PTX ISA 9.0, 9.7.14.5.8 (m16n8k16, 16-bit), element i of a lane ---------------------
Element a_element(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
  const int column = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
  return {row, column};
}
Element b_element(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8, group};
}
Element c_element(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 2 ? group : group + 8, in_group * 2 + (i & 1)};
}
// ---- 9.7.14.5.6 (m16n8k8, tf32) ------------------------------------------------------------------
Element a_tf32(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {(i == 0 || i == 2) ? group : group + 8, i < 2 ? in_group : in_group + 4};
}
Element b_tf32(int lane, int i) {
  return {i == 0 ? lane % 4 : lane % 4 + 4, lane >> 2};
}

template <typename T>
__global__ void multiply(const T* a, const T* b, float* c) {
  const int lane = lane_id();
  T fa[8], fb[4];
  float fc[4];
  for (int i = 0; i < 8; ++i) fa[i] = a[a_element(lane, i).row * 16 + a_element(lane, i).column];
  for (int i = 0; i < 4; ++i) fb[i] = b[b_element(lane, i).row * 8 + b_element(lane, i).column];
  for (int i = 0; i < 4; ++i) fc[i] = c[c_element(lane, i).row * 8 + c_element(lane, i).column];
  mma_m16n8k16<T>(fc, reinterpret_cast<const uint32_t(&)[4]>(fa),
                  reinterpret_cast<const uint32_t(&)[2]>(fb));
  for (int i = 0; i < 4; ++i) c[c_element(lane, i).row * 8 + c_element(lane, i).column] = fc[i];
}
__global__ void multiply_tf32(const float* a, const float* b, float* c) {
  const int lane = lane_id();
  uint32_t fa[4], fb[2];
  float fc[4];
  for (int i = 0; i < 4; ++i) fa[i] = cvt_tf32(a[a_tf32(lane, i).row * 8 + a_tf32(lane, i).column]);
  for (int i = 0; i < 2; ++i) fb[i] = cvt_tf32(b[b_tf32(lane, i).row * 8 + b_tf32(lane, i).column]);
  for (int i = 0; i < 4; ++i) fc[i] = c[c_element(lane, i).row * 8 + c_element(lane, i).column];
  mma_m16n8k8_tf32(fc, fa, fb);
  for (int i = 0; i < 4; ++i) c[c_element(lane, i).row * 8 + c_element(lane, i).column] = fc[i];
}

float as_float(float x) {
  return __builtin_bit_cast(float, cvt_tf32(x));
}
float as_float(__half x) {
  return __half2float(x);
}
float as_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

/// Random factors; c starts at random values. The error of 16 additions in f32 is the tolerance.
template <typename T, typename Launch>
void expect_product(int K, const Launch& launch_it) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 20; ++round) {
    std::vector<T> a(static_cast<size_t>(16 * K)), b(static_cast<size_t>(K * 8));
    std::vector<float> c(16 * 8), before;
    for (T& x : a) x = from_float<T>(normal(random));
    for (T& x : b) x = from_float<T>(normal(random));
    for (float& x : c) x = normal(random);
    before = c;
    launch_it(a.data(), b.data(), c.data());
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n) {
        double sum = before[m * 8 + n], size = std::abs(sum);
        for (int k = 0; k < K; ++k) {
          const double product =
              static_cast<double>(as_float(a[m * K + k])) * as_float(b[k * 8 + n]);
          sum += product;
          size += std::abs(product);
        }
        EXPECT_NEAR(c[m * 8 + n], sum, size * 16 * 0x1p-24) << m << " " << n;
      }
  }
}

TEST(SimtPtx, MmaMultipliesAsTheTablesPlaceTheElements) {
  expect_product<__half>(16, [](auto... p) { launch(multiply<__half>, 1, 32, 0, {}, p...); });
  expect_product<__nv_bfloat16>(
      16, [](auto... p) { launch(multiply<__nv_bfloat16>, 1, 32, 0, {}, p...); });
  expect_product<float>(8, [](auto... p) { launch(multiply_tf32, 1, 32, 0, {}, p...); });
}

/// All 65,536 bit patterns through one product with 1: the value, NaN and infinity included.
template <typename T>
__global__ void through_mma(uint32_t first, float* out) {
  const int lane = lane_id();
  uint32_t a[4] = {}, b[2] = {};
  // Row m holds pattern first + m in column 0; b is 1 in row 0 and 0 elsewhere.
  if (lane % 4 == 0) {
    a[0] = first + static_cast<uint32_t>(lane / 4);
    a[1] = a[0] + 8;
    b[0] = pack2<T>(1, 0);
  }
  float c[4] = {};
  mma_m16n8k16<T>(c, a, b);
  if (lane % 4 == 0) out[lane / 4] = c[0], out[lane / 4 + 8] = c[2];
}
template <typename T>
void expect_every_pattern() {
  for (uint32_t first = 0; first < 65536; first += 16) {
    float out[16];
    launch(through_mma<T>, 1, 32, 0, {}, first, out);
    for (uint32_t i = 0; i < 16; ++i) {
      const float wanted = as_float(__builtin_bit_cast(T, static_cast<uint16_t>(first + i)));
      if (std::isnan(wanted)) {
        EXPECT_TRUE(std::isnan(out[i])) << first + i;
      } else {
        EXPECT_EQ(out[i], wanted) << first + i;
      }
    }
  }
}

TEST(SimtPtx, EverySixteenBitPatternKeepsItsValueInMma) {
  expect_every_pattern<__half>();
  expect_every_pattern<__nv_bfloat16>();
}

// ---- ldmatrix ------------------------------------------------------------------------------------
TEST(SimtPtx, LdmatrixGivesEachLaneItsPairOfElements) {
  for (const int matrices : {1, 2, 4})
    for (const bool transposed : {false, true})
      under_all_schedules([&] {
        uint32_t out[128];
        launch(conformance::load_matrices, 1, 32, 0, {}, matrices, transposed, out);
        const std::vector<uint32_t> wanted = conformance::loaded_matrices(matrices, transposed);
        ASSERT_EQ(wanted.size(), std::size(out));
        for (size_t k = 0; k < wanted.size(); ++k)
          EXPECT_EQ(out[k], wanted[k]) << matrices << (transposed ? " transposed" : "")
                                       << " register " << k / 32 << " lane " << k % 32;
      });
}

/// The comment in core/ptx.h: with those addresses x4 loads the fragment a of a row-major [16, 16].
__global__ void load_fragment(bool* right) {
  MB_SHARED(uint16_t[16], a, 16);
  const int lane = lane_id();
  for (int i = lane; i < 256; i += 32) a[i / 16][i % 16] = static_cast<uint16_t>(i);
  __syncthreads();
  uint32_t r[4];
  ldmatrix_x4(r, &a[lane % 16][lane / 16 * 8]);
  for (int i = 0; i < 8; ++i) {
    const Element e = a_element(lane, i);
    right[lane * 8 + i] =
        (r[i / 2] >> (16 * (i % 2)) & 0xFFFF) == static_cast<uint32_t>(e.row * 16 + e.column);
  }
}

TEST(SimtPtx, LdmatrixX4LoadsTheFragmentA) {
  bool right[256] = {};
  launch(load_fragment, 1, 32, 0, {}, right);
  for (const bool each : right) EXPECT_TRUE(each);
}

__global__ void wrong_call(int fault) {
  MB_SHARED(uint16_t[8], tile, 32);
  const int lane = lane_id();
  uint32_t r[4] = {}, b[2] = {};
  float c[4] = {};
  if (fault == 0) ldmatrix_x4(r, &tile[lane][4]);
  if (fault == 1) ldmatrix_x4(r, tile[lane + 1]);
  if (fault == 2) ldmatrix_x1(r[0], lane < 8 ? tile[lane] : nullptr);  // legal: nobody reads it
  if (fault == 3) lane < 16 ? mma_m16n8k16<__half>(c, r, b) : mma_m16n8k16<__nv_bfloat16>(c, r, b);
  if (fault == 4 && lane < 16) mma_m16n8k16<__half>(c, r, b);
  if (fault == 4 && lane >= 16)  // the same instruction at another place
    mma_m16n8k16<__half>(c, r, b);
}

TEST(SimtPtx, WrongCallsAreReported) {
  const auto report = [](int fault, int threads = 32) {
    return report_of([&] { launch(wrong_call, 1, threads, 0, {}, fault); });
  };
  EXPECT_HAS(report(0), "ldmatrix_x4 at tests/tools/simt/engine/ptx_test.cpp:");
  EXPECT_HAS(report(0), "not a multiple of 16");
  EXPECT_HAS(report(1), "bytes 512..527 are not in tile, which has 512");
  EXPECT_EQ(report(2), "");
  EXPECT_HAS(report(3), "different functions");
  EXPECT_HAS(report(4), "different places");
  EXPECT_HAS(report(3, 48), "different functions");
  EXPECT_HAS(report(0, 16), "not a multiple of 16");
}

__global__ void short_block_mma() {
  const uint32_t a[4] = {}, b[2] = {};
  float c[4] = {};
  mma_m16n8k16<__half>(c, a, b);
}
TEST(SimtPtx, MmaInAShortWarpIsReported) {
  EXPECT_HAS(report_of([] { launch(short_block_mma, 1, 16, 0, {}); }), "needs 32 lanes");
}

// ---- Conversions -----------------------------------------------------------------------------------
/// The nearest multiple of the last place of a 10-bit mantissa, ties away from zero, in double.
double nearest_tf32(float x) {
  if (x == 0) return x;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), -126) - 10);
  return std::copysign(std::floor(std::abs(static_cast<double>(x)) / unit + 0.5) * unit, x);
}

TEST(SimtPtx, CvtTf32RoundsToNearestTiesAway) {
  std::mt19937 random(3);
  for (int i = 0; i < 1000000; ++i) {
    const uint32_t bits = i < 4096 ? 0x3F800000u + static_cast<uint32_t>(i) * 0x800u
                                   : static_cast<uint32_t>(random());
    const float x = __builtin_bit_cast(float, bits);
    if (!std::isfinite(x)) continue;
    const float y = __builtin_bit_cast(float, cvt_tf32(x));
    const double wanted = nearest_tf32(x);
    ASSERT_EQ(y, static_cast<float>(wanted)) << std::hexfloat << x;
    ASSERT_EQ(cvt_tf32(x) & 0x1FFF, 0u);
  }
  EXPECT_TRUE(std::isnan(__builtin_bit_cast(float, cvt_tf32(NAN))));
  EXPECT_EQ(__builtin_bit_cast(float, cvt_tf32(-INFINITY)), -INFINITY);
}

TEST(SimtPtx, Exp2ApproxIsNearAndFlushesSmallResults) {
  for (float x = -126; x < 128; x += 0.37f)
    EXPECT_NEAR(exp2_approx(x) / std::exp2(static_cast<double>(x)), 1, 0x1p-22) << x;
  EXPECT_EQ(exp2_approx(-127.5f), 0.0f);
  EXPECT_EQ(exp2_approx(-INFINITY), 0.0f);
  EXPECT_EQ(exp2_approx(200.0f), INFINITY);
  EXPECT_TRUE(std::isnan(exp2_approx(NAN)));
}

}  // namespace
}  // namespace minibert
