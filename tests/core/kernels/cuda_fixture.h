// cuda_fixture.h: what the tests of CUDA kernels share: tensors on the device between guard elements,
// and every schedule that the engine of tools/simt offers. The same tests run on a GPU, where there
// is one schedule, and are skipped where there is neither. Easy to break: a CUDA tensor's memory is
// never read by the host; on_cpu() copies it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/kernels/copy.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/schedules.h"
#ifdef MINIBERT_SIMT
#include "tools/simt/control.h"
#endif

namespace minibert::testing {

/// Skips its tests where no kernel can run on device cuda.
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << cuda_unavailable_reason();
  }
};

/// A copy on the device; undefined stays undefined.
inline Tensor on_cuda(const Tensor& host) {
  if (!host.defined()) return {};
  Tensor there =
      Tensor::empty(host.shape(), host.dtype(), MemoryCategory::activations, Device::cuda);
  copy_to_device(host.raw(), there);
  return there;
}
/// A copy on the host, made after everything that was queued.
inline Tensor on_cpu(const Tensor& there) {
  if (!there.defined()) return {};
  Tensor host = Tensor::empty(there.shape(), there.dtype());
  copy_to_host(there, host.raw());
  return host;
}

/// A tensor on the device whose storage has guard elements before and after it, as Guarded is on the
/// host. Its first element is aligned to 16 bytes, or, `misaligned`, to one element.
class GuardedCuda {
 public:
  explicit GuardedCuda(Shape shape, DType dtype = DType::f32, bool misaligned = false) {
    const int64_t before = kGuard + (misaligned ? 1 : 0);
    const Tensor image = Tensor::empty({shape.numel() + before + kGuard}, dtype);
    std::memset(image.raw(), kSentinel, static_cast<size_t>(image.bytes()));
    storage_ = on_cuda(image);
    tensor_ = storage_.slice(before, shape);
  }
  const Tensor& operator*() const { return tensor_; }
  const Tensor* operator->() const { return &tensor_; }

  /// Whether no kernel wrote outside.
  bool intact() const {
    const Tensor now = on_cpu(storage_);
    const auto* bytes = static_cast<const unsigned char*>(now.raw());
    const int64_t first =
        static_cast<std::byte*>(tensor_.raw()) - static_cast<std::byte*>(storage_.raw());
    for (int64_t i = 0; i < now.bytes(); ++i)
      if ((i < first || i >= first + tensor_.bytes()) && bytes[i] != kSentinel) return false;
    return true;
  }

 private:
  static constexpr int64_t kGuard = 32;
  static constexpr unsigned char kSentinel = 0xA7;  // a small negative number in every type
  Tensor storage_, tensor_;
};

/// The data step on the device, for dropout sites; lives until the process ends.
inline const uint32_t* cuda_data_step(uint32_t step) {
  static auto* steps = new std::vector<Tensor>;
  steps->push_back(on_cuda(integers({static_cast<int32_t>(step)})));
  return static_cast<const uint32_t*>(steps->back().raw());
}
/// Points to one float on the device; lives until the process ends.
inline const float* cuda_float(float value) {
  static auto* floats = new std::vector<Tensor>;
  const std::vector<float> values{value};
  floats->push_back(on_cuda(Tensor::from<float>(values, {1})));
  return static_cast<const float*>(floats->back().raw());
}

/// Runs `run`, which queues kernels and returns what they computed (on the device), under the first
/// schedule and gives those results on the host; then under all others, and expects the same bits.
inline std::vector<Tensor> same_bits_in_every_schedule(
    const std::function<std::vector<Tensor>()>& run) {
  std::vector<Tensor> first;
  const std::vector<Schedule> all = schedules();
  for (const Schedule& schedule : all) {
    if (!use_schedule(schedule)) continue;
    std::vector<Tensor> results;
    for (const Tensor& there : run()) results.push_back(on_cpu(there));
    if (first.empty()) {
      first = results;
      continue;
    }
    for (size_t i = 0; i < results.size(); ++i)
      EXPECT_TRUE(same_bits(results[i], first[i])) << "result " << i << ", " << schedule.name;
  }
  use_schedule(all.front());
  return first;
}

/// The kernels that `run` launches, in order: "cast_packs<2, float, __half>"; on a GPU none.
inline std::vector<std::string> kernels_of(const std::function<void()>& run) {
  std::vector<std::string> names;
#ifdef MINIBERT_SIMT
  simt::clear_launches();
#endif
  run();
#ifdef MINIBERT_SIMT
  for (const simt::LaunchRecord& record : simt::launches()) names.push_back(record.name);
#endif
  return names;
}

/// Expects run(1), run(2), ... to begin with the kernels whose names begin so. All rungs compute the
/// same, so that results alone would not tell if one ran in another's place.
inline void expect_rungs(const std::vector<std::string>& kernels,
                         const std::function<void(int rung)>& run) {
  for (size_t i = 0; i < kernels.size(); ++i) {
    const std::vector<std::string> names = kernels_of([&] { run(static_cast<int>(i) + 1); });
#ifdef MINIBERT_SIMT
    ASSERT_FALSE(names.empty()) << "rung " << i + 1;
    EXPECT_TRUE(names.front().starts_with(kernels[i]))
        << "rung " << i + 1 << " launches " << names.front() << ", not " << kernels[i];
#endif
  }
}

}  // namespace minibert::testing
