// evaluation.h: how well a model fills in masks and tells next sentences on held-out shards.
// Called by trainer.cpp and the verb `eval mlm`. Dropout is off, nothing is recorded, and sums are
// made in the order of the examples, so a result is exact for a given model and data.
// Easy to break: the unigram cross-entropy is of the *training* text's frequencies, add-one, on the
// same masked tokens: what a model that only knows word frequencies would reach.
// Test: ctest -R evaluation.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "dist/process_group.h"
#include "models/bert/bert.h"
#include "models/text/shard_set.h"
#include "models/training/metrics.h"

namespace minibert {

struct EvaluationOptions {
  int64_t micro_batch_size = 32;
  int64_t token_capacity = 0;  // tokens a forward pass, at most; 0: micro_batch_size full sequences
  int64_t max_batches = 0;     // 0: all of the set
  bool nsp = true;
};

/// One pass over the set. `stop` is asked between micro-batches; if true, nothing is returned.
/// With several `ranks`, each computes some of the micro-batches, and the result is the same on all
/// of them, bit for bit that of one rank. They ask `stop` together, after each has had one
/// micro-batch; if it is true on one of them, all return nothing, at once.
/// Errors: as EvaluationReader's and BertForPreTraining::forward's; CommError.
std::optional<EvaluationResult> evaluate(
    const BertForPreTraining& model, std::shared_ptr<const ShardSet> data,
    const EvaluationOptions& options, const std::function<bool()>& stop = [] { return false; },
    ProcessGroup* ranks = nullptr);

}  // namespace minibert
