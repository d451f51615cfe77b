// profile.h: wall time, FLOPs and bytes by kernel name; off unless someone asks (`bench step`,
// `train` do). Called by core/dispatch.h. Nested ranges count in both. Kernels are called from one
// thread. Test: ctest -R core_profile.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace minibert {

struct ProfileEntry {
  int64_t calls = 0;
  double seconds = 0;
  double flops = 0;  // as the chapter's cost function says
  double bytes = 0;  // read and written, as the chapter's cost function says
};

/// Starts (clearing) or stops the collection.
void set_profiling(bool on);
bool profiling();
std::map<std::string, ProfileEntry> profile_entries();

class ProfileRange {
 public:
  ProfileRange(const char* name, double flops = 0, double bytes = 0);
  ~ProfileRange();
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  const char* name_;
  double flops_, bytes_;
  double start_ = 0;
};

}  // namespace minibert
