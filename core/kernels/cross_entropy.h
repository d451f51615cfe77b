// cross_entropy.h: softmax cross-entropy of rows against one label each. Called by
// autograd/losses.cpp for the masked rows and for next-sentence prediction.
// Easy to get wrong: columns from `classes` on are padding of the vocabulary: they take no part in
// the softmax and get a zero gradient; a NaN logit must give a NaN loss and gradient, never a
// plausible one. Test: ctest -R core_kernels_cross_entropy.
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   forward    max_p = max_v x[p, v]     lse_p = max_p + log sum_v exp(x[p, v] - max_p)
//              row_loss_p = lse_p - x[p, label_p] = -log softmax(x_p)[label_p]       v < classes
//   backward   d row_loss_p / d x[p, v] = softmax(x_p)[v] - [v == label_p]
//                                       = exp(x[p, v] - lse_p) - [v == label_p]
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   logits dlogits [P, V] f32     label [P] i32     lse row_loss [P] f32     correct [P] u8
//   classes <= V; P may be 0
// ---- 3. Cost ------------------------------------------------------------------------------------
//   about 20 FLOP an exp, one a logit and pass; forward reads a row twice (it fits in cache: 122 KB
//   at BERT's V), backward reads and writes it once: 4 and 8 bytes a logit of memory traffic
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   exp to 1 ulp or so in f32; a row's sum runs in f32 lanes over 1,024 columns, then in double:
//   one thread a row, so the thread count does not matter. A row with a NaN or +infinity, or with
//   nothing but -infinity, gives NaN: loss, and gradient of the whole row.
// ---- 5. Interface ------------------------------------------------------------------------------
/// row_loss_p = lse_p - logits[p, label_p], lse_p = log sum_{v < classes} exp(logits[p, v]).
/// Shapes  logits [P, V] (columns from `classes` on are padding and ignored); label [P] i32;
///         lse, row_loss [P] f32; correct [P] u8: 1 where the first largest logit is the label's
///         (0 in a row with a NaN).
/// Errors  DataError naming the first label outside 0 .. classes-1; UsageError for shapes or types
///         that disagree.
struct CrossEntropyForward {
  Tensor logits, label, lse, row_loss, correct;
  int64_t classes = 0;
};
/// dlogits[p, v] = (exp(logits[p, v] - lse[p]) - [v == label[p]]) * scale;  0 for padding. May be
/// in place (dlogits = logits). Errors as forward.
struct CrossEntropyBackward {
  Tensor logits, label, lse, dlogits;
  int64_t classes = 0;
  float scale = 1;  // upstream gradient of each row's loss
};

void cross_entropy_forward(const CrossEntropyForward& args, Stream stream = {});
void cross_entropy_backward(const CrossEntropyBackward& args, Stream stream = {});
void cross_entropy_forward_reference(const CrossEntropyForward& args);
void cross_entropy_backward_reference(const CrossEntropyBackward& args);

}  // namespace minibert
