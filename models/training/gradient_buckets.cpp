// gradient_buckets.cpp: which bucket an element is in, and when a bucket begins.
#include "models/training/gradient_buckets.h"

#include <algorithm>

#include "core/clock.h"
#include "core/error.h"
#include "core/range.h"

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
                                 std::vector<std::vector<ElementRange>> shards)
    : group_(group),
      gradients_(std::move(gradients)),
      elements_(bucket),
      shards_(std::move(shards)) {
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

void GradientBuckets::begin_next() {
  const size_t number = missing_.size() - 1 - under_way_.size();
  const int64_t begin = static_cast<int64_t>(number) * elements_;
  const Elements bucket =
      Elements(gradients_).part(begin, std::min(elements_, gradients_.numel() - begin));
  const bool scatter = !shards_.empty() && is_even(shards_, number);
  under_way_.push_back(scatter ? group_.reduce_scatter(bucket) : group_.all_reduce(bucket));
}

Communication GradientBuckets::finish() {
  const Range named("all-reduce");
  MB_ASSERT(started_, "gradient buckets: finished before the start");
  started_ = false;
  while (under_way_.size() < missing_.size()) begin_next();
  const double start = seconds_now();
  std::vector<Handle> handles = std::exchange(under_way_, {});
  Communication communication;
  for (Handle& handle : handles) {
    handle.wait();
    communication.seconds += handle.seconds();
  }
  communication.exposed_seconds = seconds_now() - start;
  return communication;
}

}  // namespace minibert
