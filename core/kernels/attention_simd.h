// attention_simd.h: the fast CPU code of one head of one sequence, and the scratch that it needs.
// Called by attention.cpp, which deals heads to threads. Test: ctest -R kernels_attention.
#pragma once

#include "core/kernels/attention.h"
#include "core/portable.h"
#include "core/simd.h"

namespace minibert {

// ---- Scratch -----------------------------------------------------------------------------------
inline constexpr int64_t kAttentionTile = 32;         // most queries at a time
inline constexpr int64_t kAttentionKeyGroup = 8;      // keys are padded to a multiple of it
inline constexpr int64_t kAttentionColumnGroup = 32;  // columns of a head too
MB_INLINE constexpr int64_t attention_padded_length(int64_t length) {
  return (length + kAttentionKeyGroup - 1) / kAttentionKeyGroup * kAttentionKeyGroup;
}
MB_INLINE constexpr int64_t attention_padded_size(int64_t size) {
  return (size + kAttentionColumnGroup - 1) / kAttentionColumnGroup * kAttentionColumnGroup;
}
/// Floats: k, v; probabilities; query tile as rows and transposed (rows are used for out as well).
MB_INLINE constexpr int64_t attention_forward_scratch(int64_t length, int64_t size) {
  const int64_t S = attention_padded_length(length), D = attention_padded_size(size);
  return 2 * S * D + S * kAttentionTile + 2 * D * kAttentionTile;
}
/// Floats: k, v, dk, dv; probabilities and their gradient; tiles of q and dout, both ways.
MB_INLINE constexpr int64_t attention_backward_scratch(int64_t length, int64_t size) {
  const int64_t S = attention_padded_length(length), D = attention_padded_size(size);
  return 4 * S * D + 2 * S * kAttentionTile + 4 * D * kAttentionTile;
}

/// One head of a sequence that is not empty. `scratch`: attention_*_scratch(S, D) floats, 64-byte
/// aligned.
MB_SIMD_DECLARE(void, attention_head_forward,
                (const AttentionForward& args, int64_t sequence, int64_t head, float* scratch))
MB_SIMD_DECLARE(void, attention_head_backward,
                (const AttentionBackward& args, int64_t sequence, int64_t head, float* scratch))

}  // namespace minibert
