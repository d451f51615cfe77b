// elementwise.h: maps over elements: GELU (erf and tanh), tanh, sums, products, scaling, dropout on
// hidden rows. Called by autograd/elementwise.cpp and dropout.cpp.
// Test: ctest -R kernels_elementwise.
#pragma once

#include "core/kernels/gemm.h"
#include "core/random.h"
#include "core/tensor.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   gelu     y = x P(Z <= x), Z normal               y' = P(Z <= x) + x exp(-x^2 / 2) / sqrt(2 pi)
//   tanh form  y = x s, s = 1 / (1 + e^-u),          y' = s + x s (1 - s) u',
//              u = 2 sqrt(2/pi) (x + 0.044715 x^3)   u' = 2 sqrt(2/pi) (1 + 0.134145 x^2)
//              (s = (1 + tanh(u / 2)) / 2, without its cancellation for x < 0)
//   tanh     y = tanh(x)                             y' = 1 - y^2
//   dropout  y = keep x / (1 - p), keep drawn by Philox from (step, layer, sample, position,
//            column): backward is the same map on dy, so that no mask is stored.
//   Source of GELU: arXiv 1606.08415.
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   All tensors of a call have one shape and are f32; bias [H] against x [T, H]; position and
//   row_sample [T] i32. Outputs may be inputs, but may not overlap them otherwise.
// ---- 3. Cost ------------------------------------------------------------------------------------
//   8 bytes an element for one input, 12 for two (and 4 more where accumulating): bound by memory,
//   but for GELU, about 45 FLOP, and dropout, about 12 integer operations, an element.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   erf 1e-7 absolute, exp 1.2e-7 and tanh 3e-7 relative (core/kernels/math_simd.h); GELU 2e-7 of
//   max(1, |x|). NaN propagates, but for elements that dropout drops: those are 0. No sums, so the
//   bits do not depend on threads; they may on the instruction set (fused multiply-add).
// ---- 5. Interface -------------------------------------------------------------------------------
// All tensors f32, one shape; outputs may be inputs. `accumulate`: the output is added to.
void gelu_forward(const Tensor& x, const Tensor& y, Gelu kind, Stream stream = {});
/// dx (+)= dy * gelu'(x)
void gelu_backward(const Tensor& x, const Tensor& dy, const Tensor& dx, Gelu kind, bool accumulate,
                   Stream stream = {});
void tanh_forward(const Tensor& x, const Tensor& y, Stream stream = {});
/// dx (+)= dy * (1 - y^2)
void tanh_backward(const Tensor& y, const Tensor& dy, const Tensor& dx, bool accumulate,
                   Stream stream = {});
void add_forward(const Tensor& a, const Tensor& b, const Tensor& y, Stream stream = {});
void multiply_forward(const Tensor& a, const Tensor& b, const Tensor& y, Stream stream = {});
/// da (+)= dy * b
void multiply_backward(const Tensor& b, const Tensor& dy, const Tensor& da, bool accumulate,
                       Stream stream = {});
/// y (+)= x * factor
void scale(const Tensor& x, float factor, const Tensor& y, bool accumulate, Stream stream = {});
/// y[t, h] = x[t, h] + bias[h]
void add_bias(const Tensor& x, const Tensor& bias, const Tensor& y, Stream stream = {});
/// y[t, h] (+)= keep(t, h) ? x[t, h] * scale : 0. Shapes x, y [T, H]; position, row_sample [T] i32.
/// Its own backward.
void dropout_rows(const Tensor& x, const Tensor& position, const Tensor& row_sample,
                  const Dropout& dropout, const Tensor& y, bool accumulate, Stream stream = {});
void fill(const Tensor& y, float value, Stream stream = {});

void gelu_forward_reference(const Tensor& x, const Tensor& y, Gelu kind);
void gelu_backward_reference(const Tensor& x, const Tensor& dy, const Tensor& dx, Gelu kind,
                             bool accumulate);
void tanh_forward_reference(const Tensor& x, const Tensor& y);
void tanh_backward_reference(const Tensor& y, const Tensor& dy, const Tensor& dx, bool accumulate);
void dropout_rows_reference(const Tensor& x, const Tensor& position, const Tensor& row_sample,
                            const Dropout& dropout, const Tensor& y, bool accumulate);

}  // namespace minibert
