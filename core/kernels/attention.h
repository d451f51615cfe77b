// attention.h: variable-length multi-head self-attention, forward and backward, with dropout on the
// probabilities and no [S, S] buffer. Called by autograd/attention.cpp. CPU: attention.cpp, then
// attention_simd.cpp; CUDA: attention_forward.cu, attention_backward.cu and what both include.
// Easy to get wrong: dropout multiplies the normalised probabilities, so the softmax's denominator
// sums kept and dropped keys alike; positions in dropout's counter count within the sequence, so
// that a mask does not depend on packing. Source: arXiv 1706.03762, sec. 3.2; backward from the
// saved log-sum-exp: arXiv 2205.14135, sec. 3.1. Test: ctest -R attention. Speed on the CPU:
// minibert bench attention qkv_attention.
#pragma once

#include "core/kernels/attention_lengths.h"
#include "core/operand.h"
#include "core/philox.h"
#include "core/profile.h"
#include "core/stream.h"

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
//   qkv dqkv [N, 3, A, D]   out dout [N, A, D]   of the compute type E: f32, bf16 or f16
//   lse [N, A] f32          cu_seqlens [B+1] i32
//   sample [B] i32, read where dropout is active (otherwise it may be undefined)
//   Sequence b is rows cu_seqlens[b] .. cu_seqlens[b + 1] - 1; T = cu_seqlens[B] <= N. Sequences of
//   length 0 are skipped: a batch of fixed shape ends with them, each with cu_seqlens = T. Under
//   dropout a sequence has at most 65,536 tokens (16 bits of its counter). Values of cu_seqlens are
//   the caller's promise: whoever packs a batch checks it once. A from 1 to 65,535; D from 1 to 256
//   (32, 64 and 128 have paths of their own).
//
// ---- 3. Cost ------------------------------------------------------------------------------------
//   forward  4 A D sum(S^2) FLOP (two products), backward 10 A D sum(S^2) (five; the scores are
//   computed again). Softmax and dropout are not counted.
//   moved  forward 4 T A D elements of E, backward 9 T A D, and T A floats in both: bound by
//   arithmetic from S = 32 or so. A task's scratch, in floats, with S rounded up to a multiple of 8
//   and D to one of 32:
//     forward   2 S D (k, v)           +  32 S (probabilities)  +  64 D (tiles of 32 queries)
//     backward  4 S D (and dk, dv)     +  64 S (and gradients)  + 128 D (tiles of q and of dout)
//   On device cuda, backward computes scores twice, 14 A D S^2 FLOP, for sequences longer than a
//   tile of keys, and for all of them where it does without tensor cores (exact f32, or a D that has
//   no kernel of its own). Its scratch is delta, N A floats.
//
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Products and sums in f32 whatever E is; only what is stored in E is rounded to it, once. exp to
//   2 ulp. The row's maximum is subtracted before exp, so no score overflows. A task owns a
//   (sequence, head) and walks its queries in order: no atomics, so threads, packing and neighbours
//   do not change bits.
//   Device cuda: the same, but the softmax's sum runs over tiles of keys, with the maximum so far;
//   and tensor cores (bf16, f16, tf32) take p m and ds rounded to E (tf32: to 2^-11). That moves out
//   by up to u sum_j p_ij m_ij |v_jd|, and gradients likewise; ds beyond 65,504 in f16 becomes
//   infinite, as any gradient there. The order of every sum depends on S alone: no atomics.
//   delta_i reads out as stored, rounded to E (by at most u = 2^-24, 2^-8 or 2^-11 of each element):
//   that moves ds_ij by up to u p_ij sum_d |do_id out_id|, as in every attention that keeps out in
//   16 bits. Where p_ij da_ij and p_ij delta_i nearly cancel, it is more than dq's own rounding.
//   NaN and infinity stay in their sequence and head, and rows beyond T are never read. Within the
//   head, what is not finite in q_i reaches row i of out; in k_j or v_j every row, and in backward
//   all of dk and dv. Dropping (i, j) does not keep an infinite v_j out of row i: the probability is
//   exactly 0, but 0 times infinity is NaN. Finite values it does keep out.
//
// ---- 5. Interface -------------------------------------------------------------------------------
/// out_i = sum_j softmax_j(q_i k_j * scale) dropout_ij v_j, within each sequence and head.
/// Shapes  qkv [N, 3, A, D]; out [N, A, D]; lse [N, A] (log of the softmax's denominator, saved for
///         backward); cu_seqlens [B+1]; sample [B]. In rows T .. N - 1, out and lse are zeroed.
/// Errors  UsageError for shapes and types that disagree, A or D outside section 2, and a scale that
///         is not above 0.
struct AttentionForward {
  Operand qkv, out, lse, cu_seqlens, sample;
  float scale = 0;  // 1 / sqrt(D); above 0
  Dropout dropout;
  bool tf32 = tf32_allowed();  // whether device cuda may round f32 factors to tf32; a CPU does not
  AttentionLengths lengths = {};  // for attention_forward_cost alone
};
/// dqkv [N, 3, A, D] is written (never accumulated); rows T .. N - 1 are zeroed. Errors as forward.
struct AttentionBackward {
  Operand qkv, out, lse, dout, dqkv, cu_seqlens, sample;
  float scale = 0;
  Dropout dropout;
  bool tf32 = tf32_allowed();
  AttentionLengths lengths = {};
};

void attention_forward(const AttentionForward& args);
void attention_backward(const AttentionBackward& args);
void attention_forward_reference(const AttentionForward& args);
/// Reads out as it is stored (for delta), as the fast code does; lse must be given, but is not read:
/// the softmax is computed again, in double.
void attention_backward_reference(const AttentionBackward& args);
/// By `lengths`, else by cu_seqlens where the host can read it; 0 if neither is there.
Cost attention_forward_cost(const AttentionForward& args);
Cost attention_backward_cost(const AttentionBackward& args);
void attention_forward_cuda(const AttentionForward& args, Stream stream);
void attention_backward_cuda(const AttentionBackward& args, Stream stream);

/// Rung 1 .. kAttentionForwardRungs of attention_forward.cu, the last of which attention_forward_cuda
/// runs; for tests. Each takes every shape and type.
inline constexpr int kAttentionForwardRungs = 4;
void attention_forward_cuda_rung(const AttentionForward& args, Stream stream, int rung);

}  // namespace minibert
