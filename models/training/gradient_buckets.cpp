// gradient_buckets.cpp: which bucket an element is in, and when a bucket begins.
#include "models/training/gradient_buckets.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "core/kernels/cast.h"
#include "core/kernels/elementwise.h"

namespace minibert {
namespace {

/// Calls visit(bucket, elements) for each bucket of `size` that the range touches.
template <typename Visit>
void for_buckets(const ElementRange& range, int64_t size, const Visit& visit) {
  const int64_t end = range.offset + range.count;
  for (int64_t at = range.offset; at < end;) {
    const int64_t bucket = at / size, next = std::min(end, (bucket + 1) * size);
    visit(static_cast<size_t>(bucket), next - at);
    at = next;
  }
}

}  // namespace

GradientBuckets::GradientBuckets(ProcessGroup& group, Tensor gradients,
                                 const std::vector<ElementRange>& parameters, int64_t bucket,
                                 std::vector<std::vector<ElementRange>> shards, DType wire)
    : group_(group),
      gradients_(std::move(gradients)),
      elements_(bucket),
      shards_(std::move(shards)),
      divisor_(wire == DType::f16
                   ? static_cast<float>(std::bit_ceil(static_cast<unsigned>(group.world())))
                   : 1.0f) {
  if (wire != DType::f32)
    wire_ = Tensor::zeros(gradients_.shape(), wire, MemoryCategory::gradients, gradients_.device());
  expected_.resize(static_cast<size_t>((gradients_.numel() + bucket - 1) / bucket));
  for (const ElementRange& parameter : parameters)
    for_buckets(parameter, elements_,
                [&](size_t number, int64_t count) { expected_[number] += count; });
}

void GradientBuckets::start() {
  MB_ASSERT(!started_ && under_way_.empty(), "gradient buckets: started twice");
  started_ = true;
  missing_ = expected_;
}

void GradientBuckets::final(const ElementRange& parameter) {
  for_buckets(parameter, elements_,
              [&](size_t number, int64_t count) { missing_[number] -= count; });
  while (under_way_.size() < missing_.size() &&
         missing_[missing_.size() - 1 - under_way_.size()] == 0)
    begin_next();
}

ElementRange GradientBuckets::range_of(size_t bucket) const {
  const int64_t begin = static_cast<int64_t>(bucket) * elements_;
  return {begin, std::min(elements_, gradients_.numel() - begin)};
}

void GradientBuckets::begin_next() {
  const size_t number = missing_.size() - 1 - under_way_.size();
  const auto [begin, count] = range_of(number);
  if (wire_.defined()) {
    const Tensor gradients = gradients_.slice(begin, {count});
    if (divisor_ != 1) scale(gradients, 1 / divisor_, gradients, /* accumulate= */ false);
    cast(gradients, wire_.slice(begin, {count}), /* accumulate= */ false);
  }
  const Elements bucket = Elements(wire_.defined() ? wire_ : gradients_).part(begin, count);
  const bool scatter = !shards_.empty() && is_even(shards_, number);
  under_way_.push_back(scatter ? group_.reduce_scatter(bucket) : group_.all_reduce(bucket));
}

void GradientBuckets::take_from_wire(size_t bucket) {
  if (!wire_.defined()) return;
  const auto [begin, count] = range_of(bucket);
  const Tensor gradients = gradients_.slice(begin, {count});
  cast(wire_.slice(begin, {count}), gradients, /* accumulate= */ false);
  if (divisor_ != 1) scale(gradients, divisor_, gradients, /* accumulate= */ false);
}

CommunicationClock GradientBuckets::finish() {
  MB_ASSERT(started_, "gradient buckets: finished before the start");
  started_ = false;
  while (under_way_.size() < missing_.size()) begin_next();
  CommunicationClock clock(gradients_.device());
  std::vector<Handle> handles = std::exchange(under_way_, {});
  for (size_t i = 0; i < handles.size(); ++i) {
    clock.wait(handles[i]);
    take_from_wire(handles.size() - 1 - i);
  }
  return clock;
}

}  // namespace minibert
