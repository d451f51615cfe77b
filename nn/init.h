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
void initialize_parameters(Arena& arena, const std::vector<Initializer>& initializers,
                           float standard_deviation, uint64_t seed);

/// Sines and cosines for a table of position embeddings [P, H], row by row. s, `standard_deviation`,
/// is the root mean square of the table:
///   w[p, 2i] = sqrt(2) s sin(p / b^(2i/H))     w[p, 2i+1] = sqrt(2) s cos(p / b^(2i/H))
/// A shift by k positions is then a rotation of each pair, so a head can find a token's neighbours
/// from the start, instead of learning first where each position is. The table is trained as usual.
/// Source: arXiv 1706.03762, sec. 3.5. Its base b is 10,000, which leaves half of the pairs nearly
/// constant over 64 positions; here b = P / 4 (at least 2): the longest wave is half as long again
/// as the table.
/// Errors  UsageError unless the table has rank 2.
std::vector<float> sinusoidal(const Shape& table, float standard_deviation);

}  // namespace minibert
