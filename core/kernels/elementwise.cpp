// elementwise.cpp: references of elementwise.h and the callers of its fast CPU versions.
#include "core/kernels/elementwise.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/elementwise_simd.h"
#include "core/kernels/gelu.h"
#include "core/parallel.h"

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

// ---- 6. Reference ------------------------------------------------------------------------------
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

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

constexpr int64_t kBlock = 16384;  // elements a thread works on at a time: three arrays fit L2

// Rows a block of a [T, H] tensor holds, so that it has about kBlock elements.
int64_t rows_per_block(int64_t H) {
  return std::max<int64_t>(1, kBlock / std::max<int64_t>(1, H));
}

}  // namespace

void gelu_forward(const Tensor& x, const Tensor& y, Gelu kind, Stream) {
  check_same("gelu_forward", x, "y", y);
  dispatch("gelu_forward", x.device(), 30.0 * x.numel(), 8.0 * x.numel(), [&] {
    const float* in = x.data<float>();
    float* out = y.data<float>();
    const auto block = MB_SIMD(gelu_block);
    parallel_for(x.numel(), kBlock, [&](int64_t begin, int64_t end) {
      block(in + begin, out + begin, end - begin, kind == Gelu::erf);
    });
  });
}

void gelu_backward(const Tensor& x, const Tensor& dy, const Tensor& dx, Gelu kind, bool accumulate,
                   Stream) {
  check_same("gelu_backward", x, "dy", dy);
  check_same("gelu_backward", x, "dx", dx);
  dispatch("gelu_backward", x.device(), 40.0 * x.numel(), 12.0 * x.numel(), [&] {
    const float *in = x.data<float>(), *g = dy.data<float>();
    float* out = dx.data<float>();
    const auto block = MB_SIMD(gelu_slope_block);
    parallel_for(x.numel(), kBlock, [&](int64_t begin, int64_t end) {
      block(in + begin, g + begin, out + begin, end - begin, kind == Gelu::erf, accumulate);
    });
  });
}

void tanh_forward(const Tensor& x, const Tensor& y, Stream) {
  check_same("tanh_forward", x, "y", y);
  dispatch("tanh_forward", x.device(), 30.0 * x.numel(), 8.0 * x.numel(), [&] {
    const float* in = x.data<float>();
    float* out = y.data<float>();
    const auto block = MB_SIMD(tanh_block);
    parallel_for(x.numel(), kBlock,
                 [&](int64_t begin, int64_t end) { block(in + begin, out + begin, end - begin); });
  });
}

void tanh_backward(const Tensor& y, const Tensor& dy, const Tensor& dx, bool accumulate, Stream) {
  check_same("tanh_backward", y, "dy", dy);
  check_same("tanh_backward", y, "dx", dx);
  dispatch("tanh_backward", y.device(), 3.0 * y.numel(), 12.0 * y.numel(), [&] {
    const float *value = y.data<float>(), *g = dy.data<float>();
    float* out = dx.data<float>();
    const auto block = MB_SIMD(tanh_slope_block);
    parallel_for(y.numel(), kBlock, [&](int64_t begin, int64_t end) {
      block(value + begin, g + begin, out + begin, end - begin, accumulate);
    });
  });
}

void add_forward(const Tensor& a, const Tensor& b, const Tensor& y, Stream) {
  check_same("add_forward", a, "b", b);
  check_same("add_forward", a, "y", y);
  dispatch("add_forward", a.device(), a.numel(), 12.0 * a.numel(), [&] {
    const float *left = a.data<float>(), *right = b.data<float>();
    float* out = y.data<float>();
    const auto block = MB_SIMD(add_block);
    parallel_for(a.numel(), kBlock, [&](int64_t begin, int64_t end) {
      block(left + begin, right + begin, out + begin, end - begin);
    });
  });
}

namespace {

// out (+)= left * right, for both directions of multiply.
void multiply(const Tensor& left, const Tensor& right, const Tensor& out, bool accumulate) {
  const float *l = left.data<float>(), *r = right.data<float>();
  float* o = out.data<float>();
  const auto block = MB_SIMD(multiply_block);
  parallel_for(left.numel(), kBlock, [&](int64_t begin, int64_t end) {
    block(l + begin, r + begin, o + begin, end - begin, accumulate);
  });
}

}  // namespace

void multiply_forward(const Tensor& a, const Tensor& b, const Tensor& y, Stream) {
  check_same("multiply_forward", a, "b", b);
  check_same("multiply_forward", a, "y", y);
  dispatch("multiply_forward", a.device(), a.numel(), 12.0 * a.numel(),
           [&] { multiply(a, b, y, /* accumulate= */ false); });
}

void multiply_backward(const Tensor& b, const Tensor& dy, const Tensor& da, bool accumulate,
                       Stream) {
  check_same("multiply_backward", b, "dy", dy);
  check_same("multiply_backward", b, "da", da);
  dispatch("multiply_backward", b.device(), 2.0 * b.numel(), 12.0 * b.numel(),
           [&] { multiply(dy, b, da, accumulate); });
}

void scale(const Tensor& x, float factor, const Tensor& y, bool accumulate, Stream) {
  check_same("scale", x, "y", y);
  dispatch("scale", x.device(), x.numel(), 8.0 * x.numel(), [&] {
    const float* in = x.data<float>();
    float* out = y.data<float>();
    const auto block = MB_SIMD(scale_block);
    parallel_for(x.numel(), kBlock, [&](int64_t begin, int64_t end) {
      block(in + begin, factor, out + begin, end - begin, accumulate);
    });
  });
}

void add_bias(const Tensor& x, const Tensor& bias, const Tensor& y, Stream) {
  check_rank("add_bias", "x", x, 2);
  check_tensor("add_bias", "bias", bias, {x.dim(1)}, "the last dimension of x");
  check_tensor("add_bias", "y", y, x.shape(), "the shape of x");
  dispatch("add_bias", x.device(), x.numel(), 8.0 * x.numel(), [&] {
    const int64_t T = x.dim(0), H = x.dim(1);
    const float *in = x.data<float>(), *b = bias.data<float>();
    float* out = y.data<float>();
    const auto row = MB_SIMD(add_block);
    parallel_for(T, rows_per_block(H), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) row(in + t * H, b, out + t * H, H);
    });
  });
}

void dropout_rows(const Tensor& x, const Tensor& position, const Tensor& row_sample,
                  const Dropout& dropout, const Tensor& y, bool accumulate, Stream) {
  check_dropout(x, position, row_sample, y);
  dispatch("dropout_rows", x.device(), 20.0 * x.numel(), 8.0 * x.numel(), [&] {
    const int64_t T = x.dim(0), H = x.dim(1);
    const DropoutSite site{dropout.seed, dropout.step_layer_purpose, dropout.threshold,
                           dropout.scale};
    const float* in = x.data<float>();
    const int32_t *at = position.data<int32_t>(), *sample = row_sample.data<int32_t>();
    float* out = y.data<float>();
    const auto row = MB_SIMD(dropout_row);
    parallel_for(T, rows_per_block(H), [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        row(in + t * H, out + t * H, H, static_cast<uint32_t>(at[t]),
            static_cast<uint32_t>(sample[t]), site, accumulate);
      }
    });
  });
}

void fill(const Tensor& y, float value, Stream) {
  check_type("fill", "y", y);
  dispatch("fill", y.device(), 0, 4.0 * y.numel(), [&] {
    float* out = y.data<float>();
    const auto block = MB_SIMD(fill_block);
    parallel_for(y.numel(), kBlock,
                 [&](int64_t begin, int64_t end) { block(out + begin, value, end - begin); });
  });
}

}  // namespace minibert
