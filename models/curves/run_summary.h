// run_summary.h: a run in a few figures, for the page of a report, its --json and its printed lines.
// Called by report_page.cpp and the verb report. Easy to break: figures are those of the records, or
// sums of theirs; a step that is not finite is counted. Test: ctest -R report.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "models/curves/run_data.h"

namespace minibert {

/// An evaluation by the first set, which decides which checkpoint is the best.
struct RecordedEvaluation {
  int64_t step = 0;
  std::string set;
  EvaluationResult result;
};

/// Scores of a fine-tuned model, as recorded after a step: {"exact_match", "f1", ...}.
struct RecordedScores {
  int64_t step = 0;
  std::string json;
};

struct RunSummary {
  int64_t steps = 0;                             // the last step recorded
  std::optional<int64_t> max_steps;              // of the settings
  bool fine_tuning = false;                      // then the loss is of labels
  std::optional<double> mlm_loss;                // mean of the last hundredth of the steps, nats
  std::optional<RecordedScores> scores;          // of fine-tuning: the last
  std::optional<RecordedEvaluation> last, best;  // best: lowest MLM loss
  int64_t sequences = 0, tokens = 0;             // of the steps recorded
  double seconds = 0;                            // sum of their step_seconds
  int64_t skipped_steps = 0;
  int64_t non_finite_steps = 0;  // loss or gradient norm, but for skipped steps
};
RunSummary summary_of(const RunData& run);
/// "exact_match 80.00, f1 88.10 (step 90)", in percent; "" without scores.
std::string scores_text(const RunSummary& summary);

/// The scores of a record of fine-tuning in percent, by name: "accuracy", "f1", ...
std::vector<std::pair<std::string, double>> percentages(const StepRecord& record);

/// {"run", "name", "steps", "max_steps", "mlm_loss", "last_evaluation": {"step", "set", ...}, ...,
/// "notes"}: one line. Of fine-tuning: "loss" in place of "mlm_loss", "last_scores" in place of the
/// evaluations.
std::string summary_json(const RunData& run);
/// "base: 500 of 500 steps, MLM loss 5.512; evaluation chapters at step 500: ..."
std::string summary_line(const RunData& run);

}  // namespace minibert
