// elements.cpp: blocks of elements, and their sum.
#include "dist/elements.h"

#include <algorithm>

#include "core/error.h"
#include "core/simd.h"

namespace minibert {

MB_SIMD_DECLARE(void, add_bf16, (bf16*, const bf16*, const bf16*, int64_t));
MB_SIMD_DECLARE(void, add_f16, (f16*, const f16*, const f16*, int64_t));

namespace {

ElementType element_type(DType dtype) {
  if (dtype == DType::f32) return ElementType::f32;
  if (dtype == DType::bf16) return ElementType::bf16;
  MB_CHECK(dtype == DType::f16, "collective: elements are {}, expected f32, bf16, f16, f64 or i64",
           name_of(dtype));
  return ElementType::f16;
}

template <typename T>
void add_as(void* sum, const void* a, const void* b, int64_t count) {
  T* s = static_cast<T*>(sum);
  const T* x = static_cast<const T*>(a);
  const T* y = static_cast<const T*>(b);
  for (int64_t i = 0; i < count; ++i) s[i] = x[i] + y[i];
}

}  // namespace

size_t size_of(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return 4;
    case ElementType::bf16:
    case ElementType::f16:
      return 2;
    case ElementType::f64:
    case ElementType::i64:
      return 8;
  }
  return 0;
}

const char* name_of(ElementType type) {
  switch (type) {
    case ElementType::f32:
      return "f32";
    case ElementType::bf16:
      return "bf16";
    case ElementType::f16:
      return "f16";
    case ElementType::f64:
      return "f64";
    case ElementType::i64:
      return "i64";
  }
  return "?";
}

Elements::Elements(const Tensor& tensor)
    : Elements(tensor.raw(), tensor.numel(), element_type(tensor.dtype()), tensor.device()) {}

Elements Elements::part(int64_t first, int64_t n) const {
  MB_ASSERT(first >= 0 && n >= 0 && first + n <= count, "elements {} to {} of {}", first, first + n,
            count);
  return {data + static_cast<size_t>(first) * size_of(type), n, type, device};
}

Elements Elements::block(int number, int parts) const {
  const int64_t most = (count + parts - 1) / parts;
  const int64_t first = std::min(count, number * most);
  return part(first, std::min(count - first, most));
}

std::string Elements::str() const {
  return fmt::format("{} {}", count, name_of(type));
}

void add_elements(ElementType type, void* sum, const void* a, const void* b, int64_t count) {
  switch (type) {
    case ElementType::f32:
      return add_as<float>(sum, a, b, count);
    case ElementType::bf16:
      return MB_SIMD(add_bf16)(static_cast<bf16*>(sum), static_cast<const bf16*>(a),
                               static_cast<const bf16*>(b), count);
    case ElementType::f16:
      return MB_SIMD(add_f16)(static_cast<f16*>(sum), static_cast<const f16*>(a),
                              static_cast<const f16*>(b), count);
    case ElementType::f64:
      return add_as<double>(sum, a, b, count);
    case ElementType::i64:
      return add_as<int64_t>(sum, a, b, count);
  }
}

}  // namespace minibert
