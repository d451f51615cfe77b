// cross_entropy.cpp: the plain cross-entropy, and the callers of the fast one.
#include "core/kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

// cross_entropy_simd.cpp
MB_SIMD_DECLARE(float, row_maximum, (const float* x, int64_t n))
MB_SIMD_DECLARE(double, row_exp_sum, (const float* x, int64_t n, float largest))
MB_SIMD_DECLARE(void, row_softmax, (const float* x, int64_t n, float lse, float scale, float* dx))

namespace {

// What forward and backward have in common: logits, label and lse, and the labels' values.
template <typename Args>
void check_common(const char* op, const Args& args) {
  check_rank(op, "logits", args.logits, 2);
  const int64_t P = args.logits.dim(0), V = args.logits.dim(1);
  check_tensor(op, "label", args.label, {P}, "one a row of logits", DType::i32);
  check_tensor(op, "lse", args.lse, {P}, "one a row of logits");
  MB_CHECK(args.classes >= 1 && args.classes <= V,
           "{}: classes is {}, expected 1 to {} (columns of logits)", op, args.classes, V);
  const int32_t* label = args.label.template data<int32_t>();
  for (int64_t p = 0; p < P; ++p) {
    MB_CHECK_AS(DataError, label[p] >= 0 && label[p] < args.classes,
                "{}: label {} is {}, expected 0 to {} ({} classes). Do the data's vocabulary and "
                "the model's configuration belong together?",
                op, p, label[p], args.classes - 1, args.classes);
  }
}

void check(const CrossEntropyForward& args) {
  constexpr const char* kOp = "cross_entropy_forward";
  check_common(kOp, args);
  const int64_t P = args.logits.dim(0);
  check_tensor(kOp, "row_loss", args.row_loss, {P}, "one a row of logits");
  check_tensor(kOp, "correct", args.correct, {P}, "one a row of logits", DType::u8);
}

void check(const CrossEntropyBackward& args) {
  constexpr const char* kOp = "cross_entropy_backward";
  check_common(kOp, args);
  check_tensor(kOp, "dlogits", args.dlogits, args.logits.shape(), "as logits");
}

}  // namespace

// ---- 6. Reference ------------------------------------------------------------------------------

void cross_entropy_forward_reference(const CrossEntropyForward& args) {
  const int64_t P = args.logits.dim(0), V = args.logits.dim(1), C = args.classes;
  for (int64_t p = 0; p < P; ++p) {
    const float* x = args.logits.data<float>() + p * V;
    const int32_t label = args.label.data<int32_t>()[p];
    int64_t largest = 0;
    bool has_nan = false;
    for (int64_t v = 0; v < C; ++v) {
      if (x[v] > x[largest]) largest = v;
      has_nan = has_nan || std::isnan(x[v]);
    }
    double sum = 0;
    for (int64_t v = 0; v < C; ++v) sum += std::exp(static_cast<double>(x[v]) - x[largest]);
    const double lse = x[largest] + std::log(sum);
    args.lse.data<float>()[p] = static_cast<float>(lse);
    args.row_loss.data<float>()[p] = static_cast<float>(lse - x[label]);
    args.correct.data<uint8_t>()[p] = !has_nan && largest == label;
  }
}

void cross_entropy_backward_reference(const CrossEntropyBackward& args) {
  const int64_t P = args.logits.dim(0), V = args.logits.dim(1), C = args.classes;
  for (int64_t p = 0; p < P; ++p) {
    const float* x = args.logits.data<float>() + p * V;
    float* dx = args.dlogits.data<float>() + p * V;
    const int32_t label = args.label.data<int32_t>()[p];
    const double lse = args.lse.data<float>()[p];
    for (int64_t v = 0; v < C; ++v) {
      const double softmax = std::exp(x[v] - lse);
      dx[v] = static_cast<float>((softmax - (v == label ? 1 : 0)) * args.scale);
    }
    for (int64_t v = C; v < V; ++v) dx[v] = 0;
  }
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------

namespace {

// Rows a task works on: about 64 Ki logits.
int64_t grain(int64_t V) {
  return std::max<int64_t>(1, (1 << 16) / V);
}

void forward_row(const CrossEntropyForward& args, int64_t p) {
  const float* x = args.logits.data<float>() + p * args.logits.dim(1);
  const int32_t label = args.label.data<int32_t>()[p];
  const float largest = MB_SIMD(row_maximum)(x, args.classes);
  const double lse = largest + std::log(MB_SIMD(row_exp_sum)(x, args.classes, largest));
  args.lse.data<float>()[p] = static_cast<float>(lse);
  args.row_loss.data<float>()[p] = static_cast<float>(lse - x[label]);
  const bool is_first_largest =
      x[label] == largest && std::find(x, x + label, largest) == x + label;
  args.correct.data<uint8_t>()[p] = is_first_largest && !std::isnan(lse);
}

void backward_row(const CrossEntropyBackward& args, int64_t p) {
  const int64_t V = args.logits.dim(1), C = args.classes;
  const float* x = args.logits.data<float>() + p * V;
  float* dx = args.dlogits.data<float>() + p * V;
  const int32_t label = args.label.data<int32_t>()[p];
  const float lse = args.lse.data<float>()[p];
  // Read before dx overwrites it; expm1 keeps the digits where softmax is nearly 1.
  const double of_label = std::expm1(static_cast<double>(x[label]) - lse) * args.scale;
  MB_SIMD(row_softmax)(x, C, lse, args.scale, dx);
  dx[label] = static_cast<float>(of_label);
  std::fill(dx + C, dx + V, 0.0f);
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.logits.dim(0) * args.classes);
  dispatch("cross_entropy_forward", args.logits.device(), 20 * n, 4 * n, [&] {
    parallel_for(args.logits.dim(0), grain(args.classes), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) forward_row(args, p);
    });
  });
}

void cross_entropy_backward(const CrossEntropyBackward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.logits.numel());
  dispatch("cross_entropy_backward", args.logits.device(), 20 * n, 8 * n, [&] {
    parallel_for(args.logits.dim(0), grain(args.classes), [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) backward_row(args, p);
    });
  });
}

}  // namespace minibert
