// tensor.h: a small value: storage, offset, shape, dtype, device. Row-major and contiguous, always.
// Called by everything above. Slicing along the first axis and reshaping are free; a transpose
// would be an op. Kernels never see strides. Copying a Tensor shares its storage (four promises
// below). Easy to break: `rows()` keeps the whole storage alive. Test: ctest -R core_tensor.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "core/allocator.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/operand.h"

namespace minibert {

/// Up to four dimensions, each 0 or more. A scalar has rank 0 and one element.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[axis]; }
  int64_t numel() const;
  bool operator==(const Shape&) const = default;
  /// "[37, 768]"
  std::string str() const;

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

/// 1. A default tensor is empty: no storage, defined() is false.
/// 2. Copies and slices share storage; clone() does not.
/// 3. Elements are contiguous in row-major order from data() on; data() is 64-byte aligned unless
///    it is a slice.
/// 4. A new tensor's elements are uninitialised unless its maker says otherwise.
class Tensor {
 public:
  Tensor() = default;

  static Tensor empty(Shape shape, DType dtype = DType::f32,
                      MemoryCategory category = MemoryCategory::activations,
                      Device device = Device::cpu);
  static Tensor zeros(Shape shape, DType dtype = DType::f32,
                      MemoryCategory category = MemoryCategory::activations,
                      Device device = Device::cpu);
  /// Copies values into a new CPU tensor. Errors: UsageError unless values.size() == shape.numel().
  template <typename T>
  static Tensor from(std::span<const T> values, Shape shape,
                     MemoryCategory category = MemoryCategory::data);
  /// Views memory that `owner` keeps alive (a mapped file, an arena).
  static Tensor view(void* data, Shape shape, DType dtype, std::shared_ptr<void> owner,
                     Device device = Device::cpu);

  bool defined() const { return storage_ != nullptr; }
  /// Whether no other tensor shares the storage: nobody would notice if it were overwritten.
  bool unique() const { return storage_.use_count() == 1; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t numel() const { return shape_.numel(); }
  int64_t bytes() const { return numel() * static_cast<int64_t>(size_of(dtype_)); }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }

  /// Pointer to the first element, in the memory of device(): on cuda only kernels may follow it.
  /// MB_ASSERTs that T is the element type.
  template <typename T>
  T* data() const {
    MB_ASSERT(dtype_of<T> == dtype_, "tensor: read as {}, but it is {} {}", name_of(dtype_of<T>),
              name_of(dtype_), shape_.str());
    return reinterpret_cast<T*>(data_);
  }
  void* raw() const { return data_; }
  /// What kernels see. It owns nothing.
  operator Operand() const;
  template <typename T>
  std::span<T> span() const {
    return {data<T>(), static_cast<size_t>(numel())};
  }
  /// The only element of a one-element f32 tensor, which lies on the CPU.
  float item() const;

  /// Same elements, other shape. Errors: UsageError unless numel agrees.
  Tensor reshape(Shape shape) const;
  /// Rows first .. first + count - 1 of the first axis; shares storage.
  Tensor rows(int64_t first, int64_t count) const;
  /// Elements first .. first + shape.numel() - 1, as `shape`; shares storage.
  Tensor slice(int64_t first, Shape shape) const;
  Tensor clone() const;
  /// A copy in the host's memory. Waits for the device.
  Tensor host_copy(MemoryCategory category = MemoryCategory::data) const;
  /// A new tensor of this type and on this device, uninitialised: how ops allocate results.
  Tensor like(Shape shape) const;
  /// The same values in another floating type, rounded to nearest even. A copy, even of one type.
  Tensor to(DType dtype) const;
  /// Copies the elements of `source` here. Errors: UsageError unless shape and dtype agree.
  void copy_from(const Tensor& source) const;
  void fill_zero() const;

 private:
  std::shared_ptr<void> storage_;
  std::byte* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::f32;
  Device device_ = Device::cpu;
};

template <typename T>
Tensor Tensor::from(std::span<const T> values, Shape shape, MemoryCategory category) {
  MB_CHECK(static_cast<int64_t>(values.size()) == shape.numel(),
           "tensor: {} values are given, expected {} for shape {}", values.size(), shape.numel(),
           shape.str());
  Tensor t = empty(shape, dtype_of<T>, category);
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

}  // namespace minibert
