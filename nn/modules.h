// modules.h: the building blocks of an encoder, in order of increasing complexity. Each is a plain
// struct: sizes given at construction, parameters listed once (`parameters`), and, where one op
// does the work, a call operator. Called by models/bert/bert.cpp. Easy to break: the feed-forward
// sublayer is one op, so intermediate and output are parameters alone. Source: arXiv 1810.04805; names:
// Transformers' BERT. Test: ctest -R nn_modules.
#pragma once

#include "autograd/ops.h"
#include "nn/parameter.h"

namespace minibert {

/// y = x weight^T + bias.  weight [out, in]; bias [out].
struct Linear {
  int64_t in = 0, out = 0;
  Variable weight, bias;

  void parameters(ParameterWalk& walk);
  Variable operator()(const Variable& x) const { return linear(x, weight, bias); }
};

/// A table of rows.  weight [rows, size]; `storage_rows`: rows in memory, zeros from `rows` on, if
/// there are more than `rows`.
struct Embedding {
  int64_t rows = 0, size = 0, storage_rows = 0;
  Variable weight;

  void parameters(ParameterWalk& walk);
};

/// Layer normalisation over the last dimension.  weight, bias [size].
struct LayerNorm {
  int64_t size = 0;
  float eps = 1e-12f;
  Variable weight, bias;

  void parameters(ParameterWalk& walk);
  Norm norm() const { return {weight, bias, eps}; }
  Variable operator()(const Variable& x) const { return layer_norm(x, weight, bias, eps); }
};

/// Three Linear layers in one GEMM: query, key, value side by side.  weight [3H, H]; bias [3H].
/// Three tensors by name, "query.weight" and so on.
struct QueryKeyValue {
  int64_t size = 0;
  Variable weight, bias;

  void parameters(ParameterWalk& walk);
};

/// y = LayerNorm(residual + dropout(dense(x))): how each half of an encoder layer ends.
struct DenseAddNorm {
  Linear dense;
  LayerNorm layer_norm;

  void parameters(ParameterWalk& walk);
  Variable operator()(const Variable& x, const Variable& residual, const RowPlaces& places,
                      const Dropout& dropout) const {
    return linear_add_norm(x, dense.weight, dense.bias, residual, layer_norm.norm(), places,
                           dropout);
  }
};

/// The dropout sites of one encoder layer.
struct LayerDropout {
  Dropout attention;         // on attention's probabilities
  Dropout attention_output;  // before the first residual sum
  Dropout feed_forward;      // before the second
};

/// Some rows of a batch, each at most once, with their places in their sequences, so that they draw
/// the same dropout as among all.  row [R] i32; -1 is no row: it reads zeros.
struct PickedRows {
  Tensor row;
  RowPlaces places;
};

/// One post-LayerNorm encoder layer: self-attention, then feed-forward, each followed by dropout,
/// residual sum and LayerNorm.  x, y [T, H]. Given `picked`, it computes those rows of y alone,
/// [R, H]: keys and values need every row of x, all that follows attention needs its own.
struct EncoderLayer {
  struct Attention {
    QueryKeyValue self;
    DenseAddNorm output;
    void parameters(ParameterWalk& walk);
  };
  struct Intermediate {
    Linear dense;
    void parameters(ParameterWalk& walk);
  };

  int heads = 1;
  Gelu gelu = Gelu::erf;
  Attention attention;
  Intermediate intermediate;
  DenseAddNorm output;

  EncoderLayer(int64_t hidden_size, int64_t intermediate_size, int heads, float eps, Gelu gelu);
  void parameters(ParameterWalk& walk);
  Variable operator()(const Variable& x, const Sequences& sequences, const RowPlaces& places,
                      const LayerDropout& dropout, const PickedRows& picked = {}) const;

 private:
  Variable after_attention(const Variable& context, const Variable& x, const RowPlaces& places,
                           const LayerDropout& dropout) const;
};

}  // namespace minibert
