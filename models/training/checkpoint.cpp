// checkpoint.cpp: snapshots and their files.
#include "models/training/checkpoint.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/bert/hugging_face.h"
#include "models/text/json_depth.h"
#include "models/text/json_numbers.h"
#include "models/text/json_text.h"
#include "models/text/tokenizer_config.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr int kStateFormatVersion = 3;  // 2: precision and the state of loss scaling; 3: phases
constexpr const char* kFormatKey = "minibert_format_version";  // in a safetensors file's metadata

std::vector<NamedTensor> copies(const std::vector<NamedTensor>& tensors) {
  std::vector<NamedTensor> result;
  for (const NamedTensor& named : tensors) result.push_back({named.name, named.tensor.host_copy()});
  return result;
}

std::vector<NamedTensor> moments_of(const Optimizer& optimizer) {
  std::vector<NamedTensor> result;
  for (const auto& [name, tensor] : optimizer.state()) result.push_back({name, tensor});
  return result;
}

void check_finite(const std::vector<NamedTensor>& tensors, int64_t step) {
  for (const NamedTensor& named : tensors) {
    MB_CHECK_AS(
        NumericError, all_finite(named.tensor.span<float>()),
        "step {}: {} is not finite, expected finite numbers. Nothing of this step is saved. "
        "Go on from the checkpoint before it with a smaller --learning-rate or a longer "
        "--warmup.",
        step, named.name);
  }
}

/// As in metrics.jsonl.
const char* name_of(BestBy by) {
  switch (by) {
    case BestBy::mlm_loss:
      return "mlm_loss";
    case BestBy::f1:
      return "f1";
    case BestBy::accuracy:
      return "accuracy";
  }
  return "";
}

std::map<std::string, std::string> format_metadata() {
  return {{kFormatKey, std::to_string(kCheckpointFormatVersion)}};
}

/// A field of trainer_state.json. Errors: CheckpointError.
template <typename T>
T get(const nlohmann::json& object, const char* key, const std::string& origin) {
  try {
    const nlohmann::json& value = object.at(key);
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      const std::optional<T> number = whole_number<T>(value);
      MB_CHECK_AS(CheckpointError, number, "{}: field \"{}\" is {}, expected a whole number",
                  origin, key, json_text(value));
      return *number;
    } else {
      return value.get<T>();
    }
  } catch (const nlohmann::json::exception&) {
    fail<CheckpointError>("{}: field \"{}\" is missing or of another type", origin, key);
  }
}

/// "" is none. Errors: CheckpointError.
std::optional<StepRecord> pending_record(const std::string& line, const std::string& origin) {
  if (line.empty()) return std::nullopt;
  try {
    return parse_step_record(line);
  } catch (const DataError& error) {
    fail<CheckpointError>("{}: field \"pending_record\": {}", origin, error.what());
  }
}

std::vector<PhaseStart> phase_starts(const nlohmann::json& state, const std::string& origin) {
  std::vector<PhaseStart> starts;
  for (const nlohmann::json& start : get<std::vector<nlohmann::json>>(state, "phases", origin))
    starts.push_back({get<int64_t>(start, "first_data_step", origin),
                      get<int64_t>(start, "first_applied_step", origin)});
  MB_CHECK_AS(CheckpointError, !starts.empty() && starts.front() == PhaseStart{},
              "{}: field \"phases\" does not begin at step 0", origin);
  return starts;
}

void load_moments(const fs::path& path, Optimizer& optimizer) {
  const SafetensorsFile file(path.string());
  std::vector<std::pair<std::string, Tensor>> state;
  for (const SafetensorsEntry& entry : file.entries())
    state.emplace_back(entry.name, file.read(entry.name));
  try {
    optimizer.load_state(state);
  } catch (const Error& error) {
    fail<CheckpointError>("{}: {}", path.string(), error.what());
  }
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

void check_file_version(const fs::path& path) {
  const SafetensorsFile file(path.string());
  const auto found = file.metadata().find(kFormatKey);
  const std::string version = found == file.metadata().end() ? "1" : found->second;
  const bool known = std::all_of(version.begin(), version.end(), is_digit) && !version.empty() &&
                     version.size() < 10 && std::stoi(version) >= 1 &&
                     std::stoi(version) <= kCheckpointFormatVersion;
  MB_CHECK_AS(CheckpointError, known,
              "{}: {} is {}, expected 1 to {} (what this build reads). Use a newer minibert.",
              path.string(), kFormatKey, version, kCheckpointFormatVersion);
}

}  // namespace

ScalerState scaler_state(const StepState& state) {
  return {state.loss_scale, state.clean_steps, state.skips_in_a_row, state.skips_at_floor,
          state.scale_was_stable != 0};
}

StepState step_state(const TrainerState& saved, const StepState& fresh, bool scaled) {
  StepState state = fresh;
  state.applied_steps = saved.applied_steps;
  state.skipped_steps = saved.data_steps - saved.applied_steps;
  if (scaled && saved.scaler) {
    state.loss_scale = static_cast<float>(saved.scaler->loss_scale);
    state.clean_steps = static_cast<int32_t>(saved.scaler->clean_steps);
    state.skips_in_a_row = static_cast<int32_t>(saved.scaler->skips_in_a_row);
    state.skips_at_floor = static_cast<int32_t>(saved.scaler->skips_at_floor);
    state.scale_was_stable = saved.scaler->scale_was_stable;
  }
  return state;
}

std::string to_json(const TrainerState& s) {
  nlohmann::ordered_json best;
  if (s.best)
    best = {{"step", s.best->step}, {name_of(s.best->by), s.best->value}, {"data", s.best->data}};
  nlohmann::ordered_json scaler;
  if (s.scaler) {
    scaler = {{"loss_scale", s.scaler->loss_scale},
              {"clean_steps", s.scaler->clean_steps},
              {"skips_in_a_row", s.scaler->skips_in_a_row},
              {"skips_at_floor", s.scaler->skips_at_floor},
              {"scale_was_stable", s.scaler->scale_was_stable}};
  }
  nlohmann::ordered_json bucket;
  if (s.bucket.megabytes > 0)
    bucket = {{"megabytes", s.bucket.megabytes}, {"ranks", s.bucket.ranks}};
  nlohmann::ordered_json phases = nlohmann::ordered_json::array();
  for (const PhaseStart& start : s.phase_starts)
    phases.push_back(
        {{"first_data_step", start.data_steps}, {"first_applied_step", start.applied_steps}});
  const std::string pending = s.pending_record ? to_json(*s.pending_record) : "";
  const RunEnvironment& e = s.environment;
  const nlohmann::ordered_json state{
      {"format_version", kStateFormatVersion},
      {"data_steps", s.data_steps},
      {"applied_steps", s.applied_steps},
      {"precision", s.precision},
      {"scaler", scaler},
      {"phases", phases},
      {"best", best},
      {"pending_record", pending},
      {"seed", s.seed},
      {"global_batch_size", s.global_batch_size},
      {"optimizer", s.optimizer},
      {"data_fingerprint", s.data_fingerprint},
      {"gradient_bucket", bucket},
      {"settings", {{"run", s.settings.run}, {"phases", s.settings.phases}}},
      {"environment",
       {{"version", e.version},
        {"git_commit", e.commit},
        {"compiler", e.compiler},
        {"libraries", e.libraries},
        {"instruction_set", e.simd},
        {"gemm", e.gemm},
        {"threads", e.threads}}}};
  return state.dump(1) + "\n";
}

TrainerState parse_trainer_state(const std::string& text, const std::string& origin) {
  const auto json = parse_shallow_json<CheckpointError>(text, origin);
  MB_CHECK_AS(CheckpointError, json.is_object(), "{}: is damaged, expected JSON", origin);
  const int version = get<int>(json, "format_version", origin);
  MB_CHECK_AS(CheckpointError, version >= 1 && version <= kStateFormatVersion,
              "{}: format_version is {}, expected 1 to {} (what this build reads). Use a newer "
              "minibert.",
              origin, version, kStateFormatVersion);
  TrainerState s;
  s.data_steps = get<int64_t>(json, "data_steps", origin);
  s.applied_steps = get<int64_t>(json, "applied_steps", origin);
  if (version >= 2) {
    s.precision = get<std::string>(json, "precision", origin);
    const auto scaler = get<nlohmann::json>(json, "scaler", origin);
    if (!scaler.is_null()) {
      s.scaler = {get<double>(scaler, "loss_scale", origin),
                  get<int64_t>(scaler, "clean_steps", origin),
                  get<int64_t>(scaler, "skips_in_a_row", origin),
                  get<int64_t>(scaler, "skips_at_floor", origin),
                  get<bool>(scaler, "scale_was_stable", origin)};
    }
  }
  if (version >= 3) s.phase_starts = phase_starts(json, origin);
  const auto best = get<nlohmann::json>(json, "best", origin);
  if (!best.is_null()) {
    const BestBy by = best.contains("f1")         ? BestBy::f1
                      : best.contains("accuracy") ? BestBy::accuracy
                                                  : BestBy::mlm_loss;
    s.best = {get<int64_t>(best, "step", origin), get<double>(best, name_of(by), origin),
              best.contains("data") ? get<std::string>(best, "data", origin) : "", by};
  }
  s.pending_record = pending_record(get<std::string>(json, "pending_record", origin), origin);
  s.seed = get<uint64_t>(json, "seed", origin);
  s.global_batch_size = get<int64_t>(json, "global_batch_size", origin);
  s.optimizer = get<std::string>(json, "optimizer", origin);
  s.data_fingerprint = get<std::string>(json, "data_fingerprint", origin);
  const auto e = get<nlohmann::json>(json, "environment", origin);
  s.environment = {get<std::string>(e, "version", origin),
                   get<std::string>(e, "git_commit", origin),
                   get<std::string>(e, "compiler", origin),
                   get<std::string>(e, "libraries", origin),
                   get<std::string>(e, "instruction_set", origin),
                   get<std::string>(e, "gemm", origin),
                   get<int>(e, "threads", origin)};
  const nlohmann::json bucket = json.value("gradient_bucket", nlohmann::json());
  if (!bucket.is_null()) {
    s.bucket = {get<int64_t>(bucket, "megabytes", origin), get<int>(bucket, "ranks", origin)};
  }
  const nlohmann::json settings = json.value("settings", nlohmann::json());
  if (!settings.is_null()) {
    s.settings.run = get<decltype(RunSettings::run)>(settings, "run", origin);
    s.settings.phases = get<decltype(RunSettings::phases)>(settings, "phases", origin);
  }
  return s;
}

Snapshot::Snapshot(const BertForPreTraining& model, const Optimizer& optimizer, TrainerState state,
                   const TokenizerFiles& tokenizer)
    : state_(std::move(state)),
      config_(model.config()),
      parts_(model.parts()),
      weights_(copies(named_weights(model, model.arena().masters()))),
      moments_(moments_of(optimizer)),
      tokenizer_(tokenizer.kept) {
  if (tokenizer_.empty()) tokenizer_ = {{"vocab.txt", read_text(tokenizer.vocab)}};
  const auto is_settings = [](const NamedText& f) { return f.first == kTokenizerConfigFile; };
  if (std::ranges::none_of(tokenizer_, is_settings))
    tokenizer_.emplace_back(
        kTokenizerConfigFile,
        tokenizer_config_json(tokenizer.options, config_.max_position_embeddings));
  check_finite(weights_, state_.data_steps);
  check_finite(moments_, state_.data_steps);
}

std::vector<CheckpointFile> Snapshot::files(std::shared_ptr<const Snapshot> s) {
  const auto text_file = [](std::string name, std::string text) {
    return CheckpointFile{std::move(name), [text = std::move(text)](const fs::path& path) {
                            return write_bytes(path, text);
                          }};
  };
  std::vector<CheckpointFile> files = {
      text_file("config.json", s->config_.to_json(architecture_of(s->parts_))),
      {"model.safetensors", [s](const fs::path& path) {
         return write_safetensors(path.string(), s->weights_, format_metadata());
       }}};
  for (const auto& [name, text] : s->tokenizer_) files.push_back(text_file(name, text));
  files.push_back({"optimizer.safetensors", [s](const fs::path& path) {
                     return write_safetensors(path.string(), s->moments_, format_metadata());
                   }});
  files.push_back(text_file("trainer_state.json", to_json(s->state_)));
  return files;
}

int64_t checkpoint_bytes(const ParameterTable& table, int64_t moments) {
  return (1 + moments) * table.parameters() * static_cast<int64_t>(sizeof(float)) + (1 << 20);
}

TrainerState load_checkpoint(const fs::path& folder, BertForPreTraining& model,
                             Optimizer& optimizer) {
  TrainerState state = parse_trainer_state(read_text(folder / "trainer_state.json"),
                                           (folder / "trainer_state.json").string());
  try {
    check_file_version(folder / "model.safetensors");
    check_file_version(folder / "optimizer.safetensors");
    load_weights(folder / "model.safetensors", model);
    load_moments(folder / "optimizer.safetensors", optimizer);
  } catch (const DataError& error) {
    fail<CheckpointError>("{} Was the run started with another model or vocabulary?", error.what());
  }
  return state;
}

}  // namespace minibert
