// parameter.cpp: declaring and binding.
#include "nn/parameter.h"

namespace minibert {
namespace {

/// The same shape with another first axis.
Shape with_rows(const Shape& shape, int64_t rows) {
  int64_t dims[Shape::kMaxRank] = {};
  for (int axis = 0; axis < shape.rank(); ++axis) dims[axis] = axis == 0 ? rows : shape[axis];
  return Shape(std::span<const int64_t>(dims, static_cast<size_t>(shape.rank())));
}

}  // namespace

void ParameterWalk::declare(const std::string& name, Shape shape, Shape storage,
                            Initializer initializer, bool adjacent) {
  table_->add(name, shape, storage, adjacent, master_);
  initializers_->push_back(initializer);
}

void ParameterWalk::bind(const std::string& first_name, const std::string& leaf_name,
                         Variable& variable, Shape storage) {
  const int number = arena_->table().find(first_name);
  MB_ASSERT(number >= 0, "parameter {} was not declared", first_name);
  const ParameterSlice& slice = arena_->table()[number];
  Tensor gradient;
  if (arena_->gradients().defined()) gradient = arena_->gradients().slice(slice.offset, storage);
  variable =
      Variable::leaf(arena_->weight(slice.offset, storage, slice.master), gradient, leaf_name);
  leaves_->push_back(variable);
}

void ParameterWalk::parameter(const char* name, Variable& variable, Shape shape,
                              Initializer initializer, int64_t storage_rows) {
  const std::string path = prefix_ + name;
  const Shape storage = storage_rows > 0 ? with_rows(shape, storage_rows) : shape;
  if (table_) {
    declare(path, shape, storage, initializer, /* adjacent= */ false);
  } else {
    bind(path, path, variable, storage);
  }
}

void ParameterWalk::masters(const std::function<void()>& list) {
  master_ = true;
  list();
  master_ = false;
}

void ParameterWalk::fused(std::initializer_list<const char*> names, Variable& variable, Shape each,
                          Initializer initializer) {
  const std::string first = prefix_ + *names.begin();
  if (!table_) {
    std::string leaf_name = prefix_;
    for (const char* name : names)
      leaf_name += (name == *names.begin() ? "" : "+") + std::string(name);
    bind(first, leaf_name, variable, with_rows(each, each[0] * static_cast<int64_t>(names.size())));
    return;
  }
  for (const char* name : names) {
    declare(prefix_ + name, each, each, initializer, /* adjacent= */ name != *names.begin());
  }
}

}  // namespace minibert
