// arena.cpp: laying out slices.
#include "core/arena.h"

namespace minibert {
namespace {
constexpr int64_t kAlign = 64;  // elements
int64_t round_up(int64_t n) {
  return (n + kAlign - 1) / kAlign * kAlign;
}
}  // namespace

int ParameterTable::add(std::string name, Shape shape, Shape storage, bool adjacent) {
  MB_CHECK(find(name) < 0, "parameter table: \"{}\" is declared twice", name);
  MB_ASSERT(shape.numel() <= storage.numel(), "parameter {}: storage {} is smaller than shape {}",
            name, storage.str(), shape.str());
  int64_t offset = 0;
  if (!slices_.empty()) {
    offset = slices_.back().offset + slices_.back().storage.numel();
    if (!adjacent) offset = round_up(offset);
  }
  slices_.push_back({std::move(name), shape, storage, offset});
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

Arena::Arena(ParameterTable table)
    : table_(std::move(table)),
      weights_(Tensor::zeros({table_.size()}, DType::f32, MemoryCategory::weights)) {}

void Arena::with_gradients() {
  if (!gradients_.defined())
    gradients_ = Tensor::zeros({table_.size()}, DType::f32, MemoryCategory::gradients);
}

Tensor Arena::weight(int number) const {
  return weights_.slice(table_[number].offset, table_[number].storage);
}

Tensor Arena::gradient(int number) const {
  MB_ASSERT(gradients_.defined(), "arena: gradients were not allocated");
  return gradients_.slice(table_[number].offset, table_[number].storage);
}

}  // namespace minibert
