// run_data.cpp: one function for each file of a run folder.
#include "models/curves/run_data.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/json_depth.h"
#include "models/text/json_text.h"
#include "models/training/toml_text.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

std::optional<std::string> text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream || fs::is_directory(file)) return std::nullopt;
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// ---- Lines of JSON -----------------------------------------------------------------------------

/// Whole lines of a file, each given to `read`, which may throw DataError. A cut last line and
/// damaged lines become notes; a missing file has no lines.
template <typename Read>
void read_lines(const fs::path& file, std::vector<std::string>& notes, Read read) {
  std::ifstream stream(file, std::ios::binary);
  int64_t number = 0, damaged = 0, first_damaged = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (stream.eof()) {  // no line end: it is being written, or was cut off
      notes.push_back(fmt::format("{}: the last line is cut; it is left out", file.string()));
      break;
    }
    try {
      read(line);
    } catch (const DataError&) {
      if (damaged++ == 0) first_damaged = number;
    }
  }
  if (damaged > 0)
    notes.push_back(fmt::format("{}: damaged lines: {}, the first is line {}; they are left out",
                                file.string(), damaged, first_damaged));
}

/// The name of a phase's only evaluation set: what stands before "=", or else the folder's.
std::string only_evaluation_name(const RunData& run, int64_t phase) {
  const Setting* sets = run.setting(fmt::format("phase.{}.evaluation_data", phase + 1));
  if (!sets) sets = run.setting("data.evaluation_data");
  const std::string text = sets ? sets->value : "";
  const size_t begin = text.find_first_of("'\""), end = text.find_last_of("'\"");
  if (begin == std::string::npos || begin == end) return "held-out";
  const std::string set = text.substr(begin + 1, end - begin - 1);
  const size_t equals = set.find('=');
  return equals == std::string::npos ? fs::path(set).filename().string() : set.substr(0, equals);
}

void read_metrics(RunData& run) {
  const fs::path file = run.folder / "metrics.jsonl";
  int64_t repeated = 0;
  read_lines(file, run.notes, [&](const std::string& line) {
    MB_CHECK_AS(DataError, !line.empty() && line.back() == '}', "cut");
    StepRecord record = parse_step_record(line);
    if (!record.fine_tuning && line.find("\"eval\"") != std::string::npos)
      record.evaluations = parse_evaluations(line, only_evaluation_name(run, record.phase));
    for (; !run.records.empty() && run.records.back().step >= record.step; ++repeated)
      run.records.pop_back();
    run.records.push_back(std::move(record));
  });
  if (repeated > 0)
    run.notes.push_back(
        fmt::format("{}: {} steps come twice, as of two runs in one file; the later ones are shown",
                    file.string(), repeated));
  if (run.records.empty())
    return run.notes.push_back(fmt::format("{}: has no step yet", file.string()));
  const auto steps = static_cast<int64_t>(run.records.size());
  const int64_t missing = run.records.back().step - run.records.front().step + 1 - steps;
  if (missing > 0)
    run.notes.push_back(
        fmt::format("{}: {} steps are missing; curves have a gap there", file.string(), missing));
  if (run.records.front().step != 1)
    run.notes.push_back(fmt::format("{}: begins with step {}, expected 1", file.string(),
                                    run.records.front().step));
}

/// {"step": 10, "tensors": {"NAME": {"weight_norm": ..., "update_norm": ..., "trust_ratio": ...}}}
TrustRatios parse_trust_ratios(std::string_view line, std::vector<std::string>& tensors) {
  constexpr std::string_view kStep = "{\"step\": ", kTensors = "\"tensors\": {",
                             kRatio = "\"trust_ratio\": ";
  const size_t begin = line.find(kTensors);
  MB_CHECK_AS(DataError, line.rfind(kStep, 0) == 0 && begin != line.npos && line.back() == '}',
              "cut");
  TrustRatios ratios;
  ratios.step = static_cast<int64_t>(parse_json_number(line.substr(kStep.size())).value_or(0));
  std::vector<std::string> names;
  std::string_view rest = line.substr(begin + kTensors.size());
  while (rest.rfind('"', 0) == 0) {
    const size_t name_end = rest.find('"', 1), ratio = rest.find(kRatio), end = rest.find('}');
    MB_CHECK_AS(DataError, name_end < ratio && ratio < end && end != rest.npos, "cut");
    names.emplace_back(rest.substr(1, name_end - 1));
    ratios.ratios.push_back(
        parse_json_number(rest.substr(ratio + kRatio.size())).value_or(std::nan("")));
    rest.remove_prefix(rest.substr(end + 1).rfind(", ", 0) == 0 ? end + 3 : end + 1);
  }
  if (tensors.empty()) tensors = names;
  MB_CHECK_AS(DataError, tensors == names, "has other tensors than the lines before");
  return ratios;
}

void read_trust_ratios(RunData& run) {
  const fs::path file = run.folder / "trust_ratios.jsonl";
  read_lines(file, run.notes, [&](const std::string& line) {
    run.trust_ratios.push_back(parse_trust_ratios(line, run.tensors));
  });
}

// ---- Settings ----------------------------------------------------------------------------------

std::string text_of(const toml::node& node) {
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  if (const toml::array* array = node.as_array()) {
    std::string elements;
    for (const toml::node& element : *array)
      elements += (elements.empty() ? "" : ", ") + text_of(element);
    return "[" + elements + "]";
  }
  std::ostringstream stream;
  node.visit([&](const auto& value) { stream << value; });
  return stream.str();
}

/// What follows " # " on a line of the file.
std::string origin_on(const std::vector<std::string>& lines, const toml::node& node) {
  const size_t number = node.source().begin.line;
  if (number == 0 || number > lines.size()) return "";
  const size_t comment = lines[number - 1].rfind("  # ");
  return comment == std::string::npos ? "" : lines[number - 1].substr(comment + 4);
}

/// "section.key" for every value; in a list of tables "phase.1.key", as --phase counts them.
void add_settings(const toml::table& table, const std::string& prefix,
                  const std::vector<std::string>& lines, std::vector<Setting>& settings) {
  std::vector<std::pair<std::string, const toml::node*>> entries;  // in the file's order
  for (const auto& [key, node] : table) entries.emplace_back(std::string(key.str()), &node);
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.second->source().begin.line < b.second->source().begin.line;
  });
  for (const auto& [key, node] : entries) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    const toml::array* array = node->as_array();
    if (const toml::table* inner = node->as_table()) {
      add_settings(*inner, name, lines, settings);
    } else if (array && array->is_array_of_tables()) {
      for (size_t i = 0; i < array->size(); ++i)
        add_settings(*array->get(i)->as_table(), fmt::format("{}.{}", name, i + 1), lines,
                     settings);
    } else {
      settings.push_back({name, text_of(*node), origin_on(lines, *node)});
    }
  }
}

void read_settings(RunData& run) {
  const fs::path file = run.folder / "config.resolved.toml";
  const std::optional<std::string> text = text_of(file);
  if (!text)
    return run.notes.push_back(fmt::format("{}: is missing; no settings are shown", file.string()));
  std::vector<std::string> lines;
  std::istringstream stream(*text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  try {
    add_settings(parse_toml(*text, file.string()), "", lines, run.settings);
  } catch (const UsageError& error) {
    run.notes.push_back(fmt::format("{} No settings are shown", error.what()));
  }
}

// ---- run.json and checkpoints ------------------------------------------------------------------

std::string fact_text(const nlohmann::ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return json_text(value);
  std::string words;
  for (const auto& word : value) words += (words.empty() ? "" : " ") + fact_text(word);
  return words;
}

void read_launches(RunData& run) {
  const fs::path file = run.folder / "run.json";
  const std::optional<std::string> text = text_of(file);
  if (!text)
    return run.notes.push_back(
        fmt::format("{}: is missing; neither machine nor build are shown", file.string()));
  const auto json = parse_json<nlohmann::ordered_json>(*text);
  if (!json.is_object() || !json.contains("launches") || !json["launches"].is_array())
    return run.notes.push_back(
        fmt::format("{}: is damaged; neither machine nor build are shown", file.string()));
  for (const auto& entry : json["launches"]) {
    if (!entry.is_object()) continue;
    RecordedLaunch launch;
    for (const auto& [key, value] : entry.items()) {
      if (key == "first_step" && value.is_number_integer()) launch.first_step = value;
      if (key == "started") launch.started = fact_text(value);
      launch.facts.emplace_back(key, fact_text(value));
    }
    run.launches.push_back(std::move(launch));
  }
}

int64_t bytes_in(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code gone;  // a run that is going deletes old checkpoints
  for (fs::directory_iterator entry(folder, gone), end; !gone && entry != end;
       entry.increment(gone)) {
    const auto size = entry->file_size(gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

void read_checkpoints(RunData& run) {
  constexpr std::string_view kPrefix = "checkpoint-";
  std::error_code none;
  const std::string latest = fs::read_symlink(run.folder / "latest", none).string();
  const std::string best = fs::read_symlink(run.folder / "best", none).string();
  for (const fs::directory_entry& entry : fs::directory_iterator(run.folder)) {
    const std::string name = entry.path().filename().string();
    RecordedCheckpoint checkpoint;
    const char* end = name.data() + name.size();
    if (name.rfind(kPrefix, 0) != 0) continue;
    const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, checkpoint.step);
    if (error != std::errc() || stop != end) continue;
    checkpoint.bytes = bytes_in(entry.path());
    checkpoint.latest = name == latest;
    checkpoint.best = name == best;
    run.checkpoints.push_back(checkpoint);
  }
  std::sort(run.checkpoints.begin(), run.checkpoints.end(),
            [](const auto& a, const auto& b) { return a.step < b.step; });
}

// ---- Several runs ------------------------------------------------------------------------------

/// The last `parts` parts of a path.
std::string tail_of(const fs::path& path, int parts) {
  fs::path tail = path.filename(), rest = path.parent_path();
  for (int i = 1; i < parts && rest.has_filename(); ++i, rest = rest.parent_path())
    tail = rest.filename() / tail;
  return tail.string();
}

/// As few parts of the paths as make all names differ.
void name_runs(std::vector<RunData>& runs, const std::vector<fs::path>& paths) {
  for (int parts = 1;; ++parts) {
    std::map<std::string, int> count;
    for (size_t i = 0; i < runs.size(); ++i) ++count[runs[i].name = tail_of(paths[i], parts)];
    if (count.size() == runs.size()) return;
  }
}

/// " Did you mean FOLDER?", if a folder near the path holds a run.
std::string folder_meant(const fs::path& path) {
  for (const fs::path& near : {path.parent_path(), path / "run"})
    if (!near.empty() && fs::exists(near / "metrics.jsonl"))
      return fmt::format(" Did you mean {}?", near.string());
  return "";
}

}  // namespace

const Setting* RunData::setting(const std::string& wanted) const {
  const auto found = std::find_if(settings.begin(), settings.end(),
                                  [&](const Setting& setting) { return setting.name == wanted; });
  return found == settings.end() ? nullptr : &*found;
}

std::optional<int64_t> RunData::max_steps() const {
  const auto steps_of = [&](const std::string& key) -> std::optional<int64_t> {
    const Setting* found = setting(key);
    int64_t steps = 0;
    if (!found) return std::nullopt;
    const std::string& text = found->value;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), steps);
    return error == std::errc() ? std::optional(steps) : std::nullopt;
  };
  int64_t sum = 0;
  for (int phase = 1;; ++phase) {
    const auto steps = steps_of(fmt::format("phase.{}.max_steps", phase));
    if (!steps) break;
    sum += *steps;
  }
  return sum > 0 ? sum : steps_of("train.max_steps");
}

std::string RunData::phase_name(int64_t phase) const {
  const Setting* name = setting(fmt::format("phase.{}.name", phase + 1));
  if (!name || name->value.size() < 3) return fmt::format("phase {}", phase + 1);
  return fmt::format("phase {}, {}", phase + 1, name->value.substr(1, name->value.size() - 2));
}

std::vector<RunData> read_runs(const std::vector<fs::path>& folders) {
  std::string faults;
  std::vector<fs::path> paths;  // without links and dots, to tell runs apart
  for (const fs::path& folder : folders) {
    const fs::path path = fs::weakly_canonical(folder);
    MB_CHECK(!std::count(paths.begin(), paths.end(), path),
             "{}: is given twice, expected different runs. Leave one out.", folder.string());
    paths.push_back(path);
    if (fs::exists(path / "metrics.jsonl")) continue;
    const char* found = !fs::exists(path) ? "does not exist" : "has no metrics.jsonl";
    faults += fmt::format("{}{}: {}, expected the folder of a run.{}", faults.empty() ? "" : " ",
                          folder.string(), found, folder_meant(path));
  }
  MB_CHECK_AS(DataError, faults.empty(), "{}", faults);
  std::vector<RunData> runs(folders.size());
  name_runs(runs, paths);
  for (size_t i = 0; i < runs.size(); ++i) {
    runs[i].folder = folders[i];
    read_settings(runs[i]);
    read_launches(runs[i]);
    read_metrics(runs[i]);
    read_trust_ratios(runs[i]);
    read_checkpoints(runs[i]);
  }
  return runs;
}

std::vector<SettingDifference> differing_settings(const std::vector<const RunData*>& runs) {
  std::vector<SettingDifference> all;
  for (size_t i = 0; i < runs.size(); ++i) {
    for (const Setting& setting : runs[i]->settings) {
      auto found = std::find_if(all.begin(), all.end(),
                                [&](const auto& row) { return row.name == setting.name; });
      if (found == all.end())
        found = all.insert(all.end(), {setting.name, std::vector<std::string>(runs.size())});
      found->values[i] = setting.value;
    }
  }
  std::erase_if(all, [](const SettingDifference& row) {
    return std::count(row.values.begin(), row.values.end(), row.values[0]) ==
           static_cast<std::ptrdiff_t>(row.values.size());
  });
  return all;
}

}  // namespace minibert
