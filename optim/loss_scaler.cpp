// loss_scaler.cpp: checks, and the rules of when to stop.
#include "optim/loss_scaler.h"

#include <cmath>

#include "core/error.h"

namespace minibert {

LossScaler::LossScaler(LossScaling options) : options_(options) {
  const LossScaling& o = options_;
  if (!o.enabled) return;
  MB_CHECK(std::isfinite(o.floor) && o.floor > 0, "loss scale: floor is {}, expected more than 0",
           o.floor);
  MB_CHECK(std::isfinite(o.initial) && o.initial >= o.floor,
           "loss scale: initial is {}, expected a finite number of at least the floor {}",
           o.initial, o.floor);
  MB_CHECK(std::isfinite(o.growth) && o.growth >= 1,
           "loss scale: growth is {}, expected 1 (never grows) or more", o.growth);
  MB_CHECK(o.backoff > 0 && o.backoff < 1, "loss scale: backoff is {}, expected 0 < backoff < 1",
           o.backoff);
  MB_CHECK(o.growth_interval >= 1, "loss scale: growth_interval is {}, expected 1 or more steps",
           o.growth_interval);
  MB_CHECK(o.max_skips >= 1, "loss scale: max_skips is {}, expected 1 or more", o.max_skips);
}

std::optional<std::string> LossScaler::must_stop(const StepState& s) const {
  const LossScaling& o = options_;
  if (!o.enabled) {
    if (s.skips_in_a_row == 0) return std::nullopt;
    return "a gradient is not finite, and there is no loss scale to lower";
  }
  if (s.skips_at_floor >= o.max_skips)
    return fmt::format("{} steps in a row were skipped with the loss scale at its floor {:g}",
                       s.skips_at_floor, o.floor);
  if (s.scale_was_stable != 0 && s.skips_in_a_row >= o.max_skips)
    return fmt::format(
        "{} steps in a row were skipped after the loss scale had been stable; it is {:g} now",
        s.skips_in_a_row, s.loss_scale);
  return std::nullopt;
}

std::string LossScaler::describe() const {
  const LossScaling& o = options_;
  if (!o.enabled) return "loss scale: off";
  return fmt::format(
      "loss scale: {:g} at first, x {:g} after {} applied steps, x {:g} at a gradient that is not "
      "finite, floor {:g}; stops after {} skips in a row at the floor or once stable",
      o.initial, o.growth, o.growth_interval, o.backoff, o.floor, o.max_skips);
}

}  // namespace minibert
