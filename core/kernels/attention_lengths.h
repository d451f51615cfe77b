// attention_lengths.h: what the host knows of a batch's sequences, which attention's cost depends on;
// the lengths themselves lie in the device's memory. Part of core/kernels/attention.h, alone here so
// that autograd/ops.h needs no more of it. Test: ctest -R kernels_cost.
#pragma once

#include <cstdint>

namespace minibert {

/// Of the lengths S of all sequences. Below 0: not known.
struct AttentionLengths {
  int64_t sum = -1, sum_of_squares = -1;
};

}  // namespace minibert
