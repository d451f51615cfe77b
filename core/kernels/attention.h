// attention.h: variable-length multi-head self-attention, forward and backward, with dropout on the
// probabilities and no [S, S] buffer. Called by autograd/attention.cpp.
#pragma once

#include "core/random.h"
#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
/// out_i = sum_j softmax_j(q_i k_j * scale) dropout_ij v_j, within each sequence and head.
/// Shapes  qkv [N, 3, A, D]; out [N, A, D]; lse [N, A] f32 (log of the softmax's denominator, saved
/// for backward);
///         cu_seqlens [B+1] i32; sample [B] i32. N >= T = cu_seqlens[B]; rows beyond T: out is set
///         to zero.
/// Errors  UsageError for shapes that disagree, cu_seqlens that fall or pass N; any D up to 256.
struct AttentionForward {
  Tensor qkv, out, lse, cu_seqlens, sample;
  float scale = 0;  // 1 / sqrt(D)
  Dropout dropout;
};
/// dqkv [N, 3, A, D] is written (never accumulated); rows beyond T: zero. One task owns a
/// (sequence, head): no atomics.
struct AttentionBackward {
  Tensor qkv, out, lse, dout, dqkv, cu_seqlens, sample;
  float scale = 0;
  Dropout dropout;
};

void attention_forward(const AttentionForward& args, Stream stream = {});
void attention_backward(const AttentionBackward& args, Stream stream = {});
void attention_forward_reference(const AttentionForward& args);
void attention_backward_reference(const AttentionBackward& args);
double attention_forward_flops(const AttentionForward& args);
double attention_backward_flops(const AttentionBackward& args);

}  // namespace minibert
