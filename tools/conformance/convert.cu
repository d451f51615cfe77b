// convert.cu: every conversion between f32, f16, bf16 and tf32 that kernels use: each 16-bit pattern,
// and of f32 each sign, exponent and upper mantissa with lower bits around every halfway point.
// Models: the formats' definitions in report.cpp, in double.
#include <cmath>

#include "core/ptx.h"
#include "tools/conformance/report.h"

namespace minibert::conformance {
namespace {

constexpr uint32_t kPatterns = 0x10000;

template <typename T>
constexpr Format format_of() {
  return std::is_same_v<T, __half> ? kF16 : kBf16;
}
/// A NaN is a NaN, whatever its bits.
template <typename T>
std::vector<uint32_t> without_payloads(const std::vector<uint16_t>& patterns) {
  std::vector<uint32_t> all;
  for (const uint16_t pattern : patterns)
    all.push_back(std::isnan(value_of(format_of<T>(), pattern)) ? 0x7FFF : pattern);
  return all;
}

template <typename T>
__device__ uint16_t bits_of(T x) {
  return reinterpret_cast<const uint16_t&>(x);
}
template <typename T>
__device__ T of_bits(uint32_t pattern) {
  const auto bits = static_cast<uint16_t>(pattern);
  return reinterpret_cast<const T&>(bits);
}

// ---- From 16 bits --------------------------------------------------------------------------------------
/// wide: [4, 65536]: alone, as low and as high half of a pair, and rounded to tf32.
template <typename T>
__global__ void widen(float* wide) {
  const uint32_t pattern = blockIdx.x * blockDim.x + threadIdx.x;
  const float2 low = unpack2<T>(pattern), high = unpack2<T>(pattern << 16);
  wide[pattern] = to_float(of_bits<T>(pattern));
  wide[kPatterns + pattern] = low.x;
  wide[2 * kPatterns + pattern] = high.y;
  wide[3 * kPatterns + pattern] = __uint_as_float(cvt_tf32(to_float(of_bits<T>(pattern))));
}
/// Each pattern of From rounded to To.
template <typename From, typename To>
__global__ void across(uint16_t* out) {
  const uint32_t pattern = blockIdx.x * blockDim.x + threadIdx.x;
  out[pattern] = bits_of(from_float<To>(to_float(of_bits<From>(pattern))));
}

template <typename From, typename To>
void run_across(Report& report) {
  std::vector<uint32_t> wanted;
  for (uint32_t i = 0; i < kPatterns; ++i)
    wanted.push_back(nearest(format_of<To>(), value_of(format_of<From>(), i)));
  const Buffer<uint16_t> out(kPatterns);
  launch(across<From, To>, kPatterns / 256, 256, 0, {}, out.data());
  report.exact(text("every %s to %s", format_of<From>().name, format_of<To>().name),
               without_payloads<To>(out.read()), wanted);
}

template <typename T>
void run_widen(Report& report) {
  std::vector<double> wanted;
  for (int form = 0; form < 4; ++form)
    for (uint32_t i = 0; i < kPatterns; ++i) {
      const double x = value_of(format_of<T>(), i);
      wanted.push_back(form < 3 ? x : nearest_tf32(x));
    }
  const Buffer<float> wide(wanted.size());
  launch(widen<T>, kPatterns / 256, 256, 0, {}, wide.data());
  report.exact(text("every %s to f32", format_of<T>().name), wide.read(), wanted);
}

// ---- From f32 --------------------------------------------------------------------------------------------
// Of bf16 a halfway point ends in 8000, of f16 in 1000 or 3000 and so on, of tf32 in 1000 too.
constexpr uint32_t kLower[] = {0x0000, 0x0001, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x5FFF,
                               0x7000, 0x7FFF, 0x8000, 0x8001, 0x9000, 0xC000, 0xF000, 0xFFFF};
constexpr uint32_t kSamples = kPatterns * 16;

/// out: [3, kSamples]: alone, and as low and as high half of a pair.
template <typename T>
__global__ void narrow(const float* x, uint16_t* out) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = bits_of(from_float<T>(x[i]));
  out[kSamples + i] = static_cast<uint16_t>(pack2<T>(x[i], 0));
  out[2 * kSamples + i] = static_cast<uint16_t>(pack2<T>(0, x[i]) >> 16);
}
__global__ void round_to_tf32(const float* x, float* out) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = __uint_as_float(cvt_tf32(x[i]));
}

template <typename T>
void run_narrow(Report& report, const std::vector<float>& x, const Buffer<float>& there) {
  std::vector<uint32_t> once, wanted;
  for (const float value : x) once.push_back(nearest(format_of<T>(), value));
  for (int form = 0; form < 3; ++form) wanted.insert(wanted.end(), once.begin(), once.end());
  const Buffer<uint16_t> out(wanted.size());
  launch(narrow<T>, kSamples / 256, 256, 0, {}, there.data(), out.data());
  report.exact(text("f32 to %s", format_of<T>().name), without_payloads<T>(out.read()), wanted);
  const std::vector<uint16_t> patterns = out.read();
  for (size_t i = 0; i < x.size(); ++i)
    if (std::isnan(x[i])) {
      report.fact(text("NaN as %s", format_of<T>().name), text("%#x", patterns[i]));
      break;
    }
}

}  // namespace

void run_convert(Report& report) {
  run_widen<__half>(report);
  run_widen<__nv_bfloat16>(report);
  run_across<__half, __half>(report);
  run_across<__half, __nv_bfloat16>(report);
  run_across<__nv_bfloat16, __half>(report);
  run_across<__nv_bfloat16, __nv_bfloat16>(report);
  std::vector<float> x;
  for (uint32_t upper = 0; upper < kPatterns; ++upper)
    for (const uint32_t lower : kLower) x.push_back(__builtin_bit_cast(float, upper << 16 | lower));
  const Buffer<float> there(x), out(x.size());
  run_narrow<__half>(report, x, there);
  run_narrow<__nv_bfloat16>(report, x, there);
  std::vector<double> wanted;
  for (const float value : x) wanted.push_back(nearest_tf32(value));
  launch(round_to_tf32, kSamples / 256, 256, 0, {}, there.data(), out.data());
  report.exact("f32 to tf32", out.read(), wanted);
}

}  // namespace minibert::conformance
