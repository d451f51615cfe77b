// run_summary.cpp: sums over a run's records.
#include "models/curves/run_summary.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "models/text/json_text.h"
#include "models/training/run_log.h"

namespace minibert {
namespace {

/// Mean MLM loss of the last hundredth of the records, at least one: NaN if one of them is.
std::optional<double> last_loss(const RunData& run) {
  if (run.records.empty()) return std::nullopt;
  const size_t count = std::max<size_t>(1, run.records.size() / 100);
  double sum = 0;
  for (size_t i = run.records.size() - count; i < run.records.size(); ++i)
    sum += run.records[i].mlm_loss;
  return sum / static_cast<double>(count);
}

/// A JSON member whose value is text already.
std::string member(const char* key, const std::string& value) {
  return fmt::format(", \"{}\": {}", key, value);
}

std::string evaluation_json(const std::optional<RecordedEvaluation>& evaluation) {
  if (!evaluation) return "null";
  return fmt::format("{{\"step\": {}, \"set\": {}, {}", evaluation->step,
                     json_text(nlohmann::json(evaluation->set)),
                     to_json(evaluation->result).substr(1));
}

std::string scores_json(const std::optional<RecordedScores>& scores) {
  if (!scores) return "null";
  return fmt::format("{{\"step\": {}, {}", scores->step, scores->json.substr(1));
}

}  // namespace

std::vector<std::pair<std::string, double>> percentages(const StepRecord& record) {
  std::vector<std::pair<std::string, double>> scores;
  const auto object = nlohmann::json::parse(record.scores, nullptr, /* allow_exceptions= */ false);
  if (!object.is_object()) return scores;
  // SQuAD's script has percent, a classifier's scores are shares.
  for (const char* name : {"exact_match", "f1"})
    if (object.contains(name)) scores.emplace_back(name, object[name].get<double>());
  for (const char* name : {"accuracy", "macro_f1"})
    if (object.contains(name)) scores.emplace_back(name, 100 * object[name].get<double>());
  return scores;
}

std::string scores_text(const RunSummary& summary) {
  if (!summary.scores) return "";
  StepRecord record;
  record.scores = summary.scores->json;
  std::vector<std::string> parts;
  for (const auto& [name, percent] : percentages(record))
    parts.push_back(fmt::format("{} {:.2f}", name, percent));
  return fmt::format("{} (step {})", fmt::join(parts, ", "), summary.scores->step);
}

RunSummary summary_of(const RunData& run) {
  RunSummary summary;
  summary.max_steps = run.max_steps();
  summary.mlm_loss = last_loss(run);
  summary.fine_tuning = run.fine_tuning();
  for (const StepRecord& record : run.records) {
    summary.steps = record.step;
    summary.sequences += record.sequences;
    summary.tokens += record.tokens;
    summary.seconds += record.step_seconds;
    const bool skipped = record.skipped_steps > summary.skipped_steps;
    const bool finite = std::isfinite(record.loss) && std::isfinite(record.grad_norm);
    if (!finite && !skipped) ++summary.non_finite_steps;
    summary.skipped_steps = record.skipped_steps;
    if (!record.scores.empty()) summary.scores = {record.step, record.scores};
    if (record.evaluations.empty()) continue;
    const auto& [set, result] = record.evaluations.front();
    summary.last = {record.step, set, result};
    if (!summary.best || result.mlm_loss < summary.best->result.mlm_loss)
      summary.best = summary.last;
  }
  return summary;
}

std::string summary_json(const RunData& run) {
  const RunSummary s = summary_of(run);
  std::string text = "{\"run\": " + json_text(nlohmann::json(run.folder.string()));
  text += member("name", json_text(nlohmann::json(run.name)));
  text += member("steps", fmt::format("{}", s.steps));
  text += member("max_steps", s.max_steps ? fmt::format("{}", *s.max_steps) : "null");
  text += member("launches", fmt::format("{}", run.launches.size()));
  text += member(s.fine_tuning ? "loss" : "mlm_loss", json_number(s.mlm_loss));
  if (s.fine_tuning) {
    text += member("last_scores", scores_json(s.scores));
  } else {
    text += member("last_evaluation", evaluation_json(s.last));
    text += member("best_evaluation", evaluation_json(s.best));
  }
  text += member("sequences", fmt::format("{}", s.sequences));
  text += member("tokens", fmt::format("{}", s.tokens));
  text += member("step_seconds", json_number(s.seconds));
  text += member("skipped_steps", fmt::format("{}", s.skipped_steps));
  text += member("non_finite_steps", fmt::format("{}", s.non_finite_steps));
  nlohmann::ordered_json checkpoints = nlohmann::json::array();
  for (const RecordedCheckpoint& c : run.checkpoints)
    checkpoints.push_back(
        {{"step", c.step}, {"bytes", c.bytes}, {"latest", c.latest}, {"best", c.best}});
  text += member("checkpoints", json_text(checkpoints));
  return text + member("notes", json_text(nlohmann::json(run.notes))) + "}";
}

std::string summary_line(const RunData& run) {
  const RunSummary s = summary_of(run);
  std::string line = fmt::format("{}: step {}", run.name, s.steps);
  if (s.max_steps) line += fmt::format(" of {}", *s.max_steps);
  if (s.mlm_loss)
    line += fmt::format(" in {} | {} {:.3f}", format_duration(s.seconds),
                        s.fine_tuning ? "loss" : "mlm", *s.mlm_loss);
  if (s.scores) line += " | eval " + scores_text(s);
  if (s.last)
    line += fmt::format(" | eval {} mlm {:.3f} at step {}", s.last->set, s.last->result.mlm_loss,
                        s.last->step);
  if (s.skipped_steps > 0) line += fmt::format(" | skipped {}", s.skipped_steps);
  if (s.non_finite_steps > 0) line += fmt::format(" | not finite: {} steps", s.non_finite_steps);
  return line;
}

}  // namespace minibert
