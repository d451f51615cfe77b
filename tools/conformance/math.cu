// math.cu: the functions of one value that kernels use. Those that IEEE 754 defines are exact; the
// others have the error that NVIDIA states, or that the chapter states for its own. Philox has known
// answers. Models: glibc in double. Sources: CUDA C++ Programming Guide 13.0, section 16.1 (errors of
// functions); PTX ISA 9.0, 9.7.3.20 (ex2.approx); Random123's kat_vectors (Philox).
#include <algorithm>
#include <cmath>
#include <functional>

#include "core/kernels/gelu_cuda.h"
#include "core/philox.h"
#include "tools/conformance/report.h"

namespace minibert::conformance {
namespace {

// ---- Exact ------------------------------------------------------------------------------------------
__global__ void ieee(const float* x, const float* y, const float* z, float* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  out[i] = x[i] / y[i];
  out[n + i] = sqrtf(x[i]);
  out[2 * n + i] = fmaf(x[i], y[i], z[i]);
  out[3 * n + i] = fmaxf(x[i], y[i]);
  out[4 * n + i] = fminf(x[i], y[i]);
}

void run_ieee(Report& report) {
  constexpr int n = 65536;
  Random random(31);
  std::vector<float> x(n), y(n), z(n), expected(5 * n);
  for (std::vector<float>* all : {&x, &y, &z})
    for (float& value : *all) {
      value = __builtin_bit_cast(float, random.bits());
      if (std::isnan(value)) value = NAN;  // of signalling ones fmaxf makes NaN in glibc
    }
  for (int i = 0; i < n / 2; ++i) {  // sums whose terms nearly cancel, and quotients near 1
    x[i] = random.normal(), y[i] = random.normal();
    z[i] = -x[i] * y[i];
  }
  for (int i = 0; i < n; ++i) {
    // volatile: the compiler's own arithmetic at compile time, or a fused form, is not meant.
    volatile float a = x[i], b = y[i];
    expected[i] = a / b;
    expected[n + i] = std::sqrt(a);
    expected[2 * n + i] = std::fma(x[i], y[i], z[i]);
    expected[3 * n + i] = std::isnan(a) ? b : std::isnan(b) || a > b ? a : b;
    expected[4 * n + i] = std::isnan(a) ? b : std::isnan(b) || a < b ? a : b;
  }
  const Buffer<float> x_there(x), y_there(y), z_there(z), out(expected.size());
  launch(ieee, n / 256, 256, 0, {}, x_there.data(), y_there.data(), z_there.data(), out.data(), n);
  const std::vector<float> got = out.read();
  const char* names[] = {"division", "sqrtf", "fmaf", "fmaxf", "fminf"};
  for (int f = 0; f < 5; ++f)
    report.exact(names[f], std::vector<float>(got.begin() + f * n, got.begin() + (f + 1) * n),
                 std::vector<double>(expected.begin() + f * n, expected.begin() + (f + 1) * n));
}

// ---- Within a stated error -----------------------------------------------------------------------------
enum class Function {
  exp2_approx,
  expf,
  expm1f,
  logf,
  tanhf,
  rsqrtf,
  fdividef,
  gelu_erf,
  gelu_erf_slope,
  gelu_tanh,
  gelu_tanh_slope
};

__device__ float of(Function function, float x) {
  switch (function) {
    case Function::exp2_approx:
      return exp2_approx(x);
    case Function::expf:
      return expf(x);
    case Function::expm1f:
      return expm1f(x);
    case Function::logf:
      return logf(x);
    case Function::tanhf:
      return tanhf(x);
    case Function::rsqrtf:
      return rsqrtf(x);
    case Function::fdividef:
      return __fdividef(3.0f, x);
    case Function::gelu_erf:
      return gelu_erf(x);
    case Function::gelu_erf_slope:
      return gelu_erf_slope(x);
    case Function::gelu_tanh:
      return gelu_tanh(x);
    case Function::gelu_tanh_slope:
      return gelu_tanh_slope(x);
  }
  return 0;
}
__global__ void apply(Function function, const float* x, float* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = of(function, x[i]);
}

double normal_below(double x) {
  return 0.5 * std::erfc(-x * M_SQRT1_2);
}
double tanh_gelu(double x, bool slope) {
  const double c = std::sqrt(2 / M_PI), u = c * (x + 0.044715 * x * x * x), t = std::tanh(u);
  if (!slope) return 0.5 * x * (1 + t);
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
}

constexpr double kUlp = 0x1p-23;  // of a mantissa of 1; at most two units of the last place

void run_close(Report& report) {
  struct Row {
    Function function;
    const char* name;
    float low, high;  // where it is sampled
    Limits limits;    // for GELU of results over max(1, |x|)
    std::function<double(double)> model;
  };
  // The smallest normal number is the absolute part: results below it may lose bits, or all.
  const double tiny = 0x1p-126;
  const Row rows[] = {
      {Function::exp2_approx,
       "exp2_approx",
       -135,
       129,
       {2 * kUlp, tiny},
       [](double x) { return std::exp2(x); }},
      {Function::expf, "expf", -100, 89, {2 * kUlp, tiny}, [](double x) { return std::exp(x); }},
      {Function::expm1f,
       "expm1f",
       -20,
       20,
       {2 * kUlp, tiny},
       [](double x) { return std::expm1(x); }},
      {Function::logf,
       "logf",
       0x1p-20f,
       100,
       {2 * kUlp, kUlp},
       [](double x) { return std::log(x); }},
      {Function::tanhf, "tanhf", -10, 10, {2 * kUlp, tiny}, [](double x) { return std::tanh(x); }},
      {Function::rsqrtf,
       "rsqrtf",
       0x1p-20f,
       1000,
       {2 * kUlp, tiny},
       [](double x) { return 1 / std::sqrt(x); }},
      {Function::fdividef,
       "__fdividef",
       0.01f,
       1000,
       {2 * kUlp, tiny},
       [](double x) { return 3 / x; }},
      {Function::gelu_erf,
       "gelu_erf",
       -12,
       12,
       {0, 2e-7},
       [](double x) { return x * normal_below(x); }},
      {Function::gelu_erf_slope,
       "gelu_erf_slope",
       -12,
       12,
       {4e-7, 4e-7},
       [](double x) { return normal_below(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }},
      {Function::gelu_tanh,
       "gelu_tanh",
       -12,
       12,
       {4e-7, 2e-7},
       [](double x) { return tanh_gelu(x, false); }},
      {Function::gelu_tanh_slope,
       "gelu_tanh_slope",
       -12,
       12,
       {4e-7, 1e-6},
       [](double x) { return tanh_gelu(x, true); }},
  };
  constexpr int n = 4096;
  for (const Row& row : rows) {
    std::vector<float> x;
    std::vector<double> wanted;
    for (int i = 0; i < n; ++i)
      x.push_back(row.low + (row.high - row.low) * static_cast<float>(i) / (n - 1));
    for (const float value : x) {
      double y = row.model(value);
      if (y > 0x1.fffffep127) y = INFINITY;
      wanted.push_back(y);
    }
    const Buffer<float> there(x), out(x.size());
    launch(apply, n / 256, 256, 0, {}, row.function, there.data(), out.data(), n);
    std::vector<float> got = out.read();
    for (int i = 0; i < n && row.limits.relative == 0; ++i) {
      const float size = std::max(1.0f, std::abs(x[i]));
      got[i] /= size, wanted[i] /= size;
    }
    report.close(row.name, got, wanted, row.limits);
  }
}

/// What is infinite, zero or no number goes in and comes out as it should.
void run_ends(Report& report) {
  const std::vector<float> x{INFINITY, -INFINITY, NAN, 0.0f};
  const std::pair<Function, std::vector<double>> rows[] = {
      {Function::exp2_approx, {INFINITY, 0, NAN, 1}},
      {Function::expf, {INFINITY, 0, NAN, 1}},
      {Function::expm1f, {INFINITY, -1, NAN, 0}},
      {Function::logf, {INFINITY, NAN, NAN, -INFINITY}},
      {Function::tanhf, {1, -1, NAN, 0}},
      {Function::rsqrtf, {0, NAN, NAN, INFINITY}}};
  std::vector<float> got;
  std::vector<double> wanted;
  for (const auto& [function, values] : rows) {
    const Buffer<float> there(x), out(x.size());
    launch(apply, 1, 32, 0, {}, function, there.data(), out.data(), 4);
    for (const float y : out.read()) got.push_back(y);
    wanted.insert(wanted.end(), values.begin(), values.end());
  }
  report.exact("infinity, NaN and 0 in functions", got, wanted);
}

// ---- Philox -----------------------------------------------------------------------------------------------
__global__ void draw(const PhiloxCounter* counters, const uint64_t* seeds, PhiloxOutput* out) {
  const int i = thread_in_block();
  out[i] = philox4x32(counters[i], seeds[i]);
  out[3 + i] = philox4x32(counters[i], philox_keys(seeds[i]));
}

void run_philox(Report& report) {
  const std::vector<PhiloxCounter> counters{{{0, 0, 0, 0}},
                                            {{0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}},
                                            {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}}};
  const std::vector<uint64_t> seeds{0, ~uint64_t{0}, 0x299F31D0A4093822};
  const std::vector<uint32_t> answers{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8,
                                      0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD,
                                      0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1};
  const Buffer<PhiloxCounter> counters_there(counters);
  const Buffer<uint64_t> seeds_there(seeds);
  const Buffer<PhiloxOutput> out(6);
  launch(draw, 1, 3, 0, {}, counters_there.data(), seeds_there.data(), out.data());
  std::vector<uint32_t> got, wanted = answers;
  for (const PhiloxOutput& words : out.read())
    for (size_t i = 0; i < 4; ++i) got.push_back(words[i]);
  wanted.insert(wanted.end(), answers.begin(), answers.end());
  report.exact("Philox, known answers", got, wanted);
}

}  // namespace

void run_math(Report& report) {
  run_ieee(report);
  run_close(report);
  run_ends(report);
  run_philox(report);
}

}  // namespace minibert::conformance
