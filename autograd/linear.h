// linear.h: the matrix products of a linear layer and of its backward, for the ops that contain one
// (linear, linear_gelu, linear_tanh, linear_add_norm, feed_forward_add_norm, qkv_attention,
// masked_lm_loss). Internal to autograd. A target that isn't wanted is skipped.
// Shapes: x [T, K]; weight [N, K]; bias [N]; y [T, N]: as in gemm, N are columns here.
#pragma once

#include <functional>

#include "autograd/ops.h"
#include "core/kernels/gemm.h"

namespace minibert {

/// UsageError unless x is [T, K], weight [N, K], bias [N] or undefined.
void check_linear(const char* op, const Variable& x, const Variable& weight, const Variable& bias);
/// y = x weight^T, to which the caller adds a bias or an epilogue, and c if y is not given. Owns
/// nothing: the caller keeps the tensors.
GemmArgs linear_gemm(const Tensor& x, const Tensor& weight, const Tensor& y = {});
/// dx (+)= dy weight
void linear_backward_x(const Tensor& dy, const Tensor& weight, const GradientTarget& dx);
/// dweight (+)= dy^T x;  dbias (+)= sum over rows of dy. On device cuda the last bits of dbias depend
/// on whether dweight is wanted: the product that computes both sums dbias in f32.
void linear_backward_parameters(const Tensor& dy, const Tensor& x, const GradientTarget& dweight,
                                const GradientTarget& dbias = {});

}  // namespace minibert
