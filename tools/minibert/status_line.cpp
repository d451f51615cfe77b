// status_line.cpp: see status_line.h.
#include "tools/minibert/status_line.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <unistd.h>

#include "core/clock.h"
#include "models/training/run_log.h"

namespace minibert {
namespace {

constexpr double kSeconds = 0.5;  // between two states

/// Not fmt::print, which throws if the terminal is gone.
void write(const std::string& text) {
  std::fputs(text.c_str(), stderr);
}

}  // namespace

std::string describe_progress(int64_t texts, double seconds, std::optional<double> done) {
  const std::string rate = fmt::format("{} texts, {:.0f} a second", texts,
                                       static_cast<double>(texts) / std::max(seconds, 1e-3));
  if (!done) return rate;
  constexpr int kWidth = 30;
  const double share = std::clamp(*done, 0.0, 1.0);
  const auto full = static_cast<size_t>(kWidth * share);
  const std::string left =
      share > 0 ? ", " + format_duration(seconds / share * (1 - share)) + " left" : "";
  return fmt::format("[{}{}] {:.0f} %  {}{}", std::string(full, '#'),
                     std::string(kWidth - full, '.'), 100 * share, rate, left);
}

StatusLine::StatusLine()
    : watched_(isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO)), begun_(seconds_now()) {}

void StatusLine::show(int64_t texts, std::optional<double> done) {
  if (!watched_ || seconds_now() - std::max(shown_, begun_) < kSeconds) return;
  shown_ = seconds_now();
  write("\r" + describe_progress(texts, shown_ - begun_, done) + "\033[K");
  std::fflush(stderr);
  on_ = true;
}

void StatusLine::clear() {
  if (!on_) return;
  write("\r\033[K");
  on_ = false;
}

}  // namespace minibert
