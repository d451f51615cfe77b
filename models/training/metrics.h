// metrics.h: metrics.jsonl, one JSON object per step, and the other files of curves.
// Written by run_journal.cpp. Each line is one write, so kill -9 never cuts one in two; a power cut
// can, and truncate_metrics() drops what it left. Easy to break: NaN and infinity are written, never
// filtered: as bare NaN, Infinity and -Infinity, which is how Python's json module writes and reads
// them. Test: ctest -R metrics.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace minibert {

/// What `eval mlm` prints, and what metrics.jsonl has under "eval".
struct EvaluationResult {
  double mlm_loss = 0, mlm_accuracy = 0;  // nats per masked token; share of 1
  double unigram_cross_entropy = 0;       // nats, of word frequencies in the training data, add-one
  std::optional<double> nsp_loss, nsp_accuracy;  // nats per pair; share of 1; absent without NSP
  int64_t masked_tokens = 0;
};

/// One line of metrics.jsonl. Losses in nats; accuracies are shares of 1; times in seconds.
struct StepRecord {
  int64_t step = 0;   // data steps done, from 1
  int64_t phase = 0;  // of the run's [[phase]] tables, from 0
  double loss = 0, mlm_loss = 0, mlm_accuracy = 0;
  std::optional<double> nsp_loss, nsp_accuracy;  // absent (null) without NSP
  double learning_rate = 0, grad_norm = 0, loss_scale = 1;
  int64_t skipped_steps = 0, sequences = 0, tokens = 0;
  double step_seconds = 0, data_seconds = 0;
  double communication_seconds = 0;  // of collectives, for gradients and shards; 0 with one rank
  double exposed_communication_seconds = 0;  // of them, not hidden by backward or forward
  std::vector<std::pair<std::string, EvaluationResult>> evaluations;  // by name, the first leads
  /// Of fine-tuning: mlm_loss and mlm_accuracy are those of its labels, and are written as "loss" and
  /// "accuracy", without the four of pre-training.
  bool fine_tuning = false;
  std::string scores;  // of fine-tuning on held-out data: the object under "eval"; "": none
  /// Of the first step of a resumed run: {"optim.learning_rate": {"before": "0.001", "now": "0.005"}}
  /// for each setting that differs from the checkpoint's; "": none.
  std::string changed_settings;
};

/// A number as JSON: shortest form that reads back equal; NaN, Infinity, -Infinity; null if absent.
std::string json_number(std::optional<double> value);
/// The number at the beginning of a text that json_number wrote, whatever follows; nothing for null.
/// Errors: DataError, without the file's name.
std::optional<double> parse_json_number(std::string_view text);
/// {"mlm_loss": ..., ..., "masked_tokens": ...}
std::string to_json(const EvaluationResult& result);
/// The line, without its end. With several evaluation sets, "eval" is the first's and
/// "eval_by_name" has them all.
std::string to_json(const StepRecord& record);
/// Reads a line of to_json(StepRecord) back, but for its evaluations; scores of fine-tuning are read.
/// Errors: DataError.
StepRecord parse_step_record(const std::string& line);
/// The evaluations in a line of to_json(StepRecord), none in most. Of a single one the line has no
/// name: `only_name`. Errors: DataError.
std::vector<std::pair<std::string, EvaluationResult>> parse_evaluations(
    std::string_view line, const std::string& only_name);

/// Appends lines, or other records, to a file.
class LineWriter {
 public:
  /// Opens for appending; creates the file if need be. Errors: UsageError.
  explicit LineWriter(const std::filesystem::path& path);
  ~LineWriter();
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  /// One write(2) of line and "\n". Errors: CheckpointError (disk full).
  void write(const std::string& line) { append(line + "\n"); }
  /// One write(2) of the bytes as they are. Errors: as above.
  void append(const std::string& bytes);
  /// fsync. Errors: CheckpointError.
  void sync();

 private:
  std::filesystem::path path_;
  int file_ = -1;
};

/// What truncate_metrics() did, in lines. A damaged line is not a record. Half a line at the end,
/// as a power cut leaves it, is dropped and not counted.
struct MetricsCut {
  int64_t kept = 0, damaged = 0;
  int64_t first_damaged = 0;  // its number, from 1
};

/// Keeps the whole lines {"step": N, ...} up to `last_step` and removes the rest of the file. A
/// missing file has no lines. Errors: CheckpointError.
MetricsCut truncate_metrics(const std::filesystem::path& path, int64_t last_step);

}  // namespace minibert
