// cross_entropy.h: softmax cross-entropy of rows against one label each. Called by
// autograd/losses.cpp for the masked rows and for next-sentence prediction.
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
/// row_loss_p = lse_p - logits[p, label_p], lse_p = log sum_{v < classes} exp(logits[p, v]).
/// Shapes  logits [P, V] (columns from `classes` on are padding and ignored); label [P] i32; lse,
/// row_loss [P] f32;
///         correct [P] u8: 1 where the first largest logit is the label's.
/// Errors  DataError naming the first label outside 0 .. classes-1.
struct CrossEntropyForward {
  Tensor logits, label, lse, row_loss, correct;
  int64_t classes = 0;
};
/// dlogits[p, v] = (exp(logits - lse) - [v == label]) * scale * dloss;  0 for padding. May be in
/// place (dlogits = logits).
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
