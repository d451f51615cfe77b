// profile.h: wall time, FLOPs and bytes by kernel name; off unless someone asks (`bench` does).
// Called by core/dispatch.h. A kernel that calls another (layer_norm_backward calls column_sum)
// counts its own time alone: the inner kernel's is taken off, so that entries add up to the time in
// kernels. Kernels are called from one thread. Test: ctest -R core_profile.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace minibert {

/// Work of one call: FLOP (a multiply-add is 2) and bytes, each operand read or written once.
struct Cost {
  double flops = 0, bytes = 0;
  friend Cost operator+(const Cost& a, const Cost& b) {
    return {a.flops + b.flops, a.bytes + b.bytes};
  }
};

struct ProfileEntry {
  int64_t calls = 0;
  double seconds = 0;  // without the time of kernels called inside
  double flops = 0;    // as the chapter's cost function says
  double bytes = 0;    // read and written, as the chapter's cost function says
};

/// Starts (clearing) or stops the collection.
void set_profiling(bool on);
bool profiling();
std::map<std::string, ProfileEntry> profile_entries();

class ProfileRange {
 public:
  ProfileRange(const char* name, Cost cost);
  ~ProfileRange();
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  const char* name_;
  Cost cost_;
  double start_ = 0;
  double inside_ = 0;              // seconds of ranges inside this one
  ProfileRange* outer_ = nullptr;  // the range that this one is inside of
};

}  // namespace minibert
