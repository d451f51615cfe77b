// run_log.h: what a run tells people: lines on the console and in logs/rank-0.log, and a progress
// bar below them on a terminal. Called by run_journal.cpp and trainer.cpp. Easy to break: scripts
// read the step's line, so its form is fixed; a field that does not apply (NSP with --no-nsp) is
// left out, and NaN is shown as it is. Test: ctest -R run_log.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "models/training/metrics.h"

namespace spdlog {
class logger;
}

namespace minibert {

/// What a line shows besides the step's record.
struct Progress {
  bool scaled = false;  // the loss is: show its scale and the skipped steps
  int64_t max_steps = 0;
  int64_t phases = 1;
  double sequences_per_second = 0;
  double share_of_peak = 0;              // FLOP/s of the step over the probed peak; 0: not known
  double communication_seconds = 0;      // a step, as in StepRecord; 0: one rank
  double exposed_seconds = 0;            // of them
  int64_t memory = 0, memory_limit = 0;  // bytes
  double seconds_left = 0;
};

/// `step 120/7038 | mlm 6.871 nsp 0.562 acc 12.1% | lr 1.1e-03 | gnorm 1.92 | scale 2^16 skip 2 |
/// 18.4k seq/s 61% of peak | comm 14 ms, 93% hidden | mem 21.3/80G | eta 3h12m`; the scale only where
/// the loss is scaled, comm only with several ranks; with several phases `| phase 1/2` after the step.
std::string log_line(const StepRecord& record, const Progress& progress);
/// `step 120 | eval chapters | mlm 3.512 (2.71 below unigram 6.222) acc 36.1% nsp 0.601 acc 68.0% |
/// 4096 masked tokens`
std::string log_line(int64_t step, const std::string& name, const EvaluationResult& result);
/// "45s", "12m", "3h12m", "2d04h"
std::string format_duration(double seconds);

class RunLog {
 public:
  /// Appends to `file`. With `json`, lines for people go to standard error and standard output has
  /// only JSON. A console that closes or a disk that fills up later does not stop the run. On the
  /// console only rank 0 informs; the others warn there, with their number.
  /// Errors: UsageError naming the file if it can't be opened.
  RunLog(const std::filesystem::path& file, bool json, int rank = 0);
  ~RunLog();

  void info(const std::string& line);
  void warn(const std::string& line);
  void error(const std::string& line);
  /// Writes the error that ends the run to the file only: main.cpp prints it.
  void last_words(const std::string& error);
  /// Writes a line of JSON to standard output, if JSON was asked for.
  void json(const std::string& line);
  /// Redraws the bar, if standard output is a terminal.
  void bar(int64_t step, int64_t max_steps, double mlm_loss);

 private:
  void clear_bar();

  std::shared_ptr<spdlog::logger> logger_, file_;  // console and file; file only
  const bool json_, terminal_;
  bool bar_shown_ = false;
};

}  // namespace minibert
