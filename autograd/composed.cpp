// composed.cpp: the fused ops, said in simple ones (composed.h).
#include "autograd/composed.h"

#include <algorithm>

namespace minibert::composed {

Variable linear_gelu(const Variable& x, const Variable& weight, const Variable& bias, Gelu kind) {
  return gelu(linear(x, weight, bias), kind);
}

Variable linear_tanh(const Variable& x, const Variable& weight, const Variable& bias) {
  return tanh(linear(x, weight, bias));
}

Variable add_norm(const Variable& x, const Variable& bias, const Variable& residual,
                  const Norm& norm, const RowPlaces& places, const Dropout& dropout) {
  const Variable dropped = minibert::dropout(add_bias(x, bias), places, dropout);
  return layer_norm(add(residual, dropped), norm.weight, norm.beta, norm.eps);
}

Variable linear_add_norm(const Variable& x, const Variable& weight, const Variable& bias,
                         const Variable& residual, const Norm& norm, const RowPlaces& places,
                         const Dropout& dropout) {
  return composed::add_norm(linear(x, weight), bias, residual, norm, places, dropout);
}

Variable feed_forward_add_norm(const Variable& x, const Variable& up, const Variable& up_bias,
                               const Variable& down, const Variable& down_bias, Gelu kind,
                               const Norm& norm, const RowPlaces& places, const Dropout& dropout) {
  return composed::add_norm(linear(gelu(linear(x, up, up_bias), kind), down), down_bias, x, norm,
                            places, dropout);
}

Variable qkv_attention(const Variable& x, const Variable& weight, const Variable& bias,
                       const Sequences& sequences, int heads, const Dropout& dropout) {
  return attention(linear(x, weight, bias), sequences, heads, dropout);
}

Variable masked_lm_loss(const Variable& x, const Variable& weight, const Variable& bias,
                        const Tensor& label, int64_t classes, const LossSite& site) {
  const Variable logits = linear(x, weight, bias);  // [P, V]
  const int64_t P = logits.shape()[0], V = logits.shape()[1];
  const Tensor closed = Tensor::zeros({P, V});  // padding gets no probability: exp(-60000) is 0
  for (int64_t p = 0; p < P; ++p)
    std::fill(closed.data<float>() + p * V + classes, closed.data<float>() + (p + 1) * V, -6e4f);
  return cross_entropy(add(logits, Variable(closed.to(logits.value().dtype()))), label, site);
}

}  // namespace minibert::composed
