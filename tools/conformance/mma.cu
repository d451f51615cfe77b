// mma.cu: the tensor core's products. Whole numbers are exact, whatever the order of the sum;
// random ones are compared with a product in double, within the error of sums that may be truncated
// to f32 after each addition. Source: PTX ISA 9.0, 9.7.14.5.
#include <cmath>

#include "core/ptx.h"
#include "tools/conformance/report.h"

namespace minibert::conformance {
namespace {

constexpr int kRounds = 24;

// ---- Who holds which element: PTX ISA 9.0, figures of 9.7.14.5.8 (16 bits) and 9.7.14.5.6 (tf32) ---
__device__ int row_of_a(int lane, int i, int K) {
  const bool second = K == 16 ? i / 2 % 2 == 1 : i % 2 == 1;
  return lane / 4 + (second ? 8 : 0);
}
__device__ int column_of_a(int lane, int i, int K) {
  return K == 16 ? lane % 4 * 2 + i % 2 + i / 4 * 8 : lane % 4 + i / 2 * 4;
}
__device__ int row_of_b(int lane, int i, int K) {
  return K == 16 ? lane % 4 * 2 + i % 2 + i / 2 * 8 : lane % 4 + i * 4;
}

/// Block r: c[r] [16, 8] += a[r] [16, K] b[r] [K, 8], by rows.
template <typename T>
__global__ void multiply(const T* a, const T* b, float* c) {
  constexpr int K = sizeof(T) == 2 ? 16 : 8;
  const int lane = lane_id();
  a += blockIdx.x * 16 * K, b += blockIdx.x * K * 8, c += blockIdx.x * 128;
  alignas(16) T fa[16 * K / 32], fb[K * 8 / 32];
  float fc[4];
#pragma unroll
  for (int i = 0; i < 16 * K / 32; ++i)
    fa[i] = a[row_of_a(lane, i, K) * K + column_of_a(lane, i, K)];
#pragma unroll
  for (int i = 0; i < K * 8 / 32; ++i) fb[i] = b[row_of_b(lane, i, K) * 8 + lane / 4];
#pragma unroll
  for (int i = 0; i < 4; ++i) fc[i] = c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2];
  const auto& ra = reinterpret_cast<const uint32_t(&)[4]>(fa);
  const auto& rb = reinterpret_cast<const uint32_t(&)[2]>(fb);
  if constexpr (K == 16) {
    mma_m16n8k16<T>(fc, ra, rb);
  } else {
    mma_m16n8k8_tf32(fc, ra, rb);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = fc[i];
}

/// The element type's name, and a value as its elements hold it.
template <typename T>
const char* name_of_type() {
  return std::is_same_v<T, __half> ? "f16" : std::is_same_v<T, float> ? "tf32" : "bf16";
}
template <typename T>
T element(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(nearest_tf32(x));
  } else {
    const auto bits = static_cast<uint16_t>(nearest(std::is_same_v<T, __half> ? kF16 : kBf16, x));
    return __builtin_bit_cast(T, bits);
  }
}
template <typename T>
double value(T x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return value_of(std::is_same_v<T, __half> ? kF16 : kBf16, __builtin_bit_cast(uint16_t, x));
  }
}

/// kRounds products of what `draw` gives. Returns results; `sum` and `size` get the model's sums and
/// the sums of magnitudes.
template <typename T, typename Draw>
std::vector<float> products(const Draw& draw, std::vector<double>& sum, std::vector<double>& size) {
  constexpr int K = sizeof(T) == 2 ? 16 : 8;
  std::vector<T> a(kRounds * 16 * K), b(kRounds * K * 8);
  std::vector<float> c(kRounds * 128);
  for (T& x : a) x = element<T>(draw());
  for (T& x : b) x = element<T>(draw());
  for (float& x : c) x = draw();
  sum.clear(), size.clear();
  for (int round = 0; round < kRounds; ++round)
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n) {
        double total = c[round * 128 + m * 8 + n], magnitude = std::abs(total);
        for (int k = 0; k < K; ++k) {
          const double product =
              value(a[(round * 16 + m) * K + k]) * value(b[(round * K + k) * 8 + n]);
          total += product;
          magnitude += std::abs(product);
        }
        sum.push_back(total);
        size.push_back(magnitude);
      }
  const Buffer<T> a_there(a), b_there(b);
  const Buffer<float> c_there(c);
  launch(multiply<T>, kRounds, 32, 0, {}, a_there.data(), b_there.data(), c_there.data());
  return c_there.read();
}

template <typename T>
void run_type(Report& report) {
  const std::string name = std::string("mma ") + name_of_type<T>();
  std::vector<double> sum, size;
  Random random(17);
  const auto whole =
      products<T>([&] { return static_cast<float>(random.whole(-8, 8)); }, sum, size);
  report.exact(name + ", whole numbers", whole, sum);
  std::vector<float> got = products<T>([&] { return random.normal(); }, sum, size);
  for (size_t i = 0; i < got.size(); ++i) {  // in units of the sum of magnitudes
    got[i] = static_cast<float>(got[i] / size[i]);
    sum[i] /= size[i];
  }
  report.close(name + ", random", got, sum, {.absolute = 17 * 0x1p-23});
}

// ---- Every pattern -------------------------------------------------------------------------------
/// Block r: patterns 16 r .. 16 r + 15 in a's column 0 times a row of ones, or, `in_b`, patterns
/// 8 r .. 8 r + 7 in b's row 0.
template <typename T>
__global__ void through(bool in_b, float* out) {
  const int lane = lane_id();
  const uint32_t one = pack2<T>(1, 0);
  uint32_t a[4] = {}, b[2] = {};
  if (lane % 4 == 0) {
    const auto g = static_cast<uint32_t>(lane / 4);
    a[0] = in_b ? one : 16 * blockIdx.x + g;
    a[1] = in_b ? one : 16 * blockIdx.x + g + 8;
    b[0] = in_b ? 8 * blockIdx.x + g : one;
  }
  float c[4] = {};
  mma_m16n8k16<T>(c, a, b);
  if (in_b) {
    if (lane < 4) out[8 * blockIdx.x + 2 * lane] = c[0], out[8 * blockIdx.x + 2 * lane + 1] = c[1];
  } else if (lane % 4 == 0) {
    out[16 * blockIdx.x + lane / 4] = c[0];
    out[16 * blockIdx.x + lane / 4 + 8] = c[2];
  }
}

template <typename T>
void run_patterns(Report& report) {
  const Format format = std::is_same_v<T, __half> ? kF16 : kBf16;
  std::vector<double> wanted;
  for (uint32_t i = 0; i < 0x10000; ++i) wanted.push_back(value_of(format, i));
  for (const bool in_b : {false, true}) {
    const Buffer<float> out(0x10000);
    launch(through<T>, in_b ? 0x2000 : 0x1000, 32, 0, {}, in_b, out.data());
    report.exact(text("mma %s, every pattern in %s", format.name, in_b ? "b" : "a"), out.read(),
                 wanted);
  }
}

// ---- What the sums look like ----------------------------------------------------------------------
/// c plus a row of products, one lane's element: a [16] times ones.
template <typename T>
float row_sum(float start, const std::vector<float>& row) {
  std::vector<T> a(256), b(128);
  for (size_t k = 0; k < row.size(); ++k) a[k] = element<T>(row[k]);
  for (size_t k = row.size(); k < 256; ++k) a[k] = element<T>(0);
  for (T& x : b) x = element<T>(1);
  std::vector<float> c(128, 0);
  c[0] = start;
  const Buffer<T> a_there(a), b_there(b);
  const Buffer<float> c_there(c);
  launch(multiply<T>, 1, 32, 0, {}, a_there.data(), b_there.data(), c_there.data());
  return c_there.read()[0];
}
template <typename T>
void run_sums(Report& report) {
  const std::string name = std::string("mma ") + name_of_type<T>();
  std::vector<float> ones(16, 1), last(16, 0), cancel(16, 0);
  last[0] = 16384, last[15] = 0x1p-10f;
  cancel[0] = 16384, cancel[1] = -16384, cancel[2] = 0x1p-12f;
  report.fact(name + ", order of sums",
              text("2^24 + 16 x 1 = 2^24 + %g; 2^14 + 2^-10 + .. = 2^14 + %g; 2^14 - 2^14 + "
                   "2^-12 = %g",
                   row_sum<T>(0x1p24f, ones) - 0x1p24f, row_sum<T>(0, last) - 16384,
                   row_sum<T>(0, cancel)));
}

/// A tensor core reads the upper 19 bits of a tf32 operand: f32 values given as they are.
void run_low_bits(Report& report) {
  Random random(5);
  std::vector<float> a(kRounds * 128), b(kRounds * 64, 0.0f), c(kRounds * 128, 0.0f);
  std::vector<double> wanted(kRounds * 128, 0.0);
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 8; ++i) b[round * 64 + i * 8 + i] = 1;  // the unit matrix
    for (int i = 0; i < 128; ++i) {
      const uint32_t bits = (random.bits() & 0x807FFFFF) | 0x3F800000;
      a[round * 128 + i] = __builtin_bit_cast(float, bits);
      wanted[round * 128 + i] = __builtin_bit_cast(float, bits & 0xFFFFE000);
    }
  }
  const Buffer<float> a_there(a), b_there(b), c_there(c);
  launch(multiply<float>, kRounds, 32, 0, {}, a_there.data(), b_there.data(), c_there.data());
  report.exact("mma tf32, low bits are not read", c_there.read(), wanted);
}

}  // namespace

void run_mma(Report& report) {
  run_type<__half>(report);
  run_type<__nv_bfloat16>(report);
  run_type<float>(report);
  run_patterns<__half>(report);
  run_patterns<__nv_bfloat16>(report);
  run_low_bits(report);
  run_sums<__half>(report);
  run_sums<__nv_bfloat16>(report);
}

}  // namespace minibert::conformance
