// device_profile.h: the time of an op on device cuda, between two marks in its stream, for the table
// of profile.h. Used by core/dispatch.h. The marks are read when the table is, so the host waits for
// nothing inside a step. Nothing is timed while a stream is captured. Test: ctest -R core_profile_cuda.
#pragma once

#include "core/profile.h"

namespace minibert {

/// As ProfileRange, but for the time. Costs nothing while nobody profiles.
class DeviceProfileRange {
 public:
  DeviceProfileRange(const char* name, Cost cost);
  ~DeviceProfileRange();
  DeviceProfileRange(const DeviceProfileRange&) = delete;
  DeviceProfileRange& operator=(const DeviceProfileRange&) = delete;

 private:
  int span_ = -1;   // its number among those whose time is not read yet
  int outer_ = -1;  // that of the range that it is inside of
};

}  // namespace minibert
