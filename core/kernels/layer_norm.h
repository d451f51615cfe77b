// layer_norm.h: layer normalisation with the bias, dropout and residual sum that precede it in
// BERT. Called by autograd/layer_norm.cpp (add_norm). Source: arXiv 1607.06450, sec. 3.
#pragma once

#include "core/random.h"
#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
/// z = residual + dropout(x + bias);  y = (z - mean) * rstd * weight + beta,  rstd = 1 / sqrt(var +
/// eps). Shapes  x, residual, z, y [T, H]; bias, weight, beta [H]; mean, rstd [T] f32; position,
/// row_sample [T] i32. bias and residual may be undefined (0). z may be x itself (in place);
/// without bias, dropout and residual, z may be undefined: x is normalised and is what backward
/// wants as z. position and row_sample are needed if dropout is active.
struct LayerNormForward {
  Tensor x, bias, residual;
  Tensor weight, beta;
  Tensor z, y, mean, rstd;
  Tensor position, row_sample;
  Dropout dropout;
  float eps = 1e-12f;
};
/// dz = gradient of z (= of the residual); dx = dropout-masked dz; dbias = column sum of dx;
/// dweight, dbeta [H]. dx may be undefined if dropout is inactive (then it equals dz). Parameter
/// gradients (+)= by `accumulate_*`; undefined: skipped.
struct LayerNormBackward {
  Tensor dy, z, mean, rstd, weight;
  Tensor dz, dx;
  bool accumulate_dz =
      false;  // dz += instead of =; dx is always written and never holds what dz held before
  Tensor dbias, dweight, dbeta;
  bool accumulate_dbias = false, accumulate_dweight = false, accumulate_dbeta = false;
  Tensor position, row_sample;
  Dropout dropout;
};

void layer_norm_forward(const LayerNormForward& args, Stream stream = {});
void layer_norm_backward(const LayerNormBackward& args, Stream stream = {});
void layer_norm_forward_reference(const LayerNormForward& args);
void layer_norm_backward_reference(const LayerNormBackward& args);

}  // namespace minibert
