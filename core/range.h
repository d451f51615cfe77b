// range.h: a named stretch of the host's work, for Nsight Systems: step, forward, backward, update,
// layer and op nest as they are called. Nothing is recorded unless a profiler listens; a build
// without CUDA has none. Test: ctest -R cuda_step (names and nesting do not change a bit).
#pragma once

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

}  // namespace minibert
