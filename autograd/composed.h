// composed.h: the twin of each fused op, made of simple ops: what the op means, in a line or two.
// Never called in training; a test holds twin and op equal, forward and all gradients.
// Test: ctest -R autograd_composed.
#pragma once

#include "autograd/ops.h"

namespace minibert::composed {

Variable linear_gelu(const Variable& x, const Variable& weight, const Variable& bias, Gelu kind);
Variable linear_tanh(const Variable& x, const Variable& weight, const Variable& bias);
Variable add_norm(const Variable& x, const Variable& bias, const Variable& residual,
                  const Norm& norm, const RowPlaces& places, const Dropout& dropout);
Variable linear_add_norm(const Variable& x, const Variable& weight, const Variable& bias,
                         const Variable& residual, const Norm& norm, const RowPlaces& places,
                         const Dropout& dropout);
Variable feed_forward_add_norm(const Variable& x, const Variable& up, const Variable& up_bias,
                               const Variable& down, const Variable& down_bias, Gelu kind,
                               const Norm& norm, const RowPlaces& places, const Dropout& dropout);
Variable qkv_attention(const Variable& x, const Variable& weight, const Variable& bias,
                       const Sequences& sequences, int heads, const Dropout& dropout);
Variable masked_lm_loss(const Variable& x, const Variable& weight, const Variable& bias,
                        const Tensor& label, int64_t classes, const LossSite& site);

}  // namespace minibert::composed
