// status_line.h: a line on a terminal that is written over, for someone who waits for a file of
// results: texts done, and a bar where it is known how many there will be. Called by
// model_input.cpp. Easy to break: it must be cleared before anything else is written to standard
// error. Test: ctest -R live_texts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace minibert {

/// "[######........................] 20 %  1841 texts, 812 a second, 9s left"; without the bar and what
/// is left if `done` (0 to 1) is not known.  seconds: since the start.
std::string describe_progress(int64_t texts, double seconds, std::optional<double> done);

class StatusLine {
 public:
  StatusLine();
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  /// Shown if standard error is a terminal and results go elsewhere, twice a second at most.
  void show(int64_t texts, std::optional<double> done);
  void clear();

 private:
  const bool watched_;
  const double begun_;
  double shown_ = 0;
  bool on_ = false;
};

}  // namespace minibert
