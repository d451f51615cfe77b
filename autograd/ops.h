// ops.h: the list of differentiable ops, in order of increasing complexity. A file beside this one
// holds one op or a family: elementwise.cpp, linear_activation.cpp (linear_gelu, linear_tanh),
// layer_norm.cpp (and add_norm), attention.cpp, losses.cpp. The unit of the tape is as large as
// fusion needs; each fused op (marked F) has a composed twin made of simple ops
// (autograd/composed.h), and a test holds the two equal.
// Shapes: T rows, H hidden, F feed-forward, A heads, V vocabulary, P masked rows; a linear layer
// leads from K columns to N. Types: activations, and the weights that meet them, have one type, f32,
// bf16 or f16, and so has the result, on the device of its inputs; LayerNorm's vectors, sum and losses
// are f32. Errors: UsageError naming op and both shapes.
// Test: ctest -R autograd_ops. Adding an op: CONTRIBUTING.md.
#pragma once

#include "autograd/variable.h"
#include "core/kernels/attention_lengths.h"
#include "core/kernels/gelu_kind.h"
#include "core/random.h"
#include "core/row_groups.h"
#include "core/step_state.h"

namespace minibert {

// ---- Element-wise ------------------------------------------------------------------------------
Variable add(const Variable& a, const Variable& b);
Variable multiply(const Variable& a, const Variable& b);
Variable scale(const Variable& x, float factor);
Variable gelu(const Variable& x, Gelu kind = Gelu::erf);
Variable tanh(const Variable& x);
/// Sum of all elements: a scalar, shape [].
Variable sum(const Variable& x);

/// Rows' places in their sequences: what dropout on hidden rows needs.
struct RowPlaces {
  Tensor position, row_sample;  // [T] i32 each
};
/// Dropout on hidden rows x [T, H] (core/philox.h says which element is kept).
Variable dropout(const Variable& x, const RowPlaces& places, const Dropout& dropout);

// ---- Rows --------------------------------------------------------------------------------------
/// y[t, h] = x[t, h] + bias[h].  x [T, H]; bias [H].
Variable add_bias(const Variable& x, const Variable& bias);
/// y[n] = sum over k of tables[k][indices[k][n]].  tables [rows_k, H]; indices [N] i32; y [N, H].
/// groups: group_rows() of each index, for the gradients; may be left out where nothing is recorded.
Variable embedding(const std::vector<Variable>& tables, const std::vector<Tensor>& indices,
                   const std::vector<RowGroups>& groups = {});
/// y[p] = x[row[p]], or 0 where row[p] is -1.  x [T, H]; row [P] i32, distinct but for -1.
Variable gather_rows(const Variable& x, const Tensor& row);

// ---- Linear layers -----------------------------------------------------------------------------
/// y = x weight^T [+ bias].  x [T, K]; weight [N, K]; bias [N] or undefined; y [T, N].
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {});
/// F: y = gelu(x weight^T + bias).  The MLM head's transform.
Variable linear_gelu(const Variable& x, const Variable& weight, const Variable& bias, Gelu kind);
/// F: y = tanh(x weight^T + bias).  The pooler.
Variable linear_tanh(const Variable& x, const Variable& weight, const Variable& bias);

// ---- Normalisation -----------------------------------------------------------------------------
/// LayerNorm over the last dimension.  x [T, H]; weight, beta [H].
Variable layer_norm(const Variable& x, const Variable& weight, const Variable& beta, float eps);
/// A LayerNorm's vectors, [H] each.
struct Norm {
  Variable weight, beta;
  float eps;
};
/// F: LayerNorm(residual + dropout(x + bias)).  x, residual [T, H]; bias [H].
Variable add_norm(const Variable& x, const Variable& bias, const Variable& residual,
                  const Norm& norm, const RowPlaces& places, const Dropout& dropout);
/// F: LayerNorm(residual + dropout(x weight^T + bias)): the end of the attention sublayer.
/// x [T, K]; weight [H, K]; bias [H]; residual, y [T, H].
Variable linear_add_norm(const Variable& x, const Variable& weight, const Variable& bias,
                         const Variable& residual, const Norm& norm, const RowPlaces& places,
                         const Dropout& dropout);
/// F: LayerNorm(x + dropout(gelu(x up^T + up_bias) down^T + down_bias)): the feed-forward sublayer.
/// x, y [T, H]; up [F, H]; up_bias [F]; down [H, F]; down_bias [H].
Variable feed_forward_add_norm(const Variable& x, const Variable& up, const Variable& up_bias,
                               const Variable& down, const Variable& down_bias, Gelu kind,
                               const Norm& norm, const RowPlaces& places, const Dropout& dropout);

// ---- Attention ---------------------------------------------------------------------------------
/// Sequences of a packed batch: what attention needs.
struct Sequences {
  Tensor cu_seqlens;  // [B+1] i32
  Tensor sample;      // [B] i32
  AttentionLengths
      lengths;  // where the caller knows them: a profile's FLOPs need them on device cuda
};
/// Multi-head self-attention on packed heads.  qkv [T, 3H] read as [T, 3, A, D]; y [T, H].
Variable attention(const Variable& qkv, const Sequences& sequences, int heads,
                   const Dropout& dropout);
/// F: attention(x weight^T + bias).  x, y [T, H]; weight [3H, H]; bias [3H]: query, key, value one
/// after the other.
Variable qkv_attention(const Variable& x, const Variable& weight, const Variable& bias,
                       const Sequences& sequences, int heads, const Dropout& dropout);

// ---- Losses ------------------------------------------------------------------------------------
/// *site.scale * sum over rows of softmax cross-entropy.  logits [P, V]; label [P] i32; a scalar,
/// f32. Rows with label -1 are ignored: no loss, zero gradient, not counted. `site` (a LossMeter's or
/// the StepState's) must live until backward has run; each forward pass adds to its counts, so a
/// loss inside recompute() is counted twice.
Variable cross_entropy(const Variable& logits, const Tensor& label, const LossSite& site);
/// F: cross_entropy(x weight^T + bias): the tied decoder. Logits [P, V] live only inside.
/// x [P, H]; weight [V, H]; bias [V]; P may be 0. Columns from `classes` on are padding: no
/// probability, zero gradient.
Variable masked_lm_loss(const Variable& x, const Variable& weight, const Variable& bias,
                        const Tensor& label, int64_t classes, const LossSite& site);
/// Where the scores of question answering lie as lines of a matrix: one line of starts and one of
/// ends for each sequence, S places each (BatchFields has them).
struct SpanLines {
  Tensor source;  // [2B, S] i32: element of the scores, or 2N: beyond the sequence's end
  Tensor place;   // [N, 2] i32: element of the lines, or -1: a row of no sequence
  Tensor label;   // [2B] i32: the right position in its line, or -1
};
/// *site.scale * sum over the lines of softmax cross-entropy over the sequence's own positions.
/// scores [N, 2]; a scalar, f32. Lines with label -1 are ignored. `site` as cross_entropy's.
Variable span_loss(const Variable& scores, const SpanLines& lines, const LossSite& site);

}  // namespace minibert
