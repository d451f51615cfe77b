// current_op.h: the op whose kernels a thread queues, for messages of errors. Set by OpRange
// (range.h); read by cuda_error.cpp. Alone here, since a program of one kernel needs no more.
// Test: ctest -R core_cuda_error.
#pragma once

namespace minibert {

/// The innermost op that this thread is in, or null.
const char* current_op() noexcept;
/// Sets it and returns the one before. `op` must outlive its stay.
const char* set_current_op(const char* op) noexcept;

}  // namespace minibert
