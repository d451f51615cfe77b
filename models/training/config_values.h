// config_values.h: one setting's value, from text (a flag, an environment variable) or from TOML,
// and back to TOML. Called by config.cpp. Easy to break: both ways check the same ranges and
// choices.
// Test: ctest -R training_config.
#pragma once

#include <string>
#include <vector>

#include "models/training/config.h"
#include "models/training/toml_text.h"

namespace minibert {

/// Sets what `text` says; lists are separated by commas, "auto" is nothing. `origin` names where it
/// comes from.
/// Errors: UsageError: no value of the key's type, out of range, none of the choices.
void set_from_text(const ConfigKey& key, TrainConfig& config, const std::string& text,
                   const std::string& origin);
/// The same from a value of TOML. Errors: UsageError, for another type too.
void set_from_toml(const ConfigKey& key, TrainConfig& config, const toml::node& node,
                   const std::string& origin);

/// "a,b" in its parts, without empty ones.
std::vector<std::string> split_commas(const std::string& text);

}  // namespace minibert
