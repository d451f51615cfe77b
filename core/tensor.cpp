// tensor.cpp: making, slicing and copying tensors.
#include "core/tensor.h"

#include <algorithm>

#include "core/kernels/cast.h"
#include "core/kernels/copy.h"

namespace minibert {

Shape::Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  MB_CHECK(rank_ <= kMaxRank, "shape: rank is {}, expected at most {}", rank_, kMaxRank);
  for (int i = 0; i < rank_; ++i) {
    MB_CHECK(dims[i] >= 0, "shape: dimension {} is {}, expected 0 or more", i, dims[i]);
    dims_[i] = dims[i];
  }
}

int64_t Shape::numel() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= dims_[i];
  return n;
}

std::string Shape::str() const {
  return fmt::format("[{}]", fmt::join(dims_.begin(), dims_.begin() + rank_, ", "));
}

Tensor Tensor::empty(Shape shape, DType dtype, MemoryCategory category, Device device) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = device;
  const size_t bytes = static_cast<size_t>(t.bytes());
  Allocator* allocator = &Allocator::instance();  // it goes back to where it came from
  void* pointer = allocator->allocate(bytes, category, device);
  t.storage_ =
      std::shared_ptr<void>(pointer, [=](void* p) { allocator->free(p, bytes, category, device); });
  t.data_ = static_cast<std::byte*>(pointer);
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, MemoryCategory category, Device device) {
  Tensor t = empty(shape, dtype, category, device);
  t.fill_zero();
  return t;
}

Tensor Tensor::view(void* data, Shape shape, DType dtype, std::shared_ptr<void> owner,
                    Device device) {
  Tensor t;
  t.storage_ = owner ? std::move(owner) : std::shared_ptr<void>(data, [](void*) {});
  t.data_ = static_cast<std::byte*>(data);
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.device_ = device;
  return t;
}

float Tensor::item() const {
  MB_CHECK(numel() == 1, "tensor: item() is for one element, but the shape is {}", shape_.str());
  return *data<float>();
}

Tensor Tensor::reshape(Shape shape) const {
  MB_CHECK(shape.numel() == numel(), "reshape: {} has {} elements, expected {} as in {}",
           shape.str(), shape.numel(), numel(), shape_.str());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(int64_t first, int64_t count) const {
  MB_CHECK(rank() >= 1 && first >= 0 && count >= 0 && first + count <= dim(0),
           "rows: {} to {} are asked for, expected them inside {}", first, first + count,
           shape_.str());
  std::array<int64_t, Shape::kMaxRank> dims{};
  int64_t row = 1;
  for (int i = 0; i < rank(); ++i) dims[i] = dim(i);
  for (int i = 1; i < rank(); ++i) row *= dims[i];
  dims[0] = count;
  return slice(first * row,
               Shape(std::span<const int64_t>(dims.data(), static_cast<size_t>(rank()))));
}

Tensor Tensor::slice(int64_t first, Shape shape) const {
  MB_CHECK(first >= 0 && first + shape.numel() <= numel(),
           "slice: elements {} to {} are asked for, expected them inside {}", first,
           first + shape.numel(), shape_.str());
  Tensor t = *this;
  t.data_ += first * static_cast<int64_t>(size_of(dtype_));
  t.shape_ = shape;
  return t;
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_, MemoryCategory::activations, device_);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::host_copy(MemoryCategory category) const {
  Tensor t = empty(shape_, dtype_, category);
  copy_to_host(*this, t.raw());
  return t;
}

Tensor Tensor::like(Shape shape) const {
  return empty(shape, dtype_, MemoryCategory::activations, device_);
}

Tensor Tensor::to(DType dtype) const {
  Tensor t = empty(shape_, dtype, MemoryCategory::activations, device_);
  cast(*this, t, /* accumulate= */ false);
  return t;
}

Tensor::operator Operand() const {
  Operand operand;
  operand.pointer = data_;
  operand.axes = rank();
  for (int axis = 0; axis < rank(); ++axis) operand.dims[axis] = dim(axis);
  operand.type = dtype_;
  operand.place = device_;
  return operand;
}

void Tensor::copy_from(const Tensor& source) const {
  MB_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_,
           "copy: source is {} {}, expected {} {}", name_of(source.dtype_), source.shape_.str(),
           name_of(dtype_), shape_.str());
  copy_bytes(source, *this);
}

void Tensor::fill_zero() const {
  zero_bytes(*this);
}

}  // namespace minibert
