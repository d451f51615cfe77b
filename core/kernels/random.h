// random.h: dropout's masks as tensors, for those who want to look at them or apply them elsewhere
// (the parity tests give them to PyTorch). The kernels never read such a tensor: they draw the same
// bits again from core/random.h, whose counter says which bit belongs to which element.
// Test: ctest -R kernels_random.
#pragma once

#include "core/random.h"
#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface ------------------------------------------------------------------------------
/// Attention's mask of one head of one sequence: u8 [length, length], rows are queries, columns
/// keys, 1 is kept (and multiplied by dropout.scale), 0 is dropped.
/// Units   head and sample as the kernel sees them: head from 0, sample = the packed batch's entry.
/// Errors  UsageError unless 0 <= length <= 65536 and 0 <= head <= 65535.
Tensor export_attention_dropout_mask(const Dropout& dropout, int64_t length, int64_t head,
                                     int32_t sample);
/// Mask of hidden rows: u8 [T, H], 1 is kept.
/// Shapes  position, row_sample [T] i32.
/// Errors  UsageError if position and row_sample are not i32 of one length, or hidden_size < 0.
Tensor export_hidden_dropout_mask(const Dropout& dropout, const Tensor& position,
                                  const Tensor& row_sample, int64_t hidden_size);

}  // namespace minibert
