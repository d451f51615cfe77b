// profile.cpp: one table behind a mutex.
#include "core/profile.h"

#include <atomic>
#include <chrono>
#include <mutex>

namespace minibert {
namespace {

std::atomic<bool> g_on{false};
std::mutex g_mutex;
std::map<std::string, ProfileEntry>& table() {
  static auto* entries = new std::map<std::string, ProfileEntry>;
  return *entries;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
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

ProfileRange::ProfileRange(const char* name, double flops, double bytes)
    : name_(name), flops_(flops), bytes_(bytes) {
  if (g_on) start_ = now();
}

ProfileRange::~ProfileRange() {
  if (!g_on || start_ == 0) return;
  const double seconds = now() - start_;
  std::lock_guard lock(g_mutex);
  ProfileEntry& entry = table()[name_];
  entry.calls += 1;
  entry.seconds += seconds;
  entry.flops += flops_;
  entry.bytes += bytes_;
}

}  // namespace minibert
