// ops.h: the list of differentiable ops, in order of increasing complexity. A file beside this one
// holds one op or a family: elementwise.cpp, linear_activation.cpp (linear_gelu, linear_tanh),
// layer_norm.cpp (and add_norm), attention.cpp, losses.cpp. The unit of the tape is as large as
// fusion needs; each fused op (marked F) has a composed twin made of simple ops
// (autograd/composed.h), and a test holds the two equal.
// Shapes: T rows, H hidden, F feed-forward, A heads, V vocabulary, P masked rows; a linear layer
// leads from K columns to N. Errors: UsageError naming op and both shapes.
// Test: ctest -R autograd_ops. Adding an op: CONTRIBUTING.md.
#pragma once

#include "autograd/variable.h"
#include "core/kernels/gemm.h"
#include "core/random.h"

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
/// Dropout on hidden rows x [T, H] (core/random.h says which element is kept).
Variable dropout(const Variable& x, const RowPlaces& places, const Dropout& dropout);

// ---- Rows --------------------------------------------------------------------------------------
/// y[t, h] = x[t, h] + bias[h].  x [T, H]; bias [H].
Variable add_bias(const Variable& x, const Variable& bias);
/// y[t] = sum over k of tables[k][indices[k][t]].  tables [rows_k, H]; indices [T] i32; y [T, H].
Variable embedding(const std::vector<Variable>& tables, const std::vector<Tensor>& indices);
/// y[p] = x[row[p]].  x [T, H]; row [P] i32.
Variable gather_rows(const Variable& x, const Tensor& row);

// ---- Linear layers -----------------------------------------------------------------------------
/// y = x weight^T [+ bias].  x [T, K]; weight [N, K]; bias [N] or undefined; y [T, N].
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {});
/// F: y = gelu(x up^T + up_bias) down^T, without the second bias (add_norm adds it).
/// x, y [T, H]; up [F, H]; up_bias [F]; down [H, F].
Variable feed_forward(const Variable& x, const Variable& up, const Variable& up_bias,
                      const Variable& down, Gelu kind);
/// F: y = gelu(x weight^T + bias).  The MLM head's transform.
Variable linear_gelu(const Variable& x, const Variable& weight, const Variable& bias, Gelu kind);
/// F: y = tanh(x weight^T + bias).  The pooler.
Variable linear_tanh(const Variable& x, const Variable& weight, const Variable& bias);

// ---- Normalisation -----------------------------------------------------------------------------
/// LayerNorm over the last dimension.  x [T, H]; weight, beta [H].
Variable layer_norm(const Variable& x, const Variable& weight, const Variable& beta, float eps);
/// F: LayerNorm(residual + dropout(x + bias)).  x, residual [T, H]; bias [H].
Variable add_norm(const Variable& x, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout);
/// The same, for an x that nobody else will read (a temporary): the sum is written over it.
Variable add_norm(Variable&& x, const Variable& bias, const Variable& residual,
                  const Variable& weight, const Variable& beta, float eps, const RowPlaces& places,
                  const Dropout& dropout);

// ---- Attention ---------------------------------------------------------------------------------
/// Sequences of a packed batch: what attention needs.
struct Sequences {
  Tensor cu_seqlens;  // [B+1] i32
  Tensor sample;      // [B] i32
};
/// Multi-head self-attention on packed heads.  qkv [T, 3H] read as [T, 3, A, D]; y [T, H].
Variable attention(const Variable& qkv, const Sequences& sequences, int heads,
                   const Dropout& dropout);
/// F: attention(x weight^T + bias).  x, y [T, H]; weight [3H, H]; bias [3H]: query, key, value one
/// after the other.
Variable qkv_attention(const Variable& x, const Variable& weight, const Variable& bias,
                       const Sequences& sequences, int heads, const Dropout& dropout);

// ---- Losses ------------------------------------------------------------------------------------
/// What a loss says beside its value.
struct LossStatistics {
  double loss_sum = 0;  // sum of row losses, unscaled
  int64_t rows = 0;
  int64_t correct = 0;
};
/// scale * sum over rows of softmax cross-entropy.  logits [P, V]; label [P] i32; a scalar.
Variable cross_entropy(const Variable& logits, const Tensor& label, float scale,
                       LossStatistics* statistics = nullptr);
/// F: cross_entropy(x weight^T + bias): the tied decoder. Logits [P, V] live only inside.
/// x [P, H]; weight [V, H]; bias [V]; P may be 0. Columns from `classes` on are padding: no
/// probability, zero gradient.
Variable masked_lm_loss(const Variable& x, const Variable& weight, const Variable& bias,
                        const Tensor& label, int64_t classes, float scale,
                        LossStatistics* statistics = nullptr);

}  // namespace minibert
