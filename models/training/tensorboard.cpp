// tensorboard.cpp: records as scalars, and event files cut back on resume.
#include "models/training/tensorboard.h"

#include <algorithm>
#include <charconv>
#include <chrono>

#include <fmt/format.h>
#include <unistd.h>

#include "core/error.h"
#include "models/training/environment.h"
#include "models/training/file_system.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kTrustRatio = "trust_ratio/";

double wall_time() {
  using std::chrono::system_clock, std::chrono::duration;
  return duration<double>(system_clock::now().time_since_epoch()).count();
}

std::vector<fs::path> event_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().rfind(kEventFilePrefix, 0) == 0)
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

/// The seconds in the name of an event file; 0 if it has none.
int64_t seconds_of(const fs::path& file) {
  const std::string digits =
      file.filename().string().substr(std::string_view(kEventFilePrefix).size());
  int64_t seconds = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
  return seconds;
}

bool is_trust_ratio(const ScalarEvent& event) {
  return event.scalars.front().first.rfind(kTrustRatio, 0) == 0;
}

/// Keeps the records before the first that is damaged or too late. A file without scalars goes.
void cut_back(const fs::path& file, int64_t last_record, int64_t last_step) {
  const std::string bytes = read_text(file);
  size_t kept = 0;
  bool any = false;
  for (const auto& [end, event] : read_events(bytes)) {
    const bool scalars = !event.scalars.empty();
    if (scalars && event.step > (is_trust_ratio(event) ? last_step : last_record)) break;
    any = any || scalars;
    kept = end;
  }
  if (!any) return FileSystem().remove(file);
  if (kept == bytes.size()) return;
  std::error_code error;
  fs::resize_file(file, kept, error);
  MB_CHECK_AS(CheckpointError, !error, "{}: can't be cut back to step {}: {}", file.string(),
              last_record, error.message());
}

}  // namespace

std::vector<std::pair<std::string, float>> scalars_of(const StepRecord& r) {
  std::vector<std::pair<std::string, float>> scalars;
  const auto add = [&](const std::string& tag, std::optional<double> value) {
    if (value) scalars.emplace_back(tag, static_cast<float>(*value));
  };
  add("train/loss", r.loss);
  add("train/mlm_loss", r.mlm_loss);
  add("train/mlm_accuracy", r.mlm_accuracy);
  add("train/nsp_loss", r.nsp_loss);
  add("train/nsp_accuracy", r.nsp_accuracy);
  add("optim/learning_rate", r.learning_rate);
  add("optim/grad_norm", r.grad_norm);
  add("scale/loss_scale", r.loss_scale);
  add("scale/skipped_steps", static_cast<double>(r.skipped_steps));
  add("throughput/sequences_per_second", static_cast<double>(r.sequences) / r.step_seconds);
  add("throughput/tokens_per_second", static_cast<double>(r.tokens) / r.step_seconds);
  add("throughput/step_seconds", r.step_seconds);
  add("throughput/data_seconds", r.data_seconds);
  add("communication/seconds", r.communication_seconds);
  add("communication/exposed_seconds", r.exposed_communication_seconds);
  for (const auto& [name, result] : r.evaluations) {
    const std::string tag = "eval/" + name + "/";
    add(tag + "mlm_loss", result.mlm_loss);
    add(tag + "mlm_accuracy", result.mlm_accuracy);
    add(tag + "unigram_cross_entropy", result.unigram_cross_entropy);
    add(tag + "nsp_loss", result.nsp_loss);
    add(tag + "nsp_accuracy", result.nsp_accuracy);
  }
  return scalars;
}

void cut_event_files(const fs::path& folder, int64_t last_record, int64_t last_step) {
  for (const fs::path& file : event_files(folder)) cut_back(file, last_record, last_step);
}

TensorBoardWriter::TensorBoardWriter(fs::path folder, int64_t last_step)
    : folder_(std::move(folder)), first_step_(last_step + 1) {
  for (const fs::path& file : event_files(folder_)) newest_ = std::max(newest_, seconds_of(file));
}

void TensorBoardWriter::write(const StepRecord& record) {
  append({wall_time(), record.step, scalars_of(record)});
}

void TensorBoardWriter::write_trust_ratios(int64_t step,
                                           std::vector<std::pair<std::string, float>> ratios) {
  for (auto& [tag, ratio] : ratios) tag.insert(0, kTrustRatio);
  if (!ratios.empty()) append({wall_time(), step, std::move(ratios)});
}

void TensorBoardWriter::append(ScalarEvent event) {
  if (file_) return file_->append(scalar_record(event));
  const int64_t seconds = std::max(static_cast<int64_t>(event.wall_time), newest_ + 1);
  file_.emplace(folder_ / fmt::format("{}{:010}.{}.{}.0", kEventFilePrefix, seconds, host_name(),
                                      ::getpid()));
  file_->append(version_record(event.wall_time) + start_record(event.wall_time, first_step_) +
                scalar_record(event));
}

void TensorBoardWriter::sync() {
  if (file_) file_->sync();
}

}  // namespace minibert
