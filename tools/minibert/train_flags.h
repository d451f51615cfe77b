// train_flags.h: the settings of a training run as flags, for the verbs that train: `train` and
// `verify-resume`. Each flag is a line of the table in models/training/config_keys.cpp. Easy to break:
// a flag that was not given must leave what recipe, file and environment say.
// Test: ctest -R train_verb.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "models/training/config.h"
#include "tools/minibert/verbs.h"

namespace minibert {

class TrainFlags {
 public:
  /// Adds --config, --recipe and a flag for each setting. The object must live as long as the verb.
  void add_to(CLI::App& verb);
  /// Defaults < --recipe < --config < environment < flags. Errors: UsageError, as ConfigBuilder.
  ConfigBuilder resolve() const;

 private:
  void add_key(const ConfigKey& key);

  CLI::App* verb_ = nullptr;
  std::string config_file_, recipe_;
  std::vector<std::string> phase_settings_;
  std::map<std::string, std::string> values_;  // by key name; a switch is "true" or "false"
  std::map<std::string, std::vector<std::string>> lists_;  // by key name
};

}  // namespace minibert
