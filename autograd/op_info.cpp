// op_info.cpp: the list of ops joined from its parts, and the random inputs of samples.
#include "autograd/op_info.h"

#include <cmath>

#include "autograd/op_samples.h"
#include "core/device_value.h"
#include "core/kernels/copy.h"
#include "core/nearest_name.h"

namespace minibert {

const std::vector<OpInfo>& all_ops() {
  static const std::vector<OpInfo> ops = [] {
    std::vector<OpInfo> all = simple_ops();
    for (OpInfo& op : layer_ops()) all.push_back(std::move(op));
    return all;
  }();
  return ops;
}

const OpInfo& find_op(const std::string& name) {
  std::vector<std::string> names;
  for (const OpInfo& op : all_ops()) {
    if (op.name == name) return op;
    names.push_back(op.name);
  }
  fail<UsageError>("op: {} is not known, expected an op of autograd/ops.h.{} Known: {}", name,
                   did_you_mean(name, names), fmt::join(names, ", "));
}

Tensor copy_on(Device device, const Tensor& t) {
  if (!t.defined() || device == t.device()) return t;
  if (device == Device::cpu) return t.host_copy(MemoryCategory::activations);
  const Tensor there = Tensor::empty(t.shape(), t.dtype(), MemoryCategory::activations, device);
  copy_to_device(t.raw(), there);
  return there;
}

std::vector<Tensor> OpSample::inputs_there() const {
  std::vector<Tensor> there;
  for (const Tensor& t : inputs) there.push_back(copy_on(device, t));
  return there;
}

Tensor SampleMaker::there(const Tensor& t) const {
  return copy_on(device_, t);
}

RowPlaces SampleMaker::there(const RowPlaces& places) const {
  return {there(places.position), there(places.row_sample)};
}

Sequences SampleMaker::there(const Sequences& sequences) const {
  return {there(sequences.cu_seqlens), there(sequences.sample), sequences.lengths};
}

RowGroups SampleMaker::there(const RowGroups& groups) const {
  return {there(groups.order), there(groups.row), there(groups.start)};
}

Dropout SampleMaker::there(const Dropout& site) const {
  if (device_ == Device::cpu || !site.data_step) return site;
  static const DeviceValue<uint32_t>* step = new DeviceValue<uint32_t>(*site.data_step, device_);
  Dropout same = site;
  same.data_step = step->get();
  return same;
}

Tensor SampleMaker::values(Shape shape, double deviation, double mean) {
  const Tensor t = f32_values(shape, deviation, mean);
  return dtype_ == DType::f32 ? t : t.to(dtype_);
}

Tensor SampleMaker::f32_values(Shape shape, double deviation, double mean) {
  RandomStream random = next();
  Tensor t = Tensor::empty(shape, DType::f32, MemoryCategory::data);
  const double half_width = std::sqrt(3.0) * deviation;
  for (float& x : t.span<float>())
    x = static_cast<float>(mean + half_width * (2 * random.uniform() - 1));
  return t;
}

Tensor SampleMaker::indices(int64_t count, int64_t bound) {
  RandomStream random = next();
  Tensor t = Tensor::empty({count}, DType::i32, MemoryCategory::data);
  for (int32_t& x : t.span<int32_t>())
    x = static_cast<int32_t>(random.below(static_cast<uint32_t>(bound)));
  return t;
}

RowPlaces SampleMaker::places(int64_t T) {
  return {indices(T, 128), indices(T, 1 << 20)};
}

Sequences SampleMaker::sequences(const std::vector<int64_t>& lengths) {
  const int64_t B = static_cast<int64_t>(lengths.size());
  Tensor cu = Tensor::zeros({B + 1}, DType::i32, MemoryCategory::data);
  int32_t* first = cu.data<int32_t>();
  AttentionLengths known{0, 0};
  for (int64_t length : lengths) {
    first[1] = first[0] + static_cast<int32_t>(length);
    ++first;
    known.sum += length;
    known.sum_of_squares += length * length;
  }
  return {cu, indices(B, 1 << 20), known};
}

Dropout SampleMaker::dropout(float p) {
  static const uint32_t kStep = 3;
  return make_dropout(p, seed_ + 1, &kStep, 1, DropoutPurpose::user);
}

}  // namespace minibert
