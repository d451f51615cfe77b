// op_samples.h: what the files of OpInfos share: random inputs from a seed, and lists of sizes.
// Internal to autograd. Values are uniform with the given standard deviation: cheap to draw at
// BERT-base sizes.
#pragma once

#include <tuple>
#include <vector>

#include "autograd/op_info.h"
#include "autograd/ops.h"

namespace minibert {

/// The tensor itself if it lies on this device, else a copy there. Undefined stays undefined.
Tensor copy_on(Device device, const Tensor& t);

/// Draws the tensors of one sample, one after the other, on the host.
class SampleMaker {
 public:
  SampleMaker(uint64_t seed, DType dtype, Device device = Device::cpu)
      : seed_(seed), dtype_(dtype), device_(device) {}
  /// Uniform values around `mean`, of the compute type.
  Tensor values(Shape shape, double deviation = 1, double mean = 0);
  /// The same in f32, for inputs that are f32 whatever the compute type is.
  Tensor f32_values(Shape shape, double deviation = 1, double mean = 0);
  /// count indices in 0 .. bound-1, i32.
  Tensor indices(int64_t count, int64_t bound);
  /// Positions and sample numbers of T rows.
  RowPlaces places(int64_t T);
  /// Sequences of these lengths, with random sample numbers.
  Sequences sequences(const std::vector<int64_t>& lengths);
  /// A dropout site outside BERT.
  Dropout dropout(float p);
  /// What `forward` uses of them: the same on the sample's device.
  Tensor there(const Tensor& t) const;
  RowPlaces there(const RowPlaces& places) const;
  Sequences there(const Sequences& sequences) const;
  RowGroups there(const RowGroups& groups) const;
  Dropout there(const Dropout& site) const;
  Device device() const { return device_; }
  /// Of so many elements of the compute type.
  int64_t bytes(int64_t elements) const { return elements * static_cast<int64_t>(size_of(dtype_)); }

 private:
  RandomStream next() { return {seed_, StreamPurpose::user, ++count_}; }
  uint64_t seed_, count_ = 0;
  DType dtype_;
  Device device_;
};

/// BERT-base at 8 sequences of 128 tokens; P = 15 % of the rows, V padded to a multiple of 64.
struct BertBase {
  static constexpr int64_t B = 8, S = 128, T = B * S, H = 768, F = 3072, A = 12, D = H / A, P = 154,
                           V = 30528, classes = 30522;
};

/// OpInfo::bert_base: sample(maker, size...).
template <typename... Size>
std::function<OpSample(uint64_t, DType, Device)> once(OpSample (*sample)(SampleMaker, Size...),
                                                      const std::tuple<Size...>& size) {
  return [=](uint64_t seed, DType dtype, Device device) {
    const SampleMaker maker(seed, dtype, device);
    OpSample made = std::apply(sample, std::tuple_cat(std::tuple(maker), size));
    made.device = device;
    return made;
  };
}

/// OpInfo::samples: the same for each of these sizes.
template <typename... Size>
std::function<std::vector<OpSample>(uint64_t, DType, Device)> at(
    OpSample (*sample)(SampleMaker, Size...), const std::vector<std::tuple<Size...>>& sizes) {
  return [=](uint64_t seed, DType dtype, Device device) {
    std::vector<OpSample> made;
    for (const std::tuple<Size...>& size : sizes)
      made.push_back(once(sample, size)(seed, dtype, device));
    return made;
  };
}

/// The two parts of all_ops().
std::vector<OpInfo> simple_ops();
std::vector<OpInfo> layer_ops();

}  // namespace minibert
