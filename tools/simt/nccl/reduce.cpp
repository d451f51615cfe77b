// reduce.cpp: one loop, for each type and operation.
#include "tools/simt/nccl/reduce.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace simt {
namespace {

/// visit(T(), Wide()): the type of the elements, and the one that they are combined in.
template <typename Visit>
void with_type(ncclDataType_t type, const Visit& visit) {
  switch (type) {
    case ncclInt8:
      return visit(int8_t(), int8_t());
    case ncclUint8:
      return visit(uint8_t(), uint8_t());
    case ncclInt32:
      return visit(int32_t(), int32_t());
    case ncclUint32:
      return visit(uint32_t(), uint32_t());
    case ncclInt64:
      return visit(int64_t(), int64_t());
    case ncclUint64:
      return visit(uint64_t(), uint64_t());
    case ncclFloat16:
      return visit(__half(), float());
    case ncclBfloat16:
      return visit(__nv_bfloat16(), float());
    case ncclFloat64:
      return visit(double(), double());
    default:
      return visit(float(), float());
  }
}

template <typename T>
T wide(T x) {
  return x;
}
float wide(__half x) {
  return __half2float(x);
}
float wide(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
template <typename T, typename Wide>
T narrow(Wide x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return static_cast<T>(x);
  }
}

template <typename Wide>
Wide combine(ncclRedOp_t op, Wide a, Wide b) {
  switch (op) {
    case ncclProd:
      return static_cast<Wide>(a * b);
    case ncclMax:
      return std::max(a, b);
    case ncclMin:
      return std::min(a, b);
    default:
      return static_cast<Wide>(a + b);
  }
}

}  // namespace

size_t size_of(ncclDataType_t type) {
  if (type < 0 || type == ncclFloat8e4m3 || type == ncclFloat8e5m2 || type >= ncclNumTypes)
    return 0;
  size_t size = 0;
  with_type(type, [&](auto element, auto) { size = sizeof element; });
  return size;
}

void multiply(const Reduction& reduction, ncclDataType_t type, void* data, size_t count) {
  if (!reduction.multiplies) return;
  with_type(type, [&](auto element, auto) {
    using T = decltype(element);
    std::memcpy(&element, reduction.factor, sizeof element);
    T* values = static_cast<T*>(data);
    for (size_t i = 0; i < count; ++i) values[i] = narrow<T>(wide(values[i]) * wide(element));
  });
}

void reduce(const Reduction& reduction, ncclDataType_t type, const std::vector<const void*>& data,
            void* result, size_t count) {
  with_type(type, [&](auto element, auto in) {
    using T = decltype(element);
    using Wide = decltype(in);
    T* values = static_cast<T*>(result);
    for (size_t i = 0; i < count; ++i) {
      T sum = static_cast<const T*>(data[0])[i];
      for (size_t rank = 1; rank < data.size(); ++rank)
        sum = narrow<T>(
            combine<Wide>(reduction.op, wide(sum), wide(static_cast<const T*>(data[rank])[i])));
      if (reduction.op == ncclAvg) sum = narrow<T>(wide(sum) / static_cast<Wide>(data.size()));
      values[i] = sum;
    }
  });
}

}  // namespace simt
