// span_loss.cpp: the loss of extractive question answering: for each sequence one softmax over its
// tokens for the answer's start and one for its end. Sequences have different lengths, and the scores
// of all lie in one [N, 2]: they are gathered as lines of a matrix whose places beyond a sequence's
// end read minus infinity, so that cross-entropy does the rest. Called by models/bert. Easy to break:
// backward gathers too, by the places' own list, since many places read the one minus infinity.
// Kernels: core/kernels/copy.h, cross_entropy.h. Source: google-research/bert run_squad.py.
// Test: ctest -R autograd_op_info, models_bert_heads_parity.
#include <limits>

#include "autograd/check.h"
#include "autograd/ops.h"
#include "core/kernels/cast.h"
#include "core/kernels/copy.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/elementwise.h"

namespace minibert {
namespace {

constexpr const char* kOp = "span_loss";

Tensor f32_on(Device device, Shape shape) {
  return Tensor::empty(shape, DType::f32, MemoryCategory::activations, device);
}

void check(const Variable& scores, const SpanLines& lines) {
  check_rank(kOp, "scores", scores, 2);
  const Shape& shape = scores.shape();
  MB_CHECK(shape[1] == 2, "{}: scores is {}, expected 2 columns: start and end", kOp, shape.str());
  const bool matrix =
      lines.source.defined() && lines.source.rank() == 2 && lines.source.dtype() == DType::i32;
  MB_CHECK(matrix, "{}: source is {}, expected i32 [2B, S]", kOp,
           lines.source.defined() ? lines.source.shape().str() : "undefined");
  check_index(kOp, "label", lines.label, lines.source.dim(0), "line of source");
  MB_CHECK(
      lines.place.defined() && lines.place.dtype() == DType::i32 && lines.place.shape() == shape,
      "{}: place is {}, expected i32 {} (that of scores)", kOp,
      lines.place.defined() ? lines.place.shape().str() : "undefined", shape.str());
}

/// The scores as lines [2B, S] in f32.
Tensor lines_of(const Tensor& scores, const Tensor& source) {
  const int64_t elements = scores.numel();
  const Tensor table = f32_on(scores.device(), {elements + 1, 1});
  cast(scores, table.slice(0, scores.shape()), /* accumulate= */ false);
  fill(table.slice(elements, {1}), -std::numeric_limits<float>::infinity());
  const Tensor lines = f32_on(scores.device(), {source.numel(), 1});
  gather_rows(GatherRows{table, source.reshape({source.numel()}), lines});
  return lines.reshape(source.shape());
}

/// dlines [2B, S] f32, back where the scores are.
void scatter(const Tensor& dlines, const Tensor& place, const Tensor& dscores) {
  const Tensor column = dlines.reshape({dlines.numel(), 1});
  gather_rows(
      GatherRows{column, place.reshape({place.numel()}), dscores.reshape({place.numel(), 1})});
}

}  // namespace

Variable span_loss(const Variable& scores, const SpanLines& lines, const LossSite& site) {
  check(scores, lines);
  const Device device = scores.value().device();
  const Tensor logits = lines_of(scores.value(), lines.source);  // [2B, S]
  const Tensor lse = f32_on(device, {logits.dim(0)}), loss = f32_on(device, {});
  cross_entropy_forward({logits, lines.label, lse, loss, site, logits.dim(1)});
  return make_result(
      kOp, loss, {scores},
      [=, scale = site.scale](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        cross_entropy_backward({logits, lines.label, lse, dy, logits, scale, logits.dim(1)});
        inputs[0].write(DType::f32,
                        [&](const Tensor& dscores) { scatter(logits, lines.place, dscores); });
      });
}

}  // namespace minibert
