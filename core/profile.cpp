// profile.cpp: one table behind a mutex, and the device's spans that are still to be read.
#include "core/profile.h"

#include <atomic>
#include <mutex>
#include <vector>

#include "core/clock.h"
#include "core/device.h"
#include "core/device_marks.h"
#include "core/device_profile.h"
#include "core/error.h"

namespace minibert {
namespace {

std::atomic<bool> g_on{false};
std::mutex g_mutex;
thread_local ProfileRange* t_innermost = nullptr;
thread_local int t_innermost_span = -1;
std::map<std::string, ProfileEntry>& table() {
  static auto* entries = new std::map<std::string, ProfileEntry>;
  return *entries;
}

/// A range on device cuda: marks in its stream.
struct Span {
  const char* name;
  Cost cost;
  Stream stream;
  void *begin = nullptr, *end = nullptr;
  int outer = -1;
};
std::vector<Span>& spans() {
  static auto* pending = new std::vector<Span>;
  return *pending;
}

void add_to_table(const char* name, const Cost& cost, double seconds) {
  ProfileEntry& entry = table()[name];
  entry.calls += 1;
  entry.seconds += seconds;
  entry.flops += cost.flops;
  entry.bytes += cost.bytes;
}

void forget_spans() noexcept {
  for (const Span& span : spans()) {
    if (span.begin) cuda_end_mark(span.begin);
    if (span.end) cuda_end_mark(span.end);
  }
  spans().clear();
}

/// Into the table: each span's time less that of the spans inside it.
void read_spans() {
  std::vector<double> inside(spans().size());
  // A span's number is above that of the span that it is in.
  for (size_t i = spans().size(); i-- > 0;) {
    const Span& span = spans()[i];
    if (!span.end) continue;
    cuda_wait(span.stream);
    const double seconds = cuda_seconds_between(span.begin, span.end);
    if (span.outer >= 0) inside[static_cast<size_t>(span.outer)] += seconds;
    add_to_table(span.name, span.cost, seconds - inside[i]);
  }
  forget_spans();
}

}  // namespace

void set_profiling(bool on) {
  std::lock_guard lock(g_mutex);
  if (on) {
    table().clear();
    forget_spans();
  }
  g_on = on;
}

bool profiling() {
  return g_on;
}

std::map<std::string, ProfileEntry> profile_entries() {
  std::lock_guard lock(g_mutex);
  read_spans();
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
  const double seconds = seconds_now() - start_;
  t_innermost = outer_;
  if (outer_) outer_->inside_ += seconds;
  if (!g_on) return;
  std::lock_guard lock(g_mutex);
  add_to_table(name_, cost_, seconds - inside_);
}

DeviceProfileRange::DeviceProfileRange(const char* name, Cost cost) {
  if (!g_on) return;
  const Stream stream = current_stream();
  if (cuda_capturing(stream)) return;
  void* begin = cuda_timed_mark(stream);
  std::lock_guard lock(g_mutex);
  span_ = static_cast<int>(spans().size());
  outer_ = t_innermost_span;
  spans().push_back({name, cost, stream, begin, nullptr, outer_});
  t_innermost_span = span_;
}

DeviceProfileRange::~DeviceProfileRange() {
  if (span_ < 0) return;
  t_innermost_span = outer_;
  std::lock_guard lock(g_mutex);
  if (static_cast<size_t>(span_) >= spans().size()) return;  // forgotten meanwhile
  Span& span = spans()[static_cast<size_t>(span_)];
  try {
    span.end = cuda_timed_mark(span.stream);
  } catch (const Error&) {  // the device is dead: whoever waits for it says so
  }
}

}  // namespace minibert
