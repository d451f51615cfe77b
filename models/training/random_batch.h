// random_batch.h: micro-batches of random ids, to time a step without data. Called by plan_probe.h and
// `bench step`, whose peer (tools/bench/torch_step.py) masks as many. Easy to break: the draws
// of a batch depend on its seed and number alone. Test: ctest -R tools_bench; ctest -R
// random_batch.
#pragma once

#include <cstdint>
#include <span>

#include "models/text/packed_batch.h"

namespace minibert {

/// Which of the random batches.
struct RandomBatchName {
  uint64_t seed = 0;
  int64_t number = 0;
};

/// Predicted tokens of a sequence of this length: 15 %, rounded, at least one.
int64_t fifteen_percent(int64_t length);

/// Sequences of these lengths with ids from 5 to vocab_size - 1. `masked`: predicted tokens of each; 0:
/// fifteen_percent() of its length. Errors: as pack().
PackedBatch random_batch(std::span<const int64_t> lengths, int64_t vocab_size,
                         const BatchLimits& limits, bool nsp, const RandomBatchName& name,
                         int64_t masked = 0);

}  // namespace minibert
