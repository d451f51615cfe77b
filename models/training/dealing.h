// dealing.h: which rank computes which micro-batches of a step. Whole micro-batches are dealt, by
// their tokens, so that ranks end a step at about the same time. Called by trainer.cpp, whose loader
// reads only what this rank was dealt. Easy to break: every rank deals for itself, from the same plan,
// and must come to the same result. Test: ctest -R dealing.
#pragma once

#include <cstdint>
#include <vector>

#include "models/text/loader.h"

namespace minibert {

/// Numbers of the micro-batches of each rank, ascending: every one is dealt once.
using Deal = std::vector<std::vector<int64_t>>;

/// By tokens: the largest micro-batch that is left goes to the rank with the fewest tokens so far.
Deal deal_by_tokens(const StepPlan& plan, int world);
/// For sums that don't depend on the world: each rank has its leaves of gradient_tree.h.
Deal deal_in_order(const StepPlan& plan, int world);

/// One of both.
inline Deal deal_of(const StepPlan& plan, int world, bool in_order) {
  return in_order ? deal_in_order(plan, world) : deal_by_tokens(plan, world);
}

/// Tokens of the rank with the most over the mean of all: 1 is even.
double token_spread(const StepPlan& plan, const Deal& deal);

}  // namespace minibert
