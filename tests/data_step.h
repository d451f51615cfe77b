// data_step.h: what kernels read of a step, for tests: a data step for dropout sites and a scale for
// losses, where no StepState holds them.
#pragma once

#include <cstdint>
#include <map>

#include "core/step_state.h"

namespace minibert::testing {

/// Points at `step` until the process ends.
inline const uint32_t* data_step(uint32_t step) {
  static auto* steps = new std::map<uint32_t, uint32_t>;
  return &steps->emplace(step, step).first->second;
}

/// A loss of this scale that counts nothing; lives until the process ends.
inline LossSite loss_site(float scale) {
  static auto* scales = new std::map<float, float>;
  return {&scales->emplace(scale, scale).first->second, nullptr};
}

}  // namespace minibert::testing
