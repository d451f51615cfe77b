// kernel_fixture.h: what the kernels' tests share: random tensors between guard elements, every
// instruction set of this CPU, one and two threads.
#pragma once

#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "core/random.h"
#include "core/simd.h"
#include "core/tensor.h"
#include "tests/data_step.h"

namespace minibert::testing {

/// A tensor whose storage has guard elements before and after it; intact() tells whether a kernel
/// wrote outside. `misaligned` moves it off every vector boundary.
class Guarded {
 public:
  explicit Guarded(Shape shape, bool misaligned = false, DType dtype = DType::f32)
      : before_(kGuard + (misaligned ? 1 : 0)),
        storage_(Tensor::empty({shape.numel() + before_ + kGuard}, dtype)),
        tensor_(storage_.slice(before_, shape)) {
    std::memset(storage_.raw(), kSentinel, static_cast<size_t>(storage_.bytes()));
  }
  const Tensor& operator*() const { return tensor_; }
  const Tensor* operator->() const { return &tensor_; }

  bool intact() const {
    const auto* bytes = static_cast<const unsigned char*>(storage_.raw());
    const auto element = static_cast<int64_t>(size_of(storage_.dtype()));
    const int64_t first = before_ * element, end = first + tensor_.bytes();
    for (int64_t i = 0; i < storage_.bytes(); ++i)
      if ((i < first || i >= end) && bytes[i] != kSentinel) return false;
    return true;
  }

 private:
  static constexpr int64_t kGuard = 32;
  static constexpr unsigned char kSentinel = 0xA7;  // a small negative number in every type
  int64_t before_;
  Tensor storage_, tensor_;
};

/// Normal values times `spread`, from a named stream: the same in every run.
inline void fill_normal(const Tensor& t, uint64_t index, float spread = 1.0f) {
  RandomStream stream(1234, StreamPurpose::user, index);
  for (float& x : t.span<float>()) x = spread * static_cast<float>(stream.normal());
}

inline Tensor random_tensor(Shape shape, uint64_t index, float spread = 1.0f,
                            DType dtype = DType::f32) {
  Tensor t = Tensor::empty(shape);
  fill_normal(t, index, spread);
  return dtype == DType::f32 ? t : t.to(dtype);
}

/// The types that activations can have.
inline constexpr DType kComputeTypes[] = {DType::f32, DType::bf16, DType::f16};

inline Tensor integers(std::vector<int32_t> values) {
  const Shape shape{static_cast<int64_t>(values.size())};
  return Tensor::from<int32_t>(values, shape);
}

/// N numbers in 0 .. rows-1: the same in every run.
inline std::vector<int32_t> random_ids(int64_t N, int64_t rows, uint64_t seed) {
  RandomStream stream(99, StreamPurpose::user, seed);
  std::vector<int32_t> id(static_cast<size_t>(N));
  for (int32_t& i : id) i = static_cast<int32_t>(stream.below(static_cast<uint32_t>(rows)));
  return id;
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0);
}

inline std::vector<SimdLevel> simd_levels() {
  std::vector<SimdLevel> levels;
  for (SimdLevel level : {SimdLevel::v2, SimdLevel::v3, SimdLevel::v4}) {
    if (simd_level_supported(level)) levels.push_back(level);
  }
  return levels;
}

/// Runs the test's body under each instruction set of this CPU, and puts level and threads back.
class EachLevel : public ::testing::TestWithParam<SimdLevel> {
 protected:
  void SetUp() override { set_simd_level(GetParam()); }
  void TearDown() override {
    set_simd_level(level_);
    set_num_threads(threads_);
  }

 private:
  SimdLevel level_ = simd_level();
  int threads_ = num_threads();
};

inline std::string level_name(const ::testing::TestParamInfo<SimdLevel>& info) {
  return name_of(info.param);
}

/// Whether `run` writes the same bits to `output` with 1 and with 2 threads.
template <typename Run>
bool threads_do_not_matter(const Tensor& output, Run run) {
  set_num_threads(1);
  run();
  const Tensor one = output.clone();
  set_num_threads(2);
  run();
  return same_bits(one, output);
}

}  // namespace minibert::testing
