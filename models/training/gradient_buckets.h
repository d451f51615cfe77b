// gradient_buckets.h: the sum of gradients over ranks, bucket by bucket, while backward still runs.
// The flat gradients are cut into buckets, which begin from the end, where backward starts: a bucket's
// collective begins once all gradients in it are final and all later buckets have begun, so every rank
// calls the same collectives in the same order, whatever the order of its tape. Owned by train_step.h,
// whose hooks at the leaves call final(). Easy to break: gradients are final in the step's last
// micro-batch alone; between start() and finish() nobody else may write them.
// Test: ctest -R gradient_buckets.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "dist/process_group.h"
#include "models/training/communication.h"
#include "models/training/shards.h"

namespace minibert {

class GradientBuckets {
 public:
  /// `gradients` [n] f32; `parameters` are the ranges in it that final() will name, each once a step;
  /// elements outside of them are padding. `bucket`: elements of each, from bucket_elements(). With
  /// `shards`, a rank gets the sums of its own ranges alone (shards.h). `wire`: the type in which
  /// gradients travel and are summed. In f16 they are first divided by the number of ranks, rounded up
  /// to a power of two, and multiplied back, so that a sum overflows only where some rank's share does.
  GradientBuckets(ProcessGroup& group, Tensor gradients,
                  const std::vector<ElementRange>& parameters, int64_t bucket,
                  std::vector<std::vector<ElementRange>> shards = {}, DType wire = DType::f32);

  /// The step's last backward begins.
  void start();
  bool started() const { return started_; }
  /// These gradients are this rank's sum over its micro-batches.
  void final(const ElementRange& parameter);
  /// Begins the collectives that have not begun, and waits until the gradients are sums over the ranks.
  /// Errors: CommError, naming the collective.
  CommunicationClock finish();

  int64_t buckets() const { return static_cast<int64_t>(expected_.size()); }

 private:
  ElementRange range_of(size_t bucket) const;
  void begin_next();
  void take_from_wire(size_t bucket);

  ProcessGroup& group_;
  const Tensor gradients_;
  const int64_t elements_;  // of a bucket; the last one may have fewer
  const std::vector<std::vector<ElementRange>> shards_;
  Tensor wire_;                    // [n] 16-bit: what travels; undefined for f32
  const float divisor_;            // of what travels
  std::vector<int64_t> expected_;  // elements of parameters in each bucket
  std::vector<int64_t> missing_;   // of them, not final yet
  std::vector<Handle> under_way_;  // one for each bucket that has begun: the last buckets
  bool started_ = false;
};

}  // namespace minibert
