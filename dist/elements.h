// elements.h: the memory that a collective works on, and the one addition that all of them use.
// Made by the callers of a process group (dist/process_group.h), added up by ring.cpp and
// gloo_group.cpp. Easy to break: 16-bit types are added in f32 and rounded to nearest even after
// each addition, so a sum over R ranks has R - 1 roundings, whoever adds. Test: ctest -R dist_elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/tensor.h"

namespace minibert {

/// Types that can be summed over ranks: those of gradients, f64 for norms and i64 for counts.
enum class ElementType : uint8_t { f32, bf16, f16, f64, i64 };

/// Bytes of one element.
size_t size_of(ElementType type);
/// "f32", "bf16", "f16", "f64" or "i64".
const char* name_of(ElementType type);

template <typename T>
inline constexpr ElementType element_type_of = ElementType::f32;
template <>
inline constexpr ElementType element_type_of<bf16> = ElementType::bf16;
template <>
inline constexpr ElementType element_type_of<f16> = ElementType::f16;
template <>
inline constexpr ElementType element_type_of<double> = ElementType::f64;
template <>
inline constexpr ElementType element_type_of<int64_t> = ElementType::i64;

/// `count` elements in a row. Owns nothing.
struct Elements {
  std::byte* data = nullptr;
  int64_t count = 0;
  ElementType type = ElementType::f32;
  Device device = Device::cpu;

  Elements() = default;
  Elements(void* data, int64_t count, ElementType type, Device device = Device::cpu)
      : data(static_cast<std::byte*>(data)), count(count), type(type), device(device) {}
  template <typename T, size_t N>
  explicit Elements(std::span<T, N> values)
      : Elements(values.data(), static_cast<int64_t>(values.size()), element_type_of<T>) {}
  /// Errors: UsageError for a type that has no sum (u8, i32).
  explicit Elements(const Tensor& tensor);

  size_t size() const { return static_cast<size_t>(count) * size_of(type); }  // bytes
  std::span<std::byte> bytes() const { return {data, size()}; }
  /// Elements first .. first + n - 1.
  Elements part(int64_t first, int64_t n) const;
  /// Part `number` of `parts`: ceil(count / parts) elements each, fewer or none in the last ones.
  Elements block(int number, int parts) const;
  /// "4096 f32"
  std::string str() const;
};

/// sum[i] = a[i] + b[i], i < count. `sum` may be a or b. In the host's memory.
void add_elements(ElementType type, void* sum, const void* a, const void* b, int64_t count);

}  // namespace minibert
