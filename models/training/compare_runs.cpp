// compare_runs.cpp: one function for each file that two runs have in common.
#include "models/training/compare_runs.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/bert/checkpoint_manifest.h"
#include "models/bert/safetensors.h"
#include "models/text/json_depth.h"
#include "models/training/file_system.h"
#include "models/training/metrics.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

using Difference = std::optional<std::string>;

/// The checkpoint that `latest` names, or an empty path.
fs::path newest_checkpoint(const fs::path& run) {
  std::error_code error;
  const fs::path name = fs::read_symlink(run / "latest", error);
  return error ? fs::path() : run / name;
}

std::vector<float> values_of(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  file.read_f32(entry.name, values);
  return values;
}

Difference tensor_difference(const SafetensorsFile& file, const SafetensorsFile& expected_file,
                             const SafetensorsEntry& expected) {
  const SafetensorsEntry* entry = file.find(expected.name);
  if (!entry) return expected.name + " is missing";
  if (entry->shape != expected.shape || entry->dtype != expected.dtype)
    return fmt::format("{} is {} {}, expected {} {}", entry->name, entry->dtype, entry->shape_str(),
                       expected.dtype, expected.shape_str());
  const std::vector<float> a = values_of(file, *entry), b = values_of(expected_file, expected);
  for (size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(&a[i], &b[i], sizeof a[i]) != 0)
      return fmt::format("{}[{}] is {}, expected {}", entry->name, i, a[i], b[i]);
  return std::nullopt;
}

Difference tensors_difference(const fs::path& path, const fs::path& expected_path) {
  const SafetensorsFile file(path.string()), expected(expected_path.string());
  for (const SafetensorsEntry& entry : expected.entries())
    if (const Difference found = tensor_difference(file, expected, entry)) return found;
  for (const SafetensorsEntry& entry : file.entries())
    if (!expected.find(entry.name)) return entry.name + " should not be there";
  return std::nullopt;
}

/// All but the machine, whose threads are another matter with another number of ranks.
Difference state_difference(const fs::path& path, const fs::path& expected_path) {
  const auto read = [](const fs::path& file) {
    const auto json =
        parse_shallow_json<DataError, nlohmann::ordered_json>(read_text(file), file.string());
    MB_CHECK_AS(DataError, json.is_object(), "{}: is damaged, expected JSON", file.string());
    return json;
  };
  const auto state = read(path), expected = read(expected_path);
  for (const auto& [key, value] : expected.items()) {
    const auto found = state.value(key, nlohmann::ordered_json());
    if (key != "environment" && found != value)
      return fmt::format("{} is {}, expected {}", key, found.dump(), value.dump());
  }
  return std::nullopt;
}

std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> lines;
  if (!fs::exists(path)) return lines;
  const std::string text = read_text(path);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

/// `compare` finds what differs in two lines.
template <typename Compare>
Difference lines_difference(const fs::path& path, const fs::path& expected_path, Compare compare) {
  const std::vector<std::string> lines = lines_of(path), expected = lines_of(expected_path);
  for (size_t i = 0; i < std::min(lines.size(), expected.size()); ++i)
    if (const Difference found = compare(lines[i], expected[i]))
      return fmt::format("line {}: {}", i + 1, *found);
  if (lines.size() == expected.size()) return std::nullopt;
  return fmt::format("{} lines, expected {}", lines.size(), expected.size());
}

/// What a record says of its evaluations.
std::string evaluations_text(const StepRecord& record) {
  if (!record.scores.empty()) return record.scores;
  if (record.evaluations.empty()) return "no evaluation";
  const std::string line = to_json(record);
  return line.substr(line.find("\"eval\""));
}

StepRecord whole_record(const std::string& line) {
  StepRecord record = parse_step_record(line);
  if (!record.fine_tuning) record.evaluations = parse_evaluations(line, "");
  return record;
}

Difference record_difference(const std::string& line, const std::string& expected_line,
                             double loss_tolerance) {
  const StepRecord record = whole_record(line), expected = whole_record(expected_line);
  const auto found = field_difference(record, expected, loss_tolerance);
  if (!found) return std::nullopt;
  if (found->field == "eval")
    return fmt::format("after step {}: {}, expected {}", expected.step, found->value,
                       found->expected);
  return fmt::format("{} of step {} is {}, expected {}", found->field, expected.step, found->value,
                     found->expected);
}

Difference text_difference(const std::string& line, const std::string& expected) {
  if (line == expected) return std::nullopt;
  const size_t at = static_cast<size_t>(std::ranges::mismatch(line, expected).in1 - line.begin());
  const size_t begin = at < 40 ? 0 : at - 40;
  return fmt::format("\"{}\", expected \"{}\"", line.substr(begin, 80), expected.substr(begin, 80));
}

}  // namespace

std::optional<RunState> newest_state(const fs::path& run) {
  const fs::path checkpoint = newest_checkpoint(run);
  if (checkpoint.empty()) return std::nullopt;
  verify_checkpoint(checkpoint);
  const auto manifest = nlohmann::json::parse(read_text(checkpoint / kCheckpointManifest));
  const auto sum = [&](const char* file) {
    return manifest.at("files").at(file).at("crc32").get<std::string>();
  };
  return RunState{manifest.at("step").get<int64_t>(), sum("model.safetensors"),
                  sum("optimizer.safetensors")};
}

std::optional<FieldDifference> field_difference(const StepRecord& a, const StepRecord& b,
                                                double loss_tolerance) {
  struct Field {
    const char* name;
    std::optional<double> value, expected;
    double tolerance = 0;
  };
  const auto number = [](int64_t n) { return static_cast<double>(n); };
  const Field fields[] = {
      {"step", number(a.step), number(b.step)},
      {"phase", number(a.phase), number(b.phase)},
      {"loss", a.loss, b.loss, loss_tolerance},
      {"mlm_loss", a.mlm_loss, b.mlm_loss, loss_tolerance},
      {"mlm_accuracy", a.mlm_accuracy, b.mlm_accuracy},
      {"nsp_loss", a.nsp_loss, b.nsp_loss, loss_tolerance},
      {"nsp_accuracy", a.nsp_accuracy, b.nsp_accuracy},
      {"learning_rate", a.learning_rate, b.learning_rate},
      {"grad_norm", a.grad_norm, b.grad_norm},
      {"loss_scale", a.loss_scale, b.loss_scale},
      {"skipped_steps", number(a.skipped_steps), number(b.skipped_steps)},
      {"sequences", number(a.sequences), number(b.sequences)},
      {"tokens", number(a.tokens), number(b.tokens)},
  };
  for (const Field& f : fields) {
    const std::string found = json_number(f.value), wanted = json_number(f.expected);
    const bool near = f.value && f.expected &&
                      std::abs(*f.value - *f.expected) <= f.tolerance * std::abs(*f.expected);
    if (found != wanted && !near) return FieldDifference{f.name, found, wanted};
  }
  const std::string found = evaluations_text(a), wanted = evaluations_text(b);
  if (found != wanted) return FieldDifference{"eval", found, wanted};
  return std::nullopt;
}

std::optional<std::string> first_difference(const fs::path& run, const fs::path& expected,
                                            double loss_tolerance) {
  const fs::path ours = newest_checkpoint(run), theirs = newest_checkpoint(expected);
  for (const auto& [checkpoint, folder] : {std::pair(ours, run), std::pair(theirs, expected)})
    MB_CHECK_AS(CheckpointError, !checkpoint.empty(), "{}: holds no checkpoint, expected one",
                folder.string());
  if (ours.filename() != theirs.filename())
    return fmt::format("latest is {}, expected {}", ours.filename().string(),
                       theirs.filename().string());
  const auto in = [](const char* file, const Difference& found) {
    return found ? Difference(fmt::format("{}: {}", file, *found)) : std::nullopt;
  };
  for (const char* file : {"model.safetensors", "optimizer.safetensors"})
    if (const auto found = in(file, tensors_difference(ours / file, theirs / file))) return found;
  constexpr const char *kState = "trainer_state.json", *kCurve = "metrics.jsonl",
                       *kRatios = "trust_ratios.jsonl";
  if (const auto found = in(kState, state_difference(ours / kState, theirs / kState))) return found;
  const auto records = [&](const std::string& line, const std::string& expected_line) {
    return record_difference(line, expected_line, loss_tolerance);
  };
  if (const auto found = in(kCurve, lines_difference(run / kCurve, expected / kCurve, records)))
    return found;
  return in(kRatios, lines_difference(run / kRatios, expected / kRatios, text_difference));
}

}  // namespace minibert
