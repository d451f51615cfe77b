// cross_entropy.h: softmax cross-entropy of rows against one label each, summed to a scaled loss.
// Called by autograd/losses.cpp for the masked rows and for next-sentence prediction.
// Easy to get wrong: columns from `classes` on are padding of the vocabulary: they take no part in
// the softmax and get a zero gradient; a row with label -1 is ignored, whatever it holds; in any
// other row a NaN logit must give a NaN loss and gradient, never a plausible one. Each forward adds
// to *site.counts. Test: ctest -R core_kernels_cross_entropy.
#pragma once

#include "core/operand.h"
#include "core/profile.h"
#include "core/step_state.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   forward    max_p = max_v x[p, v]     lse_p = max_p + log sum_v exp(x[p, v] - max_p)
//              row_loss_p = lse_p - x[p, label_p] = -log softmax(x_p)[label_p]       v < classes
//              loss = scale * sum of row_loss_p over the rows with a label
//   backward   d row_loss_p / d x[p, v] = softmax(x_p)[v] - [v == label_p]
//                                       = exp(x[p, v] - lse_p) - [v == label_p]
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   logits dlogits [P, V] E     label [P] i32     lse [P] f32     loss dy [] f32
//   E = f32, bf16 or f16; classes <= V; P may be 0
// ---- 3. Cost ------------------------------------------------------------------------------------
//   about 20 FLOP an exp, one per logit and pass; forward reads a row twice on the CPU (it fits in
//   cache: 122 KB at BERT's V in f32) and once on CUDA, backward reads and writes it once; label and
//   lse 8 bytes per row
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   exp to 1 ulp or so in f32; a row's sum runs in f32 lanes over 1,024 columns, then in double.
//   Row losses are added in double, over fixed blocks of rows and then in block order: the thread
//   count does not matter.
//   CUDA: a row's sum runs in f32 in a thread, over some 120 logits, then in double, as a tree; the
//   order of rows depends on P alone; in 16 bits exp is right to 1e-6.
//   A row with a NaN or +infinity, or with nothing but -infinity, gives NaN as its loss and in the
//   whole row of the gradient.
// ---- 5. Interface ------------------------------------------------------------------------------
/// loss = *site.scale * sum over rows of (lse_p - logits[p, label_p]),
/// lse_p = log sum_{v < classes} exp(logits[p, v]).
/// Shapes  logits [P, V] (columns from `classes` on are padding and ignored); label [P] i32, -1 or
///         0 .. classes-1 (not checked here: they are the device's); lse [P] f32, 0 where the row is
///         ignored; loss [] f32.
/// site    scale and counts in the device's memory. Where counts is given, the unscaled sum of row
///         losses, the rows with a label and the hits among them are added to it. A hit is a row
///         whose first largest logit is the label's (never one with a NaN).
/// Errors  UsageError for shapes or types that disagree, and without a scale.
struct CrossEntropyForward {
  Operand logits, label, lse, loss;
  LossSite site;
  int64_t classes = 0;
};
/// dlogits[p, v] = (exp(logits[p, v] - lse[p]) - [v == label[p]]) * *scale * dy;  0 for padding and
/// for ignored rows. May be in place (dlogits = logits). Errors as forward.
struct CrossEntropyBackward {
  Operand logits, label, lse, dy, dlogits;
  const float* scale = nullptr;  // the forward's
  int64_t classes = 0;
};

void cross_entropy_forward(const CrossEntropyForward& args);
void cross_entropy_backward(const CrossEntropyBackward& args);
void cross_entropy_forward_reference(const CrossEntropyForward& args);
void cross_entropy_backward_reference(const CrossEntropyBackward& args);
Cost cross_entropy_forward_cost(const CrossEntropyForward& args);
Cost cross_entropy_backward_cost(const CrossEntropyBackward& args);
/// rows: memory of the device for P of them, uninitialised.
void cross_entropy_forward_cuda(const CrossEntropyForward& args, LossCounts* rows, Stream stream);
void cross_entropy_backward_cuda(const CrossEntropyBackward& args, Stream stream);
/// Rungs 1, 2, ... of cross_entropy.cu, the last of which the functions above run; for tests.
inline constexpr int kCrossEntropyForwardRungs = 4, kCrossEntropyBackwardRungs = 3;
void cross_entropy_forward_cuda_rung(const CrossEntropyForward& args, LossCounts* rows,
                                     Stream stream, int rung);
void cross_entropy_backward_cuda_rung(const CrossEntropyBackward& args, Stream stream, int rung);

}  // namespace minibert
