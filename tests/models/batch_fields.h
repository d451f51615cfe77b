// batch_fields.h: what tests of loader and model read out of a packed batch.
#pragma once

#include <cstdint>
#include <vector>

#include "models/text/packed_batch.h"

namespace minibert::testing {

/// Elements of an i32 tensor; none of an undefined one.
inline std::vector<int32_t> values(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  const auto span = tensor.span<int32_t>();
  return {span.begin(), span.end()};
}

/// Packed rows of the masked positions, [P].
inline std::vector<int32_t> masked_rows(const PackedBatch& batch) {
  std::vector<int32_t> rows;
  for (int64_t p = 0; p < batch.masked_rows(); ++p)
    rows.push_back(batch.head_row.data<int32_t>()[batch.mlm_index.data<int32_t>()[p]]);
  return rows;
}

inline Tensor tensor_of(const std::vector<int32_t>& values) {
  return Tensor::from<int32_t>(values, {static_cast<int64_t>(values.size())});
}

}  // namespace minibert::testing
