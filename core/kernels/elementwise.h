// elementwise.h: maps over elements: GELU (erf and tanh), tanh, sums, products, scaling, dropout on
// hidden rows, filling. Called by autograd/elementwise.cpp, dropout.cpp and linear_activation.cpp.
// Test: ctest -R kernels_elementwise.
#pragma once

#include "core/kernels/gelu_kind.h"
#include "core/operand.h"
#include "core/philox.h"
#include "core/profile.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   gelu     y = x P(Z <= x), Z normal               y' = P(Z <= x) + x exp(-x^2 / 2) / sqrt(2 pi)
//   tanh form  y = x s, s = 1 / (1 + e^-u),          y' = s + x s (1 - s) u',
//              u = 2 sqrt(2/pi) (x + 0.044715 x^3)   u' = 2 sqrt(2/pi) (1 + 0.134145 x^2)
//              (s = (1 + tanh(u / 2)) / 2, without its cancellation for x < 0)
//   tanh     y = tanh(x)                             y' = 1 - y^2
//   dropout  y = keep ? x / (1 - p) : 0, keep drawn by Philox from (step, layer, sample, position,
//            column): backward is the same map on dy, so that no mask is stored.
//   Source of GELU: arXiv 1606.08415.
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   All tensors of a call have one shape and one type, f32, bf16 or f16; bias [H] against x [T, H];
//   position and row_sample [T] i32. Outputs may be inputs, but may not overlap them otherwise.
// ---- 3. Cost ------------------------------------------------------------------------------------
//   Each operand once, and the output once more where it is added to: bound by memory, except for
//   GELU and dropout. FLOP an element: kGeluFlops for gelu, and one more backward; tanh 30 and 3,
//   dropout 20 integer operations, the others 1 or 2.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Computed in f32 and rounded once. erf 1e-7 absolute, exp 1.2e-7 and tanh 3e-7 relative
//   (core/kernels/math_simd.h); GELU 2e-7 of max(1, |x|). NaN propagates, except in elements that
//   dropout drops: those are 0. No sums, so bits do not depend on threads; they may depend on the
//   instruction set (fused multiply-add). CUDA: GELU is gelu_cuda.h's, within the same bound, and
//   tanh is CUDA's tanhf.
// ---- 5. Interface -------------------------------------------------------------------------------
// Errors of all: UsageError for operands whose shapes or types disagree. With `accumulate`, the
// output is added to.
struct GeluForward {
  Operand x, y;
  Gelu kind = Gelu::erf;
};
struct GeluBackward {  // dx (+)= dy * gelu'(x)
  Operand x, dy, dx;
  Gelu kind = Gelu::erf;
  bool accumulate = false;
};
struct TanhForward {
  Operand x, y;
};
struct TanhBackward {  // dx (+)= dy * (1 - y^2)
  Operand y, dy, dx;
  bool accumulate = false;
};
struct AddForward {  // y = a + b
  Operand a, b, y;
};
struct MultiplyArgs {  // y (+)= a * b; backward is a product too
  Operand a, b, y;
  bool accumulate = false;
};
struct ScaleArgs {  // y (+)= x * factor
  Operand x;
  float factor = 1;
  Operand y;
  bool accumulate = false;
};
struct AddBiasForward {  // y[t, h] = x[t, h] + bias[h]
  Operand x, bias, y;
};
/// y[t, h] (+)= keep(t, h) ? x[t, h] * scale : 0. Shapes x, y [T, H]; position, row_sample [T] i32.
/// Its own backward.
struct DropoutRows {
  Operand x, position, row_sample;
  Dropout dropout;
  Operand y;
  bool accumulate = false;
};
struct FillArgs {
  Operand y;
  float value = 0;
};
/// y (+)= scalar, everywhere: the gradient of a sum. scalar: one f32 element in the device's memory.
struct FillFromArgs {
  Operand scalar, y;
  bool accumulate = false;
};

void gelu_forward(const GeluForward& args);
void gelu_backward(const GeluBackward& args);
void tanh_forward(const TanhForward& args);
void tanh_backward(const TanhBackward& args);
void add_forward(const AddForward& args);
void multiply(const MultiplyArgs& args);
void scale(const ScaleArgs& args);
void add_bias(const AddBiasForward& args);
void dropout_rows(const DropoutRows& args);
void fill(const FillArgs& args);
void fill_from(const FillFromArgs& args);

// The same without a struct, for those who call them most.
inline void gelu_backward(const Operand& x, const Operand& dy, const Operand& dx, Gelu kind,
                          bool accumulate) {
  gelu_backward({x, dy, dx, kind, accumulate});
}
inline void tanh_forward(const Operand& x, const Operand& y) {
  tanh_forward({x, y});
}
inline void tanh_backward(const Operand& y, const Operand& dy, const Operand& dx, bool accumulate) {
  tanh_backward({y, dy, dx, accumulate});
}
inline void add_forward(const Operand& a, const Operand& b, const Operand& y) {
  add_forward({a, b, y});
}
inline void scale(const Operand& x, float factor, const Operand& y, bool accumulate) {
  scale({x, factor, y, accumulate});
}
inline void fill(const Operand& y, float value) {
  fill({y, value});
}

Cost gelu_forward_cost(const GeluForward& args);
Cost gelu_backward_cost(const GeluBackward& args);
Cost tanh_forward_cost(const TanhForward& args);
Cost tanh_backward_cost(const TanhBackward& args);
Cost add_forward_cost(const AddForward& args);
Cost multiply_cost(const MultiplyArgs& args);
Cost scale_cost(const ScaleArgs& args);
Cost add_bias_cost(const AddBiasForward& args);
Cost dropout_rows_cost(const DropoutRows& args);
Cost fill_cost(const FillArgs& args);
Cost fill_from_cost(const FillFromArgs& args);

void gelu_forward_reference(const GeluForward& args);
void gelu_backward_reference(const GeluBackward& args);
void tanh_forward_reference(const TanhForward& args);
void tanh_backward_reference(const TanhBackward& args);
void add_forward_reference(const AddForward& args);
void multiply_reference(const MultiplyArgs& args);
void scale_reference(const ScaleArgs& args);
void add_bias_reference(const AddBiasForward& args);
void dropout_rows_reference(const DropoutRows& args);
void fill_reference(const FillArgs& args);
void fill_from_reference(const FillFromArgs& args);

void gelu_forward_cuda(const GeluForward& args, Stream stream);
void gelu_backward_cuda(const GeluBackward& args, Stream stream);
void tanh_forward_cuda(const TanhForward& args, Stream stream);
void tanh_backward_cuda(const TanhBackward& args, Stream stream);
void add_forward_cuda(const AddForward& args, Stream stream);
void multiply_cuda(const MultiplyArgs& args, Stream stream);
void scale_cuda(const ScaleArgs& args, Stream stream);
void add_bias_cuda(const AddBiasForward& args, Stream stream);
void dropout_rows_cuda(const DropoutRows& args, Stream stream);
void fill_cuda(const FillArgs& args, Stream stream);
void fill_from_cuda(const FillFromArgs& args, Stream stream);

}  // namespace minibert
