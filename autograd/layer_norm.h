// layer_norm.h: the end of a sublayer, y = LayerNorm(residual + dropout(x + bias)), for the ops that
// contain it (add_norm, linear_add_norm, feed_forward_add_norm). Internal to autograd.
// Shapes: x, residual, y [T, H]; bias and the norm's vectors [H].
#pragma once

#include "autograd/linear.h"
#include "autograd/ops.h"

namespace minibert {

/// What precedes the norm, besides x, and the norm. Holds references, for the time of a call.
struct AddNorm {
  const Variable &bias, &residual;
  const Norm& norm;
  const RowPlaces& places;
  const Dropout& dropout;
};

/// What backward reads. z is the sum that is normalised.
struct SavedNorm {
  Tensor z, mean, rstd, weight;
  RowPlaces places;
  Dropout dropout;
};

/// Where backward writes: dz, which is the residual's gradient; dx, which is dz where dropout kept x;
/// and column sums.
struct NormTargets {
  const GradientTarget &x, &bias, &residual, &weight, &beta;
};

/// y for an x that is the product of a linear layer without its bias. Where the GEMM can (gemm_fuses),
/// its epilogue computes z, and x is never in memory; else x lies where z will.
Tensor product_add_norm(const char* op, GemmArgs product, const AddNorm& args, SavedNorm& saved);
void norm_backward(const SavedNorm& saved, const Tensor& dy, const NormTargets& targets);

}  // namespace minibert
