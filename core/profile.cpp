// profile.cpp: one table behind a mutex. Of a device's kernel the time until the device is done, some
// microseconds too long.
#include "core/profile.h"

#include <atomic>
#include <mutex>

#include "core/clock.h"
#include "core/device.h"
#include "core/error.h"

namespace minibert {
namespace {

std::atomic<bool> g_on{false};
std::mutex g_mutex;
thread_local ProfileRange* t_innermost = nullptr;
std::map<std::string, ProfileEntry>& table() {
  static auto* entries = new std::map<std::string, ProfileEntry>;
  return *entries;
}

/// A device runs on by itself, so a call's time is known when the device is done with it.
void wait_for_device() noexcept {
  if (!current_stream().handle) return;
  try {
    cuda_wait(current_stream());
  } catch (const Error&) {  // what went wrong there is told by the next call
  }
}

}  // namespace

void set_profiling(bool on) {
  std::lock_guard lock(g_mutex);
  if (on) table().clear();
  g_on = on;
}

bool profiling() {
  return g_on;
}

std::map<std::string, ProfileEntry> profile_entries() {
  std::lock_guard lock(g_mutex);
  return table();
}

ProfileRange::ProfileRange(const char* name, Cost cost) : name_(name), cost_(cost) {
  if (!g_on) return;
  outer_ = t_innermost;
  t_innermost = this;
  start_ = seconds_now();
}

ProfileRange::~ProfileRange() {
  if (start_ == 0) return;
  wait_for_device();
  const double seconds = seconds_now() - start_;
  t_innermost = outer_;
  if (outer_) outer_->inside_ += seconds;
  if (!g_on) return;
  std::lock_guard lock(g_mutex);
  ProfileEntry& entry = table()[name_];
  entry.calls += 1;
  entry.seconds += seconds - inside_;
  entry.flops += cost_.flops;
  entry.bytes += cost_.bytes;
}

}  // namespace minibert
