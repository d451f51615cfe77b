// linear.h: the matrix products of a linear layer and of its backward, for the ops that contain one
// (linear, linear_gelu, linear_tanh, feed_forward, qkv_attention, masked_lm_loss). Internal to
// autograd. A target that isn't wanted is skipped.
// Shapes: x [T, K]; weight [N, K]; bias [N]; y [T, N]: as in gemm, N are columns here.
#pragma once

#include <functional>

#include "autograd/ops.h"
#include "core/kernels/gemm.h"

namespace minibert {

/// UsageError unless x is [T, K], weight [N, K], bias [N] or undefined.
void check_linear(const char* op, const Variable& x, const Variable& weight, const Variable& bias);
/// y = x weight^T, to which the caller adds a bias or an epilogue. Owns nothing: the caller keeps
/// the tensors.
GemmArgs linear_gemm(const Tensor& x, const Tensor& weight, const Tensor& y);
/// dx (+)= dy weight
void linear_backward_x(const Tensor& dy, const Tensor& weight, const GradientTarget& dx);
/// dweight (+)= dy^T x
void linear_backward_weight(const Tensor& dy, const Tensor& x, const GradientTarget& dweight);
/// dbias (+)= sum over rows of dy
void linear_backward_bias(const Tensor& dy, const GradientTarget& dbias);

}  // namespace minibert
