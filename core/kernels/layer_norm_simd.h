// layer_norm_simd.h: what layer_norm.cpp hands to layer_norm_simd.cpp: rows in raw pointers, since
// files compiled once per instruction set include no std containers.
#pragma once

#include <cstdint>

#include "core/simd.h"

namespace minibert {

/// Dropout on hidden rows, as core/random.h lays out its counter. threshold 0: none.
struct RowDropout {
  const int32_t *position = nullptr, *row_sample = nullptr;  // [T]
  uint64_t seed = 0;
  uint32_t step_layer_purpose = 0, threshold = 0;
  float scale = 1;
};

/// Null where the contract's tensor is undefined.
struct LayerNormForwardRows {
  int64_t H = 0;
  const float *x = nullptr, *bias = nullptr, *residual = nullptr, *weight = nullptr,
              *beta = nullptr;
  float *z = nullptr, *y = nullptr, *mean = nullptr, *rstd = nullptr;
  float eps = 0;
  RowDropout dropout;
  float* factor = nullptr;  // workspace, layer_norm_padded_size(H) floats; unused without dropout
};

struct LayerNormBackwardRows {
  int64_t H = 0;
  const float *dy = nullptr, *z = nullptr, *mean = nullptr, *rstd = nullptr, *weight = nullptr;
  float *dz = nullptr, *dx = nullptr;
  bool accumulate_dz = false;
  float *dbias = nullptr, *dweight = nullptr, *dbeta = nullptr;  // [H] of this block: overwritten
  RowDropout dropout;
  float* factor = nullptr;  // as above
};

/// H rounded up to the columns that one call of Philox serves at most.
constexpr int64_t layer_norm_padded_size(int64_t H) {
  return (H + 31) / 32 * 32;
}

/// Rows begin .. end - 1 of the tensors that the pointers start.
MB_SIMD_DECLARE(void, layer_norm_forward_rows,
                (const LayerNormForwardRows& rows, int64_t begin, int64_t end));
MB_SIMD_DECLARE(void, layer_norm_backward_rows,
                (const LayerNormBackwardRows& rows, int64_t begin, int64_t end));

}  // namespace minibert
