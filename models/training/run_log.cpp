// run_log.cpp: log lines and the progress bar, through spdlog.
#include "models/training/run_log.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "core/error.h"

namespace minibert {
namespace {

std::string rate(double per_second) {
  if (per_second >= 1000) return fmt::format("{:.1f}k", per_second / 1000);
  return per_second >= 100 ? fmt::format("{:.0f}", per_second) : fmt::format("{:.1f}", per_second);
}

spdlog::sink_ptr open_file(const std::filesystem::path& file) {
  try {
    return std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
  } catch (const spdlog::spdlog_ex& error) {
    fail<UsageError>(
        "{}: can't be opened for writing ({}). Check that {} is a folder and may be written to.",
        file.string(), error.what(), file.parent_path().string());
  }
}

/// "2^16" for a power of two, else its digits.
std::string scale_text(double scale) {
  int exponent = 0;
  if (std::frexp(scale, &exponent) == 0.5) return fmt::format("2^{}", exponent - 1);
  return fmt::format("{:g}", scale);
}

}  // namespace

std::string log_line(const StepRecord& record, const Progress& p) {
  std::string line = fmt::format("step {}/{}", record.step, p.max_steps);
  if (p.phases > 1) line += fmt::format(" | phase {}/{}", record.phase + 1, p.phases);
  // A loss of exactly 0 is that of no token at all.
  const bool masks = record.fine_tuning || record.mlm_loss != 0;
  line += masks ? fmt::format(" | {} {:.3f}", record.fine_tuning ? "loss" : "mlm", record.mlm_loss)
                : " | mlm - (no masked tokens)";
  if (record.nsp_loss) line += fmt::format(" nsp {:.3f}", *record.nsp_loss);
  line += fmt::format(" acc {:.1f}% | lr {:.1e} | gnorm {:.2f}", 100 * record.mlm_accuracy,
                      record.learning_rate, record.grad_norm);
  if (p.scaled)
    line += fmt::format(" | scale {} skip {}", scale_text(record.loss_scale), record.skipped_steps);
  line += fmt::format(" | {} seq/s", rate(p.sequences_per_second));
  if (p.share_of_peak > 0) line += fmt::format(" {:.0f}% of peak", 100 * p.share_of_peak);
  if (p.communication_seconds > 0)
    line += fmt::format(" | comm {:.0f} ms, {:.0f}% hidden", 1000 * p.communication_seconds,
                        100 * std::max(0.0, 1 - p.exposed_seconds / p.communication_seconds));
  constexpr double kGigabyte = 1 << 30;
  return line + fmt::format(" | mem {:.1f}/{:.0f}G | eta {}",
                            static_cast<double>(p.memory) / kGigabyte,
                            static_cast<double>(p.memory_limit) / kGigabyte,
                            format_duration(p.seconds_left));
}

std::string log_line(int64_t step, const std::string& name, const EvaluationResult& r) {
  std::string line =
      fmt::format("step {} | eval {} | mlm {:.3f} ({:.2f} below unigram {:.3f}) acc {:.1f}%", step,
                  name, r.mlm_loss, r.unigram_cross_entropy - r.mlm_loss, r.unigram_cross_entropy,
                  100 * r.mlm_accuracy);
  if (r.nsp_loss)
    line += fmt::format(" nsp {:.3f} acc {:.1f}%", *r.nsp_loss, 100 * *r.nsp_accuracy);
  return line + fmt::format(" | {} masked tokens", r.masked_tokens);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto s = static_cast<int64_t>(seconds);
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m", s / 60);
  if (s < 86400) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

RunLog::RunLog(const std::filesystem::path& file, bool json, int rank)
    : json_(json && rank == 0), terminal_(!json && rank == 0 && ::isatty(STDOUT_FILENO) == 1) {
  spdlog::sink_ptr console;
  if (json) {
    console = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  } else {
    console = std::make_shared<spdlog::sinks::stdout_sink_mt>();
  }
  console->set_pattern(rank == 0 ? "%v" : fmt::format("rank {}: %v", rank));
  if (rank != 0) console->set_level(spdlog::level::warn);
  const spdlog::sink_ptr log = open_file(file);
  log->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
  logger_ = std::make_shared<spdlog::logger>("minibert", spdlog::sinks_init_list{console, log});
  file_ = std::make_shared<spdlog::logger>("minibert", log);
  for (const auto& logger : {logger_, file_}) {
    logger->flush_on(spdlog::level::info);
    logger->set_error_handler([](const std::string&) {});  // a full disk must not end the run
  }
}

RunLog::~RunLog() {
  clear_bar();
}

void RunLog::info(const std::string& line) {
  clear_bar();
  logger_->info("{}", line);
}

void RunLog::warn(const std::string& line) {
  clear_bar();
  logger_->warn("warning: {}", line);
}

void RunLog::error(const std::string& line) {
  clear_bar();
  logger_->error("error: {}", line);
}

void RunLog::last_words(const std::string& error) {
  clear_bar();
  file_->error("error: {}", error);
}

void RunLog::json(const std::string& line) {
  if (!json_) return;
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

void RunLog::bar(int64_t step, int64_t max_steps, double loss) {
  if (!terminal_) return;
  constexpr int kWidth = 30;
  const auto full = static_cast<size_t>(kWidth * step / std::max<int64_t>(1, max_steps));
  std::string text = std::string(full, '#') + std::string(kWidth - full, '.');
  // Not fmt::print, which throws if the terminal is gone.
  std::fputs(fmt::format("\r[{}] {}/{} loss {:.3f} ", text, step, max_steps, loss).c_str(), stdout);
  std::fflush(stdout);
  bar_shown_ = true;
}

void RunLog::clear_bar() {
  if (!bar_shown_) return;
  std::fputs("\r\033[K", stdout);
  std::fflush(stdout);
  bar_shown_ = false;
}

}  // namespace minibert
