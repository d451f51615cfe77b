// report.h: what the parts of tools/conformance write: results of a device's primitives, each held
// against a plain model of its own, and recorded so that another device's run can be compared.
// Results that every device must compute to the bit are recorded as hashes, the others as values
// with the error that they may have. Easy to break: the same source must draw the same inputs in
// every build, so random numbers come from Random alone. Test: ctest -R gpu_check.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "core/cuda_error.h"

namespace minibert::conformance {

/// How far `got` may be from the model's value v: relative * |v| + absolute.
struct Limits {
  double relative = 0, absolute = 0;
};

/// Collects the parts and their verdicts.
class Report {
 public:
  /// Bits that must be equal.
  void exact(const std::string& part, const std::vector<uint32_t>& got,
             const std::vector<uint32_t>& wanted);
  /// The same for values of a type: every NaN equals every other.
  void exact(const std::string& part, const std::vector<float>& got,
             const std::vector<double>& wanted);
  /// Values near the model's. Infinities and NaN must be what the model says.
  void close(const std::string& part, const std::vector<float>& got,
             const std::vector<double>& wanted, Limits limits);
  /// Worth knowing, but compared with nothing.
  void fact(const std::string& part, const std::string& text);
  /// A part that could not be run.
  void failed(const std::string& part, const std::string& why);

  /// Prints a line a part. `golden`: a file that write() wrote on another device, or empty.
  /// Returns whether everything agreed.
  bool finish(const std::string& golden) const;
  void write(const std::string& path, const std::string& device) const;

 private:
  struct Part {
    std::string name, kind = {};  // exact, close, fact or failed
    std::string note = {};        // the first disagreement with the model, or a fact's text
    size_t count = 0, wrong = 0;
    double share = 0;  // of the limits, the largest
    std::vector<std::string> hashes = {};
    std::vector<float> values = {};
    Limits limits = {};
  };
  void add_hashes(Part part, const std::vector<uint32_t>& bits);
  static std::string difference(const Part& part, const std::string& golden_line);
  std::vector<Part> parts_;
};

/// As printf. The parts' .cu files can't include fmt: nvcc can't read its checks at compile time.
[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...);

/// Random numbers that are the same with every compiler and library.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  uint32_t bits() { return static_cast<uint32_t>(engine_()); }
  /// Whole numbers from low to high, both included.
  int whole(int low, int high) {
    return low + static_cast<int>(bits() % static_cast<uint32_t>(high - low + 1));
  }
  /// About normal, deviation 1: four uniform numbers.
  float normal() {
    float sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(bits() >> 8) * 0x1p-24f - 0.5f;
    return sum * 1.7320508f;
  }

 private:
  std::mt19937 engine_;
};

/// Memory of the device, with copies both ways.
template <typename T>
class Buffer {
 public:
  explicit Buffer(size_t count) : count_(count) {
    MB_CUDA(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)));
    MB_CUDA(cudaMemset(data_, 0xFF, count * sizeof(T)));  // NaN, so that what is not written shows
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    MB_CUDA(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() const { return data_; }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    MB_CUDA(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t count_;
  T* data_ = nullptr;
};

// ---- Parts: mma.cu, warp.cu, memory.cu, convert.cu, math.cu, products.cpp ------------------------
void run_mma(Report& report);
void run_warp(Report& report);
void run_memory(Report& report);
void run_convert(Report& report);
void run_math(Report& report);
void run_products(Report& report);

// ---- The formats' definitions --------------------------------------------------------------------
/// Bits of a 16-bit type: 10 and 5 in f16, 7 and 8 in bf16.
struct Format {
  const char* name;
  int mantissa, exponent;
};
inline constexpr Format kF16{"f16", 10, 5}, kBf16{"bf16", 7, 8};
/// The value of a pattern.
double value_of(Format format, uint32_t pattern);
/// The nearest pattern, ties to even; NaN becomes 0x7FFF.
uint32_t nearest(Format format, double x);
/// The nearest value with a mantissa of 10 bits and f32's exponents, ties away from zero.
double nearest_tf32(double x);

}  // namespace minibert::conformance
