// elementwise.h: maps over elements: GELU (erf and tanh), tanh, sums, products, scaling, dropout on
// hidden rows. Called by autograd/elementwise.cpp and dropout.cpp.
#pragma once

#include "core/kernels/gemm.h"
#include "core/random.h"
#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
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
