// arena.cpp: laying out slices, and the host's door.
#include "core/arena.h"

#include "core/kernels/cast.h"
#include "core/kernels/copy.h"

namespace minibert {
namespace {
constexpr int64_t kAlign = 64;  // elements
int64_t round_up(int64_t n) {
  return (n + kAlign - 1) / kAlign * kAlign;
}
}  // namespace

int ParameterTable::add(std::string name, Shape shape, Shape storage, bool adjacent, bool master) {
  MB_CHECK(find(name) < 0, "parameter table: \"{}\" is declared twice", name);
  MB_ASSERT(shape.numel() <= storage.numel(), "parameter {}: storage {} is smaller than shape {}",
            name, storage.str(), shape.str());
  int64_t offset = 0;
  if (!slices_.empty()) {
    offset = slices_.back().offset + slices_.back().storage.numel();
    if (!adjacent) offset = round_up(offset);
  }
  slices_.push_back({std::move(name), shape, storage, offset, master});
  return count() - 1;
}

int ParameterTable::find(const std::string& name) const {
  for (int i = 0; i < count(); ++i) {
    if (slices_[static_cast<size_t>(i)].name == name) return i;
  }
  return -1;
}

int64_t ParameterTable::size() const {
  return slices_.empty() ? 0 : round_up(slices_.back().offset + slices_.back().storage.numel());
}

int64_t ParameterTable::parameters() const {
  int64_t n = 0;
  for (const ParameterSlice& slice : slices_) n += slice.used();
  return n;
}

Arena::Arena(ParameterTable table, DType compute, Device device)
    : table_(std::move(table)),
      masters_(Tensor::zeros({table_.size()}, DType::f32, MemoryCategory::weights, device)),
      working_(compute == DType::f32
                   ? masters_
                   : Tensor::zeros({table_.size()}, compute, MemoryCategory::weights, device)) {}

void Arena::with_gradients() {
  if (!gradients_.defined()) {
    gradients_ =
        Tensor::zeros({table_.size()}, DType::f32, MemoryCategory::gradients, masters_.device());
  }
}

Tensor Arena::weight(int64_t offset, Shape storage, bool master) const {
  return (master ? masters_ : working_).slice(offset, storage);
}

Tensor Arena::weight(int number) const {
  const ParameterSlice& slice = table_[number];
  return weight(slice.offset, slice.storage, slice.master);
}

Tensor Arena::gradient(int number) const {
  MB_ASSERT(gradients_.defined(), "arena: gradients were not allocated");
  return gradients_.slice(table_[number].offset, table_[number].storage);
}

void Arena::read(int number, std::span<float> values) const {
  const ParameterSlice& slice = table_[number];
  MB_ASSERT(static_cast<int64_t>(values.size()) == slice.used(),
            "arena: {} has {} elements, but {} are read", slice.name, slice.used(), values.size());
  copy_to_host(masters_.slice(slice.offset, {slice.used()}), values.data());
}

void Arena::write(int number, std::span<const float> values) {
  const ParameterSlice& slice = table_[number];
  MB_ASSERT(static_cast<int64_t>(values.size()) == slice.used(),
            "arena: {} has {} elements, but {} are written", slice.name, slice.used(),
            values.size());
  copy_to_device(values.data(), masters_.slice(slice.offset, {slice.used()}));
  const int64_t padding = slice.storage.numel() - slice.used();
  if (padding > 0) masters_.slice(slice.offset + slice.used(), {padding}).fill_zero();
}

void Arena::refresh() {
  if (compute() != DType::f32) cast(masters_, working_, /* accumulate= */ false);
  touch();
}

}  // namespace minibert
