// attention.h: variable-length multi-head self-attention, forward and backward, with dropout on the
// probabilities and no [S, S] buffer. Called by autograd/attention.cpp.
// Easy to get wrong: dropout multiplies the normalised probabilities, so the softmax's denominator
// sums kept and dropped keys alike; positions in dropout's counter count within the sequence, so
// that a mask does not depend on packing. Source: arXiv 1706.03762, sec. 3.2; backward from the
// saved log-sum-exp: arXiv 2205.14135, sec. 3.1. Test: ctest -R attention.
#pragma once

#include "core/random.h"
#include "core/tensor.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
// For each sequence of S tokens and each head; i is a query, j a key, d a column of the head.
//   s_ij = scale * sum_d q_id k_jd                       scores
//   lse_i = log sum_j exp(s_ij)                          saved for backward
//   p_ij = exp(s_ij - lse_i)                             softmax
//   m_ij = keep_ij ? 65536 / (65536 - threshold) : 0     dropout (1 where it is inactive)
//   out_id = sum_j p_ij m_ij v_jd
// Backward, from do = dout:
//   dv_jd = sum_i p_ij m_ij do_id
//   da_ij = sum_d do_id v_jd           gradient of p_ij m_ij;   dp_ij = m_ij da_ij
//   ds_ij = p_ij (dp_ij - sum_j' p_ij' dp_ij')           softmax
//         = p_ij (dp_ij - delta_i)
//   delta_i = sum_j p_ij m_ij sum_d do_id v_jd = sum_d do_id out_id
//   dq_id = scale * sum_j ds_ij k_jd     dk_jd = scale * sum_i ds_ij q_id
// delta_i needs no [S, S] sum: it is a dot product of two rows that exist already.
//
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   qkv dqkv [N, 3, A, D]   out dout [N, A, D]   lse [N, A]   all f32
//   cu_seqlens [B+1] i32    sample [B] i32 (read where dropout is active; else it may be undefined)
//   cu_seqlens[0] = 0; N >= T = cu_seqlens[B]; sequences of length 0 are skipped, and under dropout
//   a sequence has at most 65,536 tokens (16 bits of its counter). A from 1 to 65,535; D from 1 to
//   256 (32, 64 and 128 have paths of their own).
//
// ---- 3. Cost ------------------------------------------------------------------------------------
//   forward  4 A D sum(S^2) FLOP (two products), backward 10 A D sum(S^2) (five; the scores are
//   computed again). Softmax and dropout are not counted.
//   moved  forward 4 T A D + T A elements, backward 9 T A D + T A: bound by arithmetic from S = 32
//   or so. A task's scratch, in floats, with S rounded up to a multiple of 8 and D to one of 32:
//     forward   2 S D (k, v)           +  32 S (probabilities)  +  64 D (tiles of 32 queries)
//     backward  4 S D (and dk, dv)     +  64 S (and gradients)  + 128 D (tiles of q and of dout)
//
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Products and sums in f32; exp to 2 ulp. The row's maximum is subtracted before exp, so no score
//   overflows. A task owns a (sequence, head) and walks its queries in order: no atomics, so
//   threads, packing and neighbours do not change bits. Rows beyond T are neither read nor trusted:
//   what lies there cannot reach a result.
//
// ---- 5. Interface -------------------------------------------------------------------------------
/// out_i = sum_j softmax_j(q_i k_j * scale) dropout_ij v_j, within each sequence and head.
/// Shapes  qkv [N, 3, A, D]; out [N, A, D]; lse [N, A] (log of the softmax's denominator, saved for
///         backward); cu_seqlens [B+1] i32; sample [B] i32. N >= T = cu_seqlens[B]; in rows beyond
///         T, out and lse are set to zero.
/// Errors  UsageError for shapes that disagree, cu_seqlens that do not start at 0, fall or pass N,
///         and sizes outside those of section 2.
struct AttentionForward {
  Tensor qkv, out, lse, cu_seqlens, sample;
  float scale = 0;  // 1 / sqrt(D)
  Dropout dropout;
};
/// dqkv [N, 3, A, D] is written (never accumulated); rows beyond T: zero. Errors as forward.
struct AttentionBackward {
  Tensor qkv, out, lse, dout, dqkv, cu_seqlens, sample;
  float scale = 0;
  Dropout dropout;
};

void attention_forward(const AttentionForward& args, Stream stream = {});
void attention_backward(const AttentionBackward& args, Stream stream = {});
void attention_forward_reference(const AttentionForward& args);
/// out and lse must be given, but are not read: the softmax is computed again, in double.
void attention_backward_reference(const AttentionBackward& args);
double attention_forward_flops(const AttentionForward& args);
double attention_backward_flops(const AttentionBackward& args);

}  // namespace minibert
