// train_flags.h: the settings of a training run as flags, for the verbs that train: `train`,
// `finetune` and `verify-resume`. Each flag is a line of the table in
// models/training/config_keys.cpp. Easy to break: a flag that was not given must leave what recipe,
// file and environment say.
// Test: ctest -R train_verb.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/training/config.h"
#include "tools/minibert/verbs.h"

namespace minibert {

class TrainFlags {
 public:
  /// Settings that `fixed` names ("model.hidden_size") have no flag, and may not be set otherwise;
  /// `recipe` is what the verb begins with, instead of --recipe.
  struct Restriction {
    std::vector<std::string> fixed;
    std::string recipe, name;  // TOML; "finetune squad"
  };
  TrainFlags() = default;
  explicit TrainFlags(Restriction restriction) : restriction_(std::move(restriction)) {}

  /// Adds --config, --recipe and a flag for each setting. The object must live as long as the verb.
  void add_to(CLI::App& verb);
  /// Defaults < --recipe < --config < environment < flags. Errors: UsageError, as ConfigBuilder.
  ConfigBuilder resolve() const;

 private:
  void add_key(const ConfigKey& key);
  void apply(const ConfigKey& key, ConfigBuilder& builder) const;
  void add_phase_option(CLI::App& verb);
  bool is_fixed(const ConfigKey& key) const;

  Restriction restriction_;
  CLI::App* verb_ = nullptr;
  std::string config_file_, recipe_;
  std::vector<std::string> phase_settings_;
  std::map<std::string, std::string> values_;  // by key name; a switch is "true" or "false"
  std::map<std::string, std::vector<std::string>> lists_;  // by key name
};

}  // namespace minibert
