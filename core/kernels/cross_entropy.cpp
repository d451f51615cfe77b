// cross_entropy.cpp: the plain cross-entropy, and the callers of the fast one.
#include "core/kernels/cross_entropy.h"

#include <cmath>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace minibert {
namespace {

void check_tensor(const char* op, const char* what, const Tensor& x, DType dtype, Shape shape) {
  MB_CHECK(x.defined() && x.dtype() == dtype && x.shape() == shape,
           "{}: {} is {} {}, expected {} {}", op, what,
           x.defined() ? name_of(x.dtype()) : "undefined", x.shape().str(), name_of(dtype),
           shape.str());
}

// What forward and backward have in common: logits, label and lse, and the labels' values.
template <typename Args>
void check_common(const char* op, const Args& args) {
  MB_CHECK(args.logits.defined() && args.logits.rank() == 2, "{}: logits are {}, expected [P, V]",
           op, args.logits.shape().str());
  const int64_t P = args.logits.dim(0), V = args.logits.dim(1);
  check_tensor(op, "logits", args.logits, DType::f32, {P, V});
  check_tensor(op, "label", args.label, DType::i32, {P});
  check_tensor(op, "lse", args.lse, DType::f32, {P});
  MB_CHECK(args.classes >= 1 && args.classes <= V,
           "{}: classes is {}, expected 1 to {} = columns of logits", op, args.classes, V);
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
  check_tensor(kOp, "row_loss", args.row_loss, DType::f32, {P});
  check_tensor(kOp, "correct", args.correct, DType::u8, {P});
}

void check(const CrossEntropyBackward& args) {
  constexpr const char* kOp = "cross_entropy_backward";
  check_common(kOp, args);
  check_tensor(kOp, "dlogits", args.dlogits, DType::f32, args.logits.shape());
}

}  // namespace

// ---- 6. Reference
// ---------------------------------------------------------------------------------------------------

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

// ---- 7. Fast CPU
// ---------------------------------------------------------------------------------------------------

void cross_entropy_forward(const CrossEntropyForward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.logits.dim(0) * args.classes);
  dispatch("cross_entropy_forward", args.logits.device(), 20 * n, 4 * n,
           [&] { cross_entropy_forward_reference(args); });
}

void cross_entropy_backward(const CrossEntropyBackward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.logits.numel());
  dispatch("cross_entropy_backward", args.logits.device(), 20 * n, 8 * n,
           [&] { cross_entropy_backward_reference(args); });
}

}  // namespace minibert
