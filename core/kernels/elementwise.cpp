// elementwise.cpp: references of elementwise.h and the callers of its fast CPU versions.
#include "core/kernels/elementwise.h"

#include <cmath>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/gelu.h"

namespace minibert {
namespace {

void check_same(const char* op, const Tensor& x, const char* name, const Tensor& t) {
  check_type(op, "the first tensor", x);
  check_tensor(op, name, t, x.shape(), "one shape for all tensors of the op");
}

void check_dropout(const Tensor& x, const Tensor& position, const Tensor& row_sample,
                   const Tensor& y) {
  check_rank("dropout_rows", "x", x, 2);
  check_tensor("dropout_rows", "y", y, x.shape(), "the shape of x");
  check_tensor("dropout_rows", "position", position, {x.dim(0)}, "rows of x", DType::i32);
  check_tensor("dropout_rows", "row_sample", row_sample, {x.dim(0)}, "rows of x", DType::i32);
}

// out[i] = value(i), or out[i] += value(i).
template <typename Value>
void store_all(const Tensor& y, bool accumulate, Value value) {
  float* out = y.data<float>();
  for (int64_t i = 0; i < y.numel(); ++i)
    out[i] = static_cast<float>((accumulate ? out[i] : 0.0) + value(i));
}

}  // namespace

// ---- 6. Reference
// -----------------------------------------------------------------------------------------------
void gelu_forward_reference(const Tensor& x, const Tensor& y, Gelu kind) {
  const float* in = x.data<float>();
  store_all(y, false, [&](int64_t i) { return gelu_value(in[i], kind); });
}

void gelu_backward_reference(const Tensor& x, const Tensor& dy, const Tensor& dx, Gelu kind,
                             bool accumulate) {
  const float *in = x.data<float>(), *g = dy.data<float>();
  store_all(dx, accumulate, [&](int64_t i) { return g[i] * gelu_slope(in[i], kind); });
}

void tanh_forward_reference(const Tensor& x, const Tensor& y) {
  const float* in = x.data<float>();
  store_all(y, false, [&](int64_t i) { return std::tanh(static_cast<double>(in[i])); });
}

void tanh_backward_reference(const Tensor& y, const Tensor& dy, const Tensor& dx, bool accumulate) {
  const float *value = y.data<float>(), *g = dy.data<float>();
  store_all(dx, accumulate,
            [&](int64_t i) { return g[i] * (1 - static_cast<double>(value[i]) * value[i]); });
}

void dropout_rows_reference(const Tensor& x, const Tensor& position, const Tensor& row_sample,
                            const Dropout& dropout, const Tensor& y, bool accumulate) {
  check_dropout(x, position, row_sample, y);
  const int64_t H = x.dim(1);
  const float* in = x.data<float>();
  store_all(y, accumulate, [&](int64_t i) {
    const int64_t t = i / H, h = i % H;
    const auto counter = hidden_counter(dropout, static_cast<uint32_t>(h / 4),
                                        static_cast<uint32_t>(position.data<int32_t>()[t]),
                                        static_cast<uint32_t>(row_sample.data<int32_t>()[t]));
    const auto output = philox4x32(counter, dropout.seed);
    const bool keep = dropout_keeps(output[h % 4], dropout.threshold);
    return keep ? static_cast<double>(in[i]) * dropout.scale : 0.0;
  });
}

// ---- 7. Fast CPU
// ------------------------------------------------------------------------------------------------
void gelu_forward(const Tensor& x, const Tensor& y, Gelu kind, Stream) {
  check_same("gelu_forward", x, "y", y);
  dispatch("gelu_forward", x.device(), 30.0 * x.numel(), 8.0 * x.numel(),
           [&] { gelu_forward_reference(x, y, kind); });
}

void gelu_backward(const Tensor& x, const Tensor& dy, const Tensor& dx, Gelu kind, bool accumulate,
                   Stream) {
  check_same("gelu_backward", x, "dy", dy);
  check_same("gelu_backward", x, "dx", dx);
  dispatch("gelu_backward", x.device(), 40.0 * x.numel(), 12.0 * x.numel(),
           [&] { gelu_backward_reference(x, dy, dx, kind, accumulate); });
}

void tanh_forward(const Tensor& x, const Tensor& y, Stream) {
  check_same("tanh_forward", x, "y", y);
  dispatch("tanh_forward", x.device(), 30.0 * x.numel(), 8.0 * x.numel(),
           [&] { tanh_forward_reference(x, y); });
}

void tanh_backward(const Tensor& y, const Tensor& dy, const Tensor& dx, bool accumulate, Stream) {
  check_same("tanh_backward", y, "dy", dy);
  check_same("tanh_backward", y, "dx", dx);
  dispatch("tanh_backward", y.device(), 3.0 * y.numel(), 12.0 * y.numel(),
           [&] { tanh_backward_reference(y, dy, dx, accumulate); });
}

void add_forward(const Tensor& a, const Tensor& b, const Tensor& y, Stream) {
  check_same("add_forward", a, "b", b);
  check_same("add_forward", a, "y", y);
  dispatch("add_forward", a.device(), a.numel(), 12.0 * a.numel(), [&] {
    const float *left = a.data<float>(), *right = b.data<float>();
    float* out = y.data<float>();
    for (int64_t i = 0; i < y.numel(); ++i) out[i] = left[i] + right[i];
  });
}

void multiply_forward(const Tensor& a, const Tensor& b, const Tensor& y, Stream) {
  check_same("multiply_forward", a, "b", b);
  check_same("multiply_forward", a, "y", y);
  dispatch("multiply_forward", a.device(), a.numel(), 12.0 * a.numel(), [&] {
    const float *left = a.data<float>(), *right = b.data<float>();
    float* out = y.data<float>();
    for (int64_t i = 0; i < y.numel(); ++i) out[i] = left[i] * right[i];
  });
}

void multiply_backward(const Tensor& b, const Tensor& dy, const Tensor& da, bool accumulate,
                       Stream) {
  check_same("multiply_backward", b, "dy", dy);
  check_same("multiply_backward", b, "da", da);
  dispatch("multiply_backward", b.device(), 2.0 * b.numel(), 12.0 * b.numel(), [&] {
    const float *factor = b.data<float>(), *g = dy.data<float>();
    float* out = da.data<float>();
    for (int64_t i = 0; i < da.numel(); ++i)
      out[i] = (accumulate ? out[i] : 0.0f) + g[i] * factor[i];
  });
}

void scale(const Tensor& x, float factor, const Tensor& y, bool accumulate, Stream) {
  check_same("scale", x, "y", y);
  dispatch("scale", x.device(), x.numel(), 8.0 * x.numel(), [&] {
    const float* in = x.data<float>();
    float* out = y.data<float>();
    for (int64_t i = 0; i < y.numel(); ++i) out[i] = (accumulate ? out[i] : 0.0f) + in[i] * factor;
  });
}

void add_bias(const Tensor& x, const Tensor& bias, const Tensor& y, Stream) {
  check_rank("add_bias", "x", x, 2);
  check_tensor("add_bias", "bias", bias, {x.dim(1)}, "the last dimension of x");
  check_tensor("add_bias", "y", y, x.shape(), "the shape of x");
  dispatch("add_bias", x.device(), x.numel(), 8.0 * x.numel(), [&] {
    const int64_t H = x.dim(1);
    const float *in = x.data<float>(), *b = bias.data<float>();
    float* out = y.data<float>();
    for (int64_t i = 0; i < y.numel(); ++i) out[i] = in[i] + b[i % H];
  });
}

void dropout_rows(const Tensor& x, const Tensor& position, const Tensor& row_sample,
                  const Dropout& dropout, const Tensor& y, bool accumulate, Stream) {
  check_dropout(x, position, row_sample, y);
  dispatch("dropout_rows", x.device(), 20.0 * x.numel(), 8.0 * x.numel(),
           [&] { dropout_rows_reference(x, position, row_sample, dropout, y, accumulate); });
}

void fill(const Tensor& y, float value, Stream) {
  check_type("fill", "y", y);
  dispatch("fill", y.device(), 0, 4.0 * y.numel(), [&] {
    for (float& element : y.span<float>()) element = value;
  });
}

}  // namespace minibert
