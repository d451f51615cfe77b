// communication.cpp: the host's clock, or marks in the thread's stream.
#include "models/training/communication.h"

#include "core/clock.h"
#include "core/device.h"
#include "core/device_marks.h"

namespace minibert {

CommunicationClock::Mark CommunicationClock::mark() const {
  if (device_ == Device::cpu) return nullptr;
  return {cuda_timed_mark(current_stream()), cuda_end_mark};
}

void CommunicationClock::wait(Handle& handle) {
  const double start = seconds_now();
  Mark before = mark();
  handle.wait();
  if (before) {
    waits_.emplace_back(std::move(before), mark());
  } else {
    exposed_seconds_ += seconds_now() - start;
  }
  handles_.push_back(std::move(handle));
}

Communication CommunicationClock::read() const {
  Communication sum{.exposed_seconds = exposed_seconds_};
  for (const Handle& handle : handles_) sum.seconds += handle.seconds();
  for (const auto& [before, after] : waits_)
    sum.exposed_seconds += cuda_seconds_between(before.get(), after.get());
  return sum;
}

}  // namespace minibert
