// init.h: how parameters start. Called by models when they are new. Each parameter draws from its
// own Philox stream, so the values depend on the seed and on the parameter's number in the table,
// and on nothing else. Easy to break: Google's BERT draws a *truncated* normal (values beyond two
// standard deviations are drawn again), and rows beyond the vocabulary stay zero. Source:
// google-research/bert modeling.py, create_initializer. Test: ctest -R nn_init.
#pragma once

#include <vector>

#include "nn/parameter.h"

namespace minibert {

/// Fills every slice of the arena. `standard_deviation` is BERT's initializer_range: that of the
/// normal before truncation, so what comes out has 0.88 of it. Elements beyond a slice's `used`
/// become zero.
/// Errors  UsageError unless initializers has one entry for each slice.
void initialize_parameters(const Arena& arena, const std::vector<Initializer>& initializers,
                           float standard_deviation, uint64_t seed);

}  // namespace minibert
