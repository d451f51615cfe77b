// device_value.h: plain structs in a device's memory: one, such as the StepState, or an array, such
// as the optimizer's tables. read() and write() copy everything; a kernel gets pointers. Easy to
// break: read() waits for the device, so it belongs before or after a step, never inside.
// Test: ctest -R core_tensor.
#pragma once

#include <span>
#include <type_traits>
#include <vector>

#include "core/kernels/copy.h"
#include "core/tensor.h"

namespace minibert {

template <typename T>
class DeviceValue {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit DeviceValue(const T& value = {}, Device device = Device::cpu)
      : bytes_(Tensor::empty({sizeof(T)}, DType::u8, MemoryCategory::workspace, device)) {
    write(value);
  }
  T read() const {
    T value;
    copy_to_host(bytes_, &value);
    return value;
  }
  void write(const T& value) const { copy_to_device(&value, bytes_); }
  /// In the device's memory: for kernels, not to be followed by the host.
  T* get() const { return static_cast<T*>(bytes_.raw()); }

 private:
  Tensor bytes_;
};

/// A fixed number of them.
template <typename T>
class DeviceArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  DeviceArray() = default;
  /// Every element default-constructed.
  DeviceArray(size_t count, MemoryCategory category, Device device = Device::cpu)
      : DeviceArray(std::vector<T>(count), category, device) {}
  DeviceArray(const std::vector<T>& values, MemoryCategory category, Device device = Device::cpu)
      : count_(values.size()),
        bytes_(Tensor::empty({static_cast<int64_t>(count_ * sizeof(T))}, DType::u8, category,
                             device)) {
    copy_to_device(values.data(), bytes_);
  }
  size_t size() const { return count_; }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    if (count_ > 0) copy_to_host(bytes_, values.data());
    return values;
  }
  /// Every byte becomes 0.
  void fill_zero() const { bytes_.fill_zero(); }
  /// In the device's memory: for kernels, not to be followed by the host.
  T* get() const { return static_cast<T*>(bytes_.raw()); }

 private:
  size_t count_ = 0;
  Tensor bytes_;
};

}  // namespace minibert
