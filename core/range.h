// range.h: a named stretch of the host's work, for Nsight Systems: step, forward, backward, update,
// layer and op nest as they are called. Nothing is recorded unless a profiler listens; a build
// without CUDA has none. The innermost op is also what messages of errors name.
// Test: ctest -R train_step_cuda (names and nesting do not change a bit).
#pragma once

#include "core/current_op.h"
#include "core/device.h"

namespace minibert {

class Range {
 public:
  /// `name` is read at once.
  explicit Range(const char* name) noexcept { cuda_begin_range(name); }
  ~Range() { cuda_end_range(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

/// The range of an op (core/dispatch.h). `op` must outlive it.
class OpRange {
 public:
  explicit OpRange(const char* op) noexcept : range_(op), outer_(set_current_op(op)) {}
  ~OpRange() { set_current_op(outer_); }
  OpRange(const OpRange&) = delete;
  OpRange& operator=(const OpRange&) = delete;

 private:
  Range range_;
  const char* outer_;
};

}  // namespace minibert
