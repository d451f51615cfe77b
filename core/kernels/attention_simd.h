// attention_simd.h: what attention.cpp hands to attention_simd.cpp: one head of one sequence, in
// raw pointers, since files compiled once per instruction set include no std containers.
#pragma once

#include <cstdint>

#include "core/simd.h"

namespace minibert {

/// Row 0 of each pointer is the sequence's first token, column 0 the head's first.
struct AttentionHead {
  int64_t length = 0;                                      // S, tokens of the sequence
  int64_t size = 0;                                        // D, columns of the head
  int64_t qkv_stride = 0, out_stride = 0, lse_stride = 0;  // floats from row to row
  const float *q = nullptr, *k = nullptr, *v = nullptr;
  float* out = nullptr;                               // forward writes, backward reads
  float* lse = nullptr;                               // forward writes, backward reads
  const float* dout = nullptr;                        // backward, as all below
  float *dq = nullptr, *dk = nullptr, *dv = nullptr;  // qkv_stride
  float scale = 0;
  uint64_t seed = 0;  // dropout, as core/random.h lays out its counter
  uint32_t threshold = 0, head = 0, sample = 0, step_layer_purpose = 0;
  float dropout_scale = 1;
  float* scratch = nullptr;  // attention_*_scratch(S, D) floats, 64-byte aligned
};

// ---- Scratch -----------------------------------------------------------------------------------
inline constexpr int64_t kAttentionTile = 32;         // most queries at a time
inline constexpr int64_t kAttentionKeyGroup = 8;      // keys are padded to a multiple of it
inline constexpr int64_t kAttentionColumnGroup = 32;  // columns of a head too
constexpr int64_t attention_padded_length(int64_t length) {
  return (length + kAttentionKeyGroup - 1) / kAttentionKeyGroup * kAttentionKeyGroup;
}
constexpr int64_t attention_padded_size(int64_t size) {
  return (size + kAttentionColumnGroup - 1) / kAttentionColumnGroup * kAttentionColumnGroup;
}
/// Floats: k, v; probabilities; query tile as rows and transposed (rows are used for out as well).
constexpr int64_t attention_forward_scratch(int64_t length, int64_t size) {
  const int64_t S = attention_padded_length(length), D = attention_padded_size(size);
  return 2 * S * D + S * kAttentionTile + 2 * D * kAttentionTile;
}
/// Floats: k, v, dk, dv; probabilities and their gradient; tiles of q and dout, both ways.
constexpr int64_t attention_backward_scratch(int64_t length, int64_t size) {
  const int64_t S = attention_padded_length(length), D = attention_padded_size(size);
  return 4 * S * D + 2 * S * kAttentionTile + 4 * D * kAttentionTile;
}

MB_SIMD_DECLARE(void, attention_head_forward, (const AttentionHead& head));
MB_SIMD_DECLARE(void, attention_head_backward, (const AttentionHead& head));

}  // namespace minibert
