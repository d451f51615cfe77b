// metrics.cpp: lines of metrics.jsonl, written and read.
#include "models/training/metrics.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"
#include "models/training/file_system.h"

namespace minibert {
namespace {

const std::string kChangedSettings = ", \"changed_settings\": ";  // the last field of a line

/// Number after the first `"key": ` of a line that we wrote; nothing for null.
std::optional<double> optional_field(std::string_view line, std::string_view key) {
  const std::string pattern = fmt::format("\"{}\": ", key);
  const size_t start = line.find(pattern);
  MB_CHECK_AS(DataError, start != std::string_view::npos,
              "metrics.jsonl: field \"{}\" is missing in: {}", key, line);
  try {
    return parse_json_number(line.substr(start + pattern.size()));
  } catch (const DataError&) {
    fail<DataError>("metrics.jsonl: field \"{}\" is not a number in: {}", key, line);
  }
}

double field(std::string_view line, std::string_view key) {
  const std::optional<double> value = optional_field(line, key);
  MB_CHECK_AS(DataError, value, "metrics.jsonl: field \"{}\" is null in: {}", key, line);
  return *value;
}

/// A field that counts something. Errors: DataError for a number that int64_t cannot hold.
int64_t count_field(std::string_view line, std::string_view key) {
  constexpr double kMost = 9007199254740992;  // 2^53: beyond it not every whole number is a double
  const double value = field(line, key);
  MB_CHECK_AS(DataError, std::abs(value) <= kMost, "metrics.jsonl: field \"{}\" is no count in: {}",
              key, line);
  return static_cast<int64_t>(value);
}

/// Step of a complete line, or nothing.
std::optional<int64_t> step_of(std::string_view line) {
  constexpr std::string_view kStart = "{\"step\": ";
  if (line.rfind(kStart, 0) != 0 || line.back() != '}') return std::nullopt;
  if (line.find(kStart, 1) != line.npos) return std::nullopt;  // one torn, the next after it
  int64_t step = 0;
  const auto [end, error] =
      std::from_chars(line.data() + kStart.size(), line.data() + line.size(), step);
  if (error != std::errc()) return std::nullopt;
  return step;
}

EvaluationResult parse_evaluation(std::string_view object) {
  EvaluationResult r;
  r.mlm_loss = field(object, "mlm_loss");
  r.mlm_accuracy = field(object, "mlm_accuracy");
  r.unigram_cross_entropy = field(object, "unigram_cross_entropy");
  r.nsp_loss = optional_field(object, "nsp_loss");
  r.nsp_accuracy = optional_field(object, "nsp_accuracy");
  r.masked_tokens = count_field(object, "masked_tokens");
  return r;
}

}  // namespace

std::optional<double> parse_json_number(std::string_view text) {
  if (text.rfind("null", 0) == 0) return std::nullopt;
  if (text.rfind("NaN", 0) == 0) return std::numeric_limits<double>::quiet_NaN();
  if (text.rfind("Infinity", 0) == 0) return std::numeric_limits<double>::infinity();
  if (text.rfind("-Infinity", 0) == 0) return -std::numeric_limits<double>::infinity();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  MB_CHECK_AS(DataError, error == std::errc(), "\"{}\" does not begin with a number",
              text.substr(0, 20));
  return value;
}

std::string json_number(std::optional<double> value) {
  if (!value) return "null";
  if (std::isnan(*value)) return "NaN";
  if (std::isinf(*value)) return *value > 0 ? "Infinity" : "-Infinity";
  return fmt::format("{}", *value);
}

std::string to_json(const EvaluationResult& r) {
  return fmt::format(
      "{{\"mlm_loss\": {}, \"mlm_accuracy\": {}, \"unigram_cross_entropy\": {}, \"nsp_loss\": {}, "
      "\"nsp_accuracy\": {}, \"masked_tokens\": {}}}",
      json_number(r.mlm_loss), json_number(r.mlm_accuracy), json_number(r.unigram_cross_entropy),
      json_number(r.nsp_loss), json_number(r.nsp_accuracy), r.masked_tokens);
}

std::string to_json(const StepRecord& r) {
  std::string text = fmt::format("{{\"step\": {}, \"phase\": {}", r.step, r.phase);
  const auto add = [&text](const char* key, std::optional<double> value) {
    text += fmt::format(", \"{}\": {}", key, json_number(value));
  };
  add("loss", r.loss);
  if (r.fine_tuning) {
    add("accuracy", r.mlm_accuracy);
  } else {
    add("mlm_loss", r.mlm_loss);
    add("mlm_accuracy", r.mlm_accuracy);
    add("nsp_loss", r.nsp_loss);
    add("nsp_accuracy", r.nsp_accuracy);
  }
  add("learning_rate", r.learning_rate);
  add("grad_norm", r.grad_norm);
  add("loss_scale", r.loss_scale);
  text += fmt::format(", \"skipped_steps\": {}, \"sequences\": {}, \"tokens\": {}", r.skipped_steps,
                      r.sequences, r.tokens);
  add("step_seconds", r.step_seconds);
  add("data_seconds", r.data_seconds);
  add("communication_seconds", r.communication_seconds);
  add("exposed_communication_seconds", r.exposed_communication_seconds);
  if (!r.scores.empty()) text += ", \"eval\": " + r.scores;
  if (!r.evaluations.empty()) text += ", \"eval\": " + to_json(r.evaluations.front().second);
  if (r.evaluations.size() > 1) {
    text += ", \"eval_by_name\": {";
    for (const auto& [name, result] : r.evaluations)
      text += fmt::format("{}\"{}\": {}", text.back() == '{' ? "" : ", ", name, to_json(result));
    text += "}";
  }
  if (!r.changed_settings.empty()) text += kChangedSettings + r.changed_settings;
  return text + "}";
}

StepRecord parse_step_record(const std::string& line) {
  StepRecord r;
  r.step = count_field(line, "step");
  r.phase = count_field(line, "phase");
  r.loss = field(line, "loss");
  // Behind the fields an evaluation set may be called "accuracy".
  r.fine_tuning = line.find("\"accuracy\": ") < line.find("\"learning_rate\": ");
  r.mlm_loss = field(line, r.fine_tuning ? "loss" : "mlm_loss");
  r.mlm_accuracy = field(line, r.fine_tuning ? "accuracy" : "mlm_accuracy");
  if (!r.fine_tuning) {
    r.nsp_loss = optional_field(line, "nsp_loss");
    r.nsp_accuracy = optional_field(line, "nsp_accuracy");
  }
  r.learning_rate = field(line, "learning_rate");
  r.grad_norm = field(line, "grad_norm");
  r.loss_scale = field(line, "loss_scale");
  r.skipped_steps = count_field(line, "skipped_steps");
  r.sequences = count_field(line, "sequences");
  r.tokens = count_field(line, "tokens");
  r.step_seconds = field(line, "step_seconds");
  r.data_seconds = field(line, "data_seconds");
  r.communication_seconds = field(line, "communication_seconds");
  // Absent in records of older versions.
  r.exposed_communication_seconds =
      optional_field(line, "exposed_communication_seconds").value_or(0);
  constexpr std::string_view kEval = ", \"eval\": ";
  const size_t eval = line.find(kEval);
  size_t changed = line.find(kChangedSettings);
  if (r.fine_tuning && eval < changed) {
    const size_t from = eval + kEval.size(), end = line.find('}', from);
    MB_CHECK_AS(DataError, end != line.npos, "metrics.jsonl: field \"eval\" is cut in: {}", line);
    r.scores = line.substr(from, end + 1 - from);
    changed = line.find(kChangedSettings, end + 1);
  }
  if (changed != line.npos) {
    const size_t from = changed + kChangedSettings.size();
    r.changed_settings = line.substr(from, line.size() - from - 1);
  }
  return r;
}

std::vector<std::pair<std::string, EvaluationResult>> parse_evaluations(
    std::string_view line, const std::string& only_name) {
  std::vector<std::pair<std::string, EvaluationResult>> evaluations;
  const size_t first = line.find("\"eval\": {"), all = line.find("\"eval_by_name\": {");
  if (first == line.npos) return evaluations;
  if (all == line.npos) {
    evaluations.emplace_back(only_name, parse_evaluation(line.substr(first)));
    return evaluations;
  }
  std::string_view rest = line.substr(line.find('{', all) + 1);  // "NAME": {...}, ...
  while (rest.rfind('"', 0) == 0) {
    const size_t name_end = rest.find('"', 1), end = rest.find('}', name_end);
    MB_CHECK_AS(DataError, name_end != rest.npos && end != rest.npos,
                "metrics.jsonl: \"eval_by_name\" is cut in: {}", line);
    evaluations.emplace_back(std::string(rest.substr(1, name_end - 1)),
                             parse_evaluation(rest.substr(name_end, end - name_end + 1)));
    rest.remove_prefix(rest.substr(end + 1).rfind(", ", 0) == 0 ? end + 3 : end + 1);
  }
  return evaluations;
}

LineWriter::LineWriter(const std::filesystem::path& path) : path_(path) {
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  MB_CHECK(file_ >= 0, "{}: can't be opened for writing: {}. Check the output folder's rights.",
           path.string(), std::strerror(errno));
}

LineWriter::~LineWriter() {
  if (file_ >= 0) ::close(file_);
}

void LineWriter::append(const std::string& bytes) {
  const ssize_t written = ::write(file_, bytes.data(), bytes.size());
  MB_CHECK_AS(CheckpointError, written == static_cast<ssize_t>(bytes.size()),
              "{}: a record can't be written: {}. Free some space, then go on with --resume auto.",
              path_.string(), written < 0 ? std::strerror(errno) : "the disk is full");
}

void LineWriter::sync() {
  MB_CHECK_AS(CheckpointError, ::fsync(file_) == 0, "{}: fsync failed: {}", path_.string(),
              std::strerror(errno));
}

MetricsCut truncate_metrics(const std::filesystem::path& path, int64_t last_step) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  MetricsCut cut;
  std::string text;  // of the lines kept
  int64_t number = 0, last_kept = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    ++number;
    const auto step = line.empty() ? std::nullopt : step_of(line);
    if (!step && cut.damaged++ == 0) cut.first_damaged = number;
    if (!step || *step > last_step) continue;
    text += line + "\n";
    last_kept = number;
    ++cut.kept;
  }
  file.close();
  if (last_kept != cut.kept) {  // damaged lines lie before or between them
    FileSystem().replace_text(path, text);
    return cut;
  }
  std::error_code error;
  std::filesystem::resize_file(path, text.size(), error);
  MB_CHECK_AS(CheckpointError, !error, "{}: can't be cut back to step {}: {}", path.string(),
              last_step, error.message());
  return cut;
}

}  // namespace minibert
