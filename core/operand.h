// operand.h: what a kernel sees of a tensor: pointer, type, device and shape, as plain data.
// A chapter's argument struct is made of Operands: one struct serves the reference, the SIMD code
// and CUDA (it is trivially copyable, so it can be a kernel's argument). A Tensor converts to it.
// Easy to break: an Operand owns nothing, so whoever calls a kernel keeps the tensors alive until
// the kernel is queued; and `data<T>()` checks the type, which is how a missed dtype shows.
// Test: ctest -R core_tensor.
#pragma once

#include "core/dtype.h"
#include "core/portable.h"

namespace minibert {

enum class Device : uint8_t { cpu, cuda };

struct Operand {
  static constexpr int kMaxRank = 4;

  void* pointer = nullptr;
  int64_t dims[kMaxRank] = {};
  int32_t axes = 0;
  DType type = DType::f32;
  Device place = Device::cpu;

  /// Whether the caller gave it.
  MB_INLINE bool defined() const { return pointer != nullptr; }
  MB_INLINE int rank() const { return axes; }
  MB_INLINE int64_t dim(int axis) const { return dims[axis]; }
  MB_INLINE DType dtype() const { return type; }
  MB_INLINE Device device() const { return place; }
  MB_INLINE void* raw() const { return pointer; }
  MB_INLINE int64_t numel() const {
    int64_t n = 1;
    for (int axis = 0; axis < axes; ++axis) n *= dims[axis];
    return n;
  }
  MB_INLINE int64_t bytes() const { return numel() * static_cast<int64_t>(size_of(type)); }
  /// Pointer to the first element; InternalError if T is not the element type.
  template <typename T>
  MB_HOST_INLINE T* data() const {
    if (type != dtype_of<T>) type_mismatch(dtype_of<T>);
    return static_cast<T*>(pointer);
  }
  /// The same, or null where the operand was not given.
  template <typename T>
  MB_HOST_INLINE T* data_or_null() const {
    return defined() ? data<T>() : nullptr;
  }

 private:
  [[noreturn]] void type_mismatch(DType asked) const;
};

}  // namespace minibert
