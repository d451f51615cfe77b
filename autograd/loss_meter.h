// loss_meter.h: a LossSite for those who have no StepState: one loss's scale and counts in the
// device's memory. Called by evaluation, users and tests. Easy to break: the meter must outlive the
// backward of the losses that use it, and counts add up over forward passes until reset().
// Test: ctest -R autograd_ops.
#pragma once

#include "core/device_value.h"
#include "core/step_state.h"

namespace minibert {

class LossMeter {
 public:
  explicit LossMeter(float scale = 1, Device device = Device::cpu)
      : content_(Content{scale, {}}, device) {}
  LossMeter(const LossMeter&) = delete;
  LossMeter& operator=(const LossMeter&) = delete;

  /// For cross_entropy() and masked_lm_loss().
  LossSite site() const { return {&content_.get()->scale, &content_.get()->counts}; }
  /// Of all forward passes since the last reset(). Waits for the device.
  LossCounts counts() const { return content_.read().counts; }
  void set_scale(float scale) { content_.write({scale, counts()}); }
  /// Counts become 0.
  void reset() const { content_.write({content_.read().scale, {}}); }

 private:
  struct Content {
    float scale = 1;
    LossCounts counts;
  };
  DeviceValue<Content> content_;
};

}  // namespace minibert
