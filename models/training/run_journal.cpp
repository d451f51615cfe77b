// run_journal.cpp: when a record becomes a line, and the rates since the last line.
#include "models/training/run_journal.h"

#include <algorithm>
#include <cmath>

#include "core/allocator.h"
#include "core/device_marks.h"
#include "models/training/peak_flops.h"
#include "models/training/run_setup.h"

namespace minibert {

RunJournal::RunJournal(const RunFolder& folder, const TrainConfig& config,
                       const std::vector<Phase>& phases, bool json, int rank, int world)
    : folder_(folder),
      config_(config),
      phases_(phases),
      rank_(rank),
      world_(world),
      device_(parse_device(config.device)),
      log_(folder.log(), json, rank) {}

void RunJournal::open(int64_t last_record, int64_t last_step) {
  if (rank_ == 0) {
    cut_back(folder_.metrics(), last_record);
    cut_back(folder_.trust_ratios(), last_step);
    cut_event_files(folder_.path(), last_record, last_step);
    metrics_.emplace(folder_.metrics());
    if (config_.trust_ratio_every > 0) trust_ratios_.emplace(folder_.trust_ratios());
    if (config_.tensorboard) events_.emplace(folder_.path(), last_step);
  }
  // By all at once, since ranks on one machine share it.
  peak_flops_ = world_ * probe_peak_flops(compute_options(config_));
  memory_limit_ = device_ == Device::cuda ? cuda_device().memory_bytes : memory_limit();
  last_line_ = seconds_now();
}

void RunJournal::cut_back(const std::filesystem::path& path, int64_t last_step) {
  const MetricsCut cut = truncate_metrics(path, last_step);
  if (cut.damaged == 0) return;
  log_.warn(fmt::format(
      "{}: damaged lines: {}, the first is line {}. They are dropped, and the curve may "
      "have a gap there",
      path.string(), cut.damaged, cut.first_damaged));
}

void RunJournal::count(const StepRecord& record, double flops) {
  sequences_ += record.sequences;
  flops_ += flops;
  communication_ += record.communication_seconds;
  exposed_ += record.exposed_communication_seconds;
  ++steps_;
}

void RunJournal::sync() {
  if (metrics_) metrics_->sync();
  if (events_) events_->sync();
}

void RunJournal::write(const StepRecord& record) {
  if (metrics_) metrics_->write(to_json(record));
  if (events_) events_->write(record);
  const bool finite = std::isfinite(record.loss) && std::isfinite(record.grad_norm);
  const bool evaluated = !record.evaluations.empty() || !record.scores.empty();
  const bool due = record.step % config_.log_every == 0 || evaluated || !finite;
  if (due) log_step(record);
  for (const auto& [name, result] : record.evaluations)
    log_.info(log_line(record.step, name, result));
  if (due) log_.json(to_json(record));
  log_.bar(record.step, total_steps(phases_), record.loss);
}

void RunJournal::log_step(const StepRecord& record) {
  const double seconds = seconds_now() - last_line_;
  const int64_t steps_left = total_steps(phases_) - (record.step - record.skipped_steps);
  Progress progress;
  progress.scaled = scales_loss(config_);
  progress.max_steps = total_steps(phases_);
  progress.phases = static_cast<int64_t>(phases_.size());
  progress.sequences_per_second = static_cast<double>(sequences_) / seconds;
  // The machine may have been busy during the probe: a rate reached since is a lower bound too.
  peak_flops_ = std::max(peak_flops_, flops_ / seconds);
  progress.share_of_peak = flops_ / seconds / peak_flops_;
  const auto steps = static_cast<double>(std::max<int64_t>(1, steps_));
  progress.communication_seconds = communication_ / steps;
  progress.exposed_seconds = exposed_ / steps;
  progress.memory = Allocator::instance().total(device_).peak_bytes;
  progress.memory_limit = memory_limit_;
  progress.seconds_left = static_cast<double>(steps_left) * seconds / steps;
  log_.info(log_line(record, progress));
  last_line_ = seconds_now();
  sequences_ = steps_ = 0;
  flops_ = communication_ = exposed_ = 0;
}

void RunJournal::write_trust_ratios(int64_t step, const ParameterTable& table,
                                    const std::vector<TensorNorms>& norms) {
  if (!trust_ratios_ || step % config_.trust_ratio_every != 0 || norms.empty()) return;
  std::string line = fmt::format("{{\"step\": {}, \"tensors\": {{", step);
  for (size_t i = 0; i < norms.size(); ++i) {
    line += fmt::format(
        "{}\"{}\": {{\"weight_norm\": {}, \"update_norm\": {}, \"trust_ratio\": {}}}",
        i == 0 ? "" : ", ", table[static_cast<int>(i)].name, json_number(norms[i].weight),
        json_number(norms[i].update), json_number(norms[i].trust_ratio));
  }
  trust_ratios_->write(line + "}}");
  if (!events_) return;
  std::vector<std::pair<std::string, float>> ratios;
  for (size_t i = 0; i < norms.size(); ++i)
    ratios.emplace_back(table[static_cast<int>(i)].name, static_cast<float>(norms[i].trust_ratio));
  events_->write_trust_ratios(step, std::move(ratios));
}

}  // namespace minibert
