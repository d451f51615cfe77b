// dropout_mask.h: dropout's masks element by element: as tensors, for those who want to look at them
// or apply them elsewhere (the parity tests give them to PyTorch), and as factors in double for the
// references. The fast kernels never read such a tensor: they draw the same bits again.
// core/philox.h says which bit belongs to which element. Test: ctest -R kernels_dropout_mask.
#pragma once

#include "core/philox.h"
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

// ---- 6. Reference ------------------------------------------------------------------------------
/// Factor of the element (query, key) of a head: 0 where dropped, else 65536 / (65536 - threshold).
double attention_dropout_factor(const Dropout& dropout, int64_t query, int64_t key, int64_t head,
                                int32_t sample);
/// The same for column h of a hidden row whose place in its sequence is `position`.
double hidden_dropout_factor(const Dropout& dropout, int32_t position, int32_t sample, int64_t h);
/// The same for element (t, h), where position and row_sample [T] i32 may be left out if dropout is
/// off.
double hidden_dropout_factor(const Dropout& dropout, const Operand& position,
                             const Operand& row_sample, int64_t t, int64_t h);
/// x * factor, and 0 where the factor is 0, even if x is infinite or NaN.
inline double dropped(double x, double factor) {
  return factor == 0 ? 0 : x * factor;
}

}  // namespace minibert
