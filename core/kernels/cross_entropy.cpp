// cross_entropy.cpp: the plain cross-entropy, and the callers of the fast one.
#include "core/kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/reference.h"
#include "core/kernels/workspace.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

// cross_entropy_simd.cpp
MB_SIMD_DECLARE(void, cross_entropy_forward_rows,
                (const CrossEntropyForward& args, int64_t begin, int64_t end, LossCounts* counts))
MB_SIMD_DECLARE(void, cross_entropy_backward_rows,
                (const CrossEntropyBackward& args, int64_t begin, int64_t end))

namespace {

// What forward and backward have in common: logits, label and lse.
template <typename Args>
void check_common(const char* op, const Args& args, const float* scale) {
  check_compute(op, "logits", args.logits, 2);
  const int64_t P = args.logits.dim(0), V = args.logits.dim(1);
  check_tensor(op, "label", args.label, {P}, "one per row of logits", DType::i32);
  check_tensor(op, "lse", args.lse, {P}, "one per row of logits");
  MB_CHECK(args.classes >= 1 && args.classes <= V,
           "{}: classes is {}, expected 1 to {} (columns of logits)", op, args.classes, V);
  MB_CHECK(scale != nullptr, "{}: no scale is given, expected a LossSite that has one", op);
}

void check(const CrossEntropyForward& args) {
  constexpr const char* kOp = "cross_entropy_forward";
  check_common(kOp, args, args.site.scale);
  check_tensor(kOp, "loss", args.loss, {}, "a scalar");
}

void check(const CrossEntropyBackward& args) {
  constexpr const char* kOp = "cross_entropy_backward";
  check_common(kOp, args, args.scale);
  check_tensor(kOp, "dy", args.dy, {}, "a scalar, as the loss");
  check_tensor(kOp, "dlogits", args.dlogits, shape_of(args.logits), "as logits",
               args.logits.dtype());
}

void add(LossCounts& sum, const LossCounts& part) {
  sum.loss_sum += part.loss_sum;
  sum.rows += part.rows;
  sum.correct += part.correct;
}

// Stores the scaled loss, and adds to the site's counts.
void finish(const CrossEntropyForward& args, const LossCounts& sum) {
  *args.loss.data<float>() = static_cast<float>(*args.site.scale * sum.loss_sum);
  if (args.site.counts != nullptr) add(*args.site.counts, sum);
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------

namespace {

constexpr double kFlopsPerLogit = 20;

Cost cost(double logits, double bytes_per_logit, int64_t rows) {
  return {kFlopsPerLogit * logits, bytes_per_logit * logits + 8.0 * static_cast<double>(rows)};
}

}  // namespace

Cost cross_entropy_forward_cost(const CrossEntropyForward& args) {
  const int64_t P = args.logits.dim(0);
  return cost(static_cast<double>(P * args.classes),
              static_cast<double>(size_of(args.logits.dtype())), P);
}

Cost cross_entropy_backward_cost(const CrossEntropyBackward& args) {
  return cost(static_cast<double>(args.logits.numel()),
              2 * static_cast<double>(size_of(args.logits.dtype())), args.logits.dim(0));
}

// ---- 6. Reference ------------------------------------------------------------------------------

void cross_entropy_forward_reference(const CrossEntropyForward& args) {
  check(args);
  const int64_t P = args.logits.dim(0), V = args.logits.dim(1), C = args.classes;
  LossCounts counts;
  for (int64_t p = 0; p < P; ++p) {
    const int32_t label = args.label.data<int32_t>()[p];
    put(args.lse, p, 0);
    if (label < 0) continue;
    const auto x = [&](int64_t v) { return get(args.logits, p * V + v); };
    int64_t largest = 0;
    bool has_nan = false;
    for (int64_t v = 0; v < C; ++v) {
      if (x(v) > x(largest)) largest = v;
      has_nan = has_nan || std::isnan(x(v));
    }
    double sum = 0;
    for (int64_t v = 0; v < C; ++v) sum += std::exp(x(v) - x(largest));
    const double lse = x(largest) + std::log(sum);
    put(args.lse, p, lse);
    add(counts, {lse - x(label), 1, !has_nan && largest == label});
  }
  finish(args, counts);
}

void cross_entropy_backward_reference(const CrossEntropyBackward& args) {
  check(args);
  const int64_t P = args.logits.dim(0), V = args.logits.dim(1), C = args.classes;
  const double scale = static_cast<double>(*args.scale) * get(args.dy, 0);
  for (int64_t p = 0; p < P; ++p) {
    const int32_t label = args.label.data<int32_t>()[p];
    for (int64_t v = 0; v < V; ++v) {
      const int64_t i = p * V + v;
      if (label < 0 || v >= C) {
        put(args.dlogits, i, 0);
        continue;
      }
      const double softmax = std::exp(get(args.logits, i) - get(args.lse, p));
      put(args.dlogits, i, (softmax - (v == label ? 1 : 0)) * scale);
    }
  }
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------

namespace {

// Rows a task works on: about 64 Ki logits.
int64_t grain(int64_t V) {
  return std::max<int64_t>(1, (1 << 16) / V);
}

void forward_cpu(const CrossEntropyForward& args) {
  const int64_t P = args.logits.dim(0), rows = grain(args.classes);
  const int64_t blocks = (P + rows - 1) / rows;
  const Workspace<LossCounts> part(blocks);
  parallel_for(P, rows, [&](int64_t begin, int64_t end) {
    MB_SIMD(cross_entropy_forward_rows)(args, begin, end, part.data() + begin / rows);
  });
  LossCounts sum;
  for (int64_t block = 0; block < blocks; ++block) add(sum, part.data()[block]);
  finish(args, sum);
}

void backward_cpu(const CrossEntropyBackward& args) {
  parallel_for(args.logits.dim(0), grain(args.classes), [&](int64_t begin, int64_t end) {
    MB_SIMD(cross_entropy_backward_rows)(args, begin, end);
  });
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForward& args) {
  check(args);
  dispatch(
      "cross_entropy_forward", args.logits.device(),
      [&] { return cross_entropy_forward_cost(args); }, [&] { forward_cpu(args); },
      [&](Stream stream) {
        const Workspace<LossCounts> rows(args.logits.dim(0), Device::cuda);
        cross_entropy_forward_cuda(args, rows.data(), stream);
      },
      [&] {
        const int64_t P = args.logits.dim(0), rows = grain(args.classes);
        const bool cuda = args.logits.device() == Device::cuda;
        const int64_t counts = cuda ? P : (P + rows - 1) / rows;
        return KernelMemory{.workspaces = {counts * static_cast<int64_t>(sizeof(LossCounts))}};
      });
}

void cross_entropy_backward(const CrossEntropyBackward& args) {
  check(args);
  dispatch(
      "cross_entropy_backward", args.logits.device(),
      [&] { return cross_entropy_backward_cost(args); }, [&] { backward_cpu(args); },
      [&](Stream stream) { cross_entropy_backward_cuda(args, stream); });
}

}  // namespace minibert
