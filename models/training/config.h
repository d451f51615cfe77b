// config.h: every setting of a training run, and the one table that all ways of giving it come
// from: TOML key, environment variable, flag, range, help and the resolved printout. Order:
// defaults < recipe < --config FILE < environment MINIBERT_* < flags. Used by the verb `train` and
// by trainer.cpp. Easy to break: a setting is added as one member here and one line of
// config_keys() in config_keys.cpp, and nowhere else; a setting whose name changes breaks users'
// files. Test: ctest -R training_config.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace minibert {

inline constexpr int kConfigFormatVersion = 1;

/// A setting's value, of one of the types that settings have.
using ConfigValue = std::variant<std::string, int64_t, double, bool, std::vector<std::string>,
                                 std::optional<double>>;

/// What a phase has of its own, by the setting's name, "optim.learning_rate"; the rest is the run's.
/// phases.h makes whole configurations of it.
struct PhaseSettings {
  struct Entry {
    ConfigValue value;
    std::string origin;  // "run.toml:14", "--phase"
  };
  std::map<std::string, Entry> entries;
};

/// Units and meanings stand in the help texts of config_keys.cpp; `train --help` prints them.
struct TrainConfig {
  // [model]
  std::string model = "bert-tiny";
  int64_t num_hidden_layers = 0, hidden_size = 0, num_attention_heads = 0, intermediate_size = 0;
  int64_t max_position_embeddings = 512;
  double hidden_dropout = 0.1, attention_dropout = 0.1, initializer_range = 0.02;
  std::string position_initializer = "normal";
  bool nsp = true;
  std::string init_from;

  // [data]
  std::string data;
  std::vector<std::string> evaluation_data;  // "PATH" or "NAME=PATH"
  std::string vocab;
  int64_t sequence_length = 0, sequences = 0;  // what the data are said to be; 0: as they are

  // [train]
  int64_t micro_batch_size = 32, global_batch_size = 32, token_capacity = 0;
  int64_t max_steps = 1000, stop_after = 0, seed = 12345, threads = 0;
  std::string device = "cpu", gemm = "fastest", precision = "fp32", recompute = "none";
  bool deterministic = false, overfit_batch = false, fixed_shapes = false, graph = false;

  // [ranks]
  std::string collectives = "auto", interface;
  int64_t bucket_megabytes = 25;
  bool shard_optimizer = false;
  std::string reduce_precision = "fp32";
  double communication_timeout = 300, start_timeout = 300;

  // [scale]
  std::string loss_scaling = "auto";
  double loss_scale = 65536, loss_scale_growth = 2, loss_scale_backoff = 0.5, loss_scale_floor = 1;
  int64_t loss_scale_interval = 2000, max_skips = 10;

  // [optim]
  std::string optimizer = "lamb", schedule = "linear";
  double learning_rate = 1e-3, warmup = 0.1, schedule_power = 1.0;
  std::string batch_scaling = "none";
  int64_t reference_batch_size = 0, reference_steps = 0;
  double reference_learning_rate = 0, reference_warmup = 0;
  double weight_decay = 0.01, max_grad_norm = 1.0, beta1 = 0.9, beta2 = 0.999, epsilon = 0;
  // "auto" and nothing: as the optimizer's row has it (optim/optimizer_policies.h).
  std::string adapt = "auto", bias_correction = "auto", gradient_clipping = "auto";
  std::string epsilon_inside_root = "auto", gradient_averaging = "auto", nesterov = "auto";
  std::optional<double> trust_coefficient;
  std::optional<double> weight_norm_min, weight_norm_max, trust_ratio_min, trust_ratio_max;

  // [checkpoint]
  std::string output_dir, resume = "never";
  int64_t save_every = 500, keep_last = 2;
  double grace = 20;

  // [log]
  int64_t log_every = 10, evaluate_every = 500, evaluation_batches = 0, trust_ratio_every = 100;
  bool tensorboard = true;

  /// [[phase]] tables, in order; empty: the run is one phase.
  std::vector<PhaseSettings> phases;
  // [[phase]] alone: of the one that a configuration is of (phases.h)
  std::string phase_name;
  int64_t phase_number = 0;  // from 1; 0: there are no [[phase]] tables
  int64_t first_step = -1;   // said to be; -1: not said
  bool restart_step_count = false;
};

/// Pointer to a setting, by its type.
using ConfigMember =
    std::variant<std::string TrainConfig::*, int64_t TrainConfig::*, double TrainConfig::*,
                 bool TrainConfig::*, std::vector<std::string> TrainConfig::*,
                 std::optional<double> TrainConfig::*>;  // nothing: the word "auto"

/// One line of the table.
struct ConfigKey {
  std::string section, key;  // "train", "micro_batch_size"
  ConfigMember member;
  double low = 0, high = 0;          // allowed range of numbers, both ends included
  std::vector<std::string> choices;  // allowed words, or empty for any
  std::string help;

  std::string name() const { return section + "." + key; }  // "train.micro_batch_size"
  std::string flag() const;                                 // "--micro-batch-size"
  std::string environment() const;                          // "MINIBERT_MICRO_BATCH_SIZE"
  bool is_switch() const { return std::holds_alternative<bool TrainConfig::*>(member); }
  bool is_list() const {
    return std::holds_alternative<std::vector<std::string> TrainConfig::*>(member);
  }
};

/// The value of a setting as TOML has it: "fp32" in quotes, 32, 0.1, true, ["a", "b"].
std::string toml_text(const ConfigKey& key, const TrainConfig& config);
ConfigValue value_of(const ConfigKey& key, const TrainConfig& config);
void set_value(const ConfigKey& key, TrainConfig& config, const ConfigValue& value);

/// The table, in the order of the printout.
const std::vector<ConfigKey>& config_keys();
/// The row of "section.key", which must exist.
const ConfigKey& config_key(const std::string& name);
/// The settings that a [[phase]] may have of its own, and those that only a phase has ("phase.name").
const std::vector<ConfigKey>& phase_keys();

/// Settings and where each came from: "default", "recipe austen", "run.toml:14",
/// "MINIBERT_MAX_STEPS", "--max-steps".
class ConfigBuilder {
 public:
  /// Reads a TOML text; `origin` names it in messages ("run.toml" or "recipe austen"). Its `base`, if
  /// there is one, is a recipe that is read before it. [[phase]] tables replace all earlier ones.
  /// Errors: UsageError with origin and line: syntax, duplicate or unknown key (with the nearest
  /// name), wrong type, value out of range, newer format_version.
  void apply_toml(std::string_view text, const std::string& origin);
  /// The same from a file. Errors: UsageError if it can't be read.
  void apply_file(const std::string& path);
  /// Reads MINIBERT_* from `environment` (as ::environ). Errors: UsageError with the nearest name
  /// for one that is neither a setting's nor another of ours.
  void apply_environment(const char* const* environment);
  /// One setting as text, as a flag or an environment variable gives it; lists are separated by
  /// commas. Errors: UsageError.
  void apply_text(const ConfigKey& key, const std::string& text, const std::string& origin);
  void apply_list(const ConfigKey& key, std::vector<std::string> values, const std::string& origin);
  /// A setting of one phase: "2.data=DIR" or, by the phase's name, "seq512.data=DIR".
  /// Errors: UsageError; the phase or the setting does not exist.
  void apply_phase_text(const std::string& text, const std::string& origin);

  /// The recipe by name; what it says is also the reference point of batch scaling, where the
  /// settings reference_* do not name another. Errors: UsageError.
  void apply_recipe(const std::string& name);
  /// After everything was applied: derives what batch scaling leaves to it (batch_scaling.h).
  /// Errors: UsageError: no reference point, a flag for a setting that all phases have of their own.
  void finish();

  const TrainConfig& config() const { return config_; }
  /// Where the value of "section.key" came from.
  const std::string& origin(const std::string& name) const;
  /// The same in phase `phase`, from 0, which may have it from the run.
  const std::string& origin(std::optional<size_t> phase, const std::string& name) const;
  /// The recipe that was applied last, "" if none was.
  const std::string& recipe() const { return recipe_; }
  /// config.resolved.toml: every setting with its origin as a comment; apply_toml reads it back to
  /// equal values.
  std::string to_toml() const;

 private:
  /// One setting of the run, or of a phase, from 0.
  ConfigValue value(std::optional<size_t> phase, const std::string& name) const;
  void set(std::optional<size_t> phase, const std::string& name, const ConfigValue& value,
           const std::string& origin);
  void check_flags_reach_a_phase() const;
  void scale(std::optional<size_t> phase);

  struct Layer {
    TrainConfig config;
    std::map<std::string, std::string> origins;
  };
  TrainConfig config_;
  std::map<std::string, std::string> origins_;
  std::string recipe_;
  std::optional<Layer> recipe_layer_;  // as the recipe left it
};

/// "--data DIR", or "--phase 2.data=DIR" in a configuration of phase 2: how to set it.
std::string flag_text(const TrainConfig& config, const std::string& key, const std::string& value);
/// "phase 2 (seq512): " in front of a message; "" where there are no phases.
std::string phase_prefix(const TrainConfig& config);

/// Micro-batches a step (without token capacity, which can only add some).
/// Errors: UsageError unless the micro-batch divides the global batch.
int64_t accumulation_steps(const TrainConfig& config);

/// Whether the loss is scaled: always for fp16, for bf16 on request.
bool scales_loss(const TrainConfig& config);

/// Name and path of each evaluation set: "chapters=data/chapters" or "data/chapters" (its name is
/// the folder's). Errors: UsageError for a name given twice.
std::vector<std::pair<std::string, std::string>> evaluation_sets(const TrainConfig& config);

/// Checks what concerns several settings at once, whatever the machine. `data_at_hand`: the folders of
/// the data must be named. Errors: UsageError naming the settings, their values and the fix.
void check_together(const TrainConfig& config, bool data_at_hand = false);
/// The same with data, what this build or the device can't do, and that an output folder is given.
void validate(const TrainConfig& config);

}  // namespace minibert
