// config.cpp: settings from recipes, TOML, environment and flags, in their order, and back to TOML.
// One setting's value is read in config_values.cpp; what concerns several at once is checked in
// config_checks.cpp.
#include "models/training/config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/training/config_values.h"
#include "models/training/phases.h"
#include "models/training/recipes.h"
#include "models/training/setting_faults.h"
#include "models/training/toml_text.h"

namespace minibert {
namespace {

constexpr std::string_view kEnvironmentPrefix = "MINIBERT_";

std::string flag_form(std::string key, char separator) {
  std::replace(key.begin(), key.end(), '_', separator);
  return key;
}

const ConfigKey* find_key(std::string_view name) {
  for (const ConfigKey& key : config_keys())
    if (key.name() == name) return &key;
  return nullptr;
}

/// The table's entries as settings of one phase.
PhaseSettings read_phase(const toml::table& table, const std::string& origin,
                         SettingFaults& faults) {
  PhaseSettings phase;
  for (const auto& entry : table) {
    faults.collect([&] {
      const std::string name(entry.first.str()), where = toml_place(origin, entry.second);
      const ConfigKey& found = find_phase_key(name, where + ": key phase." + name);
      TrainConfig scratch;
      set_from_toml(found, scratch, entry.second, where);
      phase.entries[found.name()] = {value_of(found, scratch), where};
    });
  }
  return phase;
}

std::vector<PhaseSettings> read_phases(const toml::node& node, const std::string& origin,
                                       SettingFaults& faults) {
  const toml::array* tables = node.as_array();
  MB_CHECK(tables && tables->is_homogeneous<toml::table>(),
           "{}: phase is no list of tables, expected one [[phase]] a phase, in their order. Write "
           "it in two brackets.",
           toml_place(origin, node));
  std::vector<PhaseSettings> phases;
  for (const toml::node& table : *tables)
    phases.push_back(read_phase(*table.as_table(), origin, faults));
  return phases;
}

[[noreturn]] void unknown_key(const std::string& origin, const std::string& name) {
  std::vector<std::string> names;
  for (const ConfigKey& key : config_keys()) names.push_back(key.name());
  // "max_steps" in the wrong section is as common a mistake as a wrong letter.
  const std::string last = name.substr(name.find('.') + 1);
  for (const ConfigKey& key : config_keys())
    if (key.key == last) names = {key.name()};
  const bool moved = names.size() == 1;
  fail<UsageError>("{}: key {} is unknown.{} `minibert train --print-config` prints all keys.",
                   origin, name,
                   moved ? " Did you mean " + names.front() + "?" : did_you_mean(name, names));
}

/// Variables of ours that are no settings of a run: instruction set, allocator, tests.
bool is_foreign_variable(const std::string& name) {
  static const std::set<std::string> names{
      "SIMD",       "DIRECT_ALLOCATOR", "PYTHON", "PARITY_AGAIN", "SHARED_DATA",
      "SOURCE_DIR", "BINARY",           "SECRET", "RUN_ID",       "LISTENER"};
  return names.count(name) || name.rfind("TEST_", 0) == 0;
}

/// " Did you mean MINIBERT_NSP=false?": for a name without the prefix.
std::string variable_meant(const std::string& name, const std::vector<std::string>& names) {
  for (const ConfigKey& key : config_keys()) {
    const std::string variable = key.environment();
    if (key.is_switch() && "NO_" + variable.substr(kEnvironmentPrefix.size()) == name)
      return fmt::format(" Did you mean {}=false?", variable);
  }
  const std::string nearest = nearest_name(name, names);
  return nearest.empty() ? "" : fmt::format(" Did you mean {}{}?", kEnvironmentPrefix, nearest);
}

void check_format_version(const toml::node& node, const std::string& origin) {
  const auto version = node.value<int64_t>();
  MB_CHECK(version && *version >= 1 && *version <= kConfigFormatVersion,
           "{}: format_version is {}, expected 1 to {} (what this build reads). Use a newer "
           "minibert, or write the file anew from `minibert train --print-config`.",
           toml_place(origin, node), version ? std::to_string(*version) : "no integer",
           kConfigFormatVersion);
}

}  // namespace

std::string ConfigKey::flag() const {
  return "--" + flag_form(key, '-');
}

std::string ConfigKey::environment() const {
  std::string name(kEnvironmentPrefix);
  for (char c : key) name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

void ConfigBuilder::apply_toml(std::string_view text, const std::string& origin) {
  const toml::table document = parse_toml(text, origin);
  if (const toml::node* base = document.get("base")) {
    MB_CHECK(base->is_string(), "{}: base has another type, expected the name of a recipe",
             toml_place(origin, *base));
    apply_recipe(*base->value<std::string>());
  }
  // A file of a newer version may have keys that this one does not know: its version is the fault.
  if (const toml::node* version = document.get("format_version"))
    check_format_version(*version, origin);
  SettingFaults faults;
  for (const auto& [section, node] : document) {
    const std::string section_name(section.str());
    if (section_name == "base" || section_name == "format_version") continue;
    if (section_name == "phase") {
      config_.phases = read_phases(node, origin, faults);
      if (recipe_layer_) recipe_layer_->config.phases.clear();  // they are no reference for these
      continue;
    }
    const toml::table* table = node.as_table();
    if (!table) {
      faults.collect([&, &node = node] { unknown_key(toml_place(origin, node), section_name); });
      continue;
    }
    for (const auto& entry : *table) {
      faults.collect([&] {
        const std::string name = section_name + "." + std::string(entry.first.str());
        const std::string where = toml_place(origin, entry.second);
        const ConfigKey* found = find_key(name);
        if (!found) unknown_key(where, name);
        set_from_toml(*found, config_, entry.second, where);
        origins_[name] = where;
      });
    }
  }
  faults.check(origin);
}

void ConfigBuilder::apply_file(const std::string& path) {
  std::ifstream file(path);
  MB_CHECK(file && !std::filesystem::is_directory(path),
           "{}: the configuration file can't be read. Check the path given to --config.", path);
  std::ostringstream text;
  text << file.rdbuf();
  apply_toml(text.str(), path);
}

void ConfigBuilder::apply_environment(const char* const* environment) {
  std::vector<std::string> names;  // without the prefix, which would make all of them near
  for (const ConfigKey& key : config_keys())
    names.push_back(key.environment().substr(kEnvironmentPrefix.size()));
  const auto apply = [&](const std::string& name, const std::string& value) {
    const std::string full_name = std::string(kEnvironmentPrefix) + name;
    if (name == "PHASE") {
      for (const std::string& part : split_commas(value)) apply_phase_text(part, full_name);
      return;
    }
    const auto found = std::find(names.begin(), names.end(), name);
    if (found != names.end())
      return apply_text(config_keys()[static_cast<size_t>(found - names.begin())], value,
                        full_name);
    MB_CHECK(is_foreign_variable(name),
             "environment: {} is unknown, expected a setting's name (`minibert train --help` lists "
             "them).{} Unset it, or correct its name.",
             full_name, variable_meant(name, names));
  };
  SettingFaults faults;
  for (const char* const* entry = environment; *entry; ++entry) {
    const std::string text(*entry);
    const size_t equals = text.find('='), prefix = kEnvironmentPrefix.size();
    if (text.rfind(kEnvironmentPrefix, 0) != 0 || equals == std::string::npos) continue;
    faults.collect([&] { apply(text.substr(prefix, equals - prefix), text.substr(equals + 1)); });
  }
  faults.check("environment");
}

void ConfigBuilder::apply_text(const ConfigKey& key, const std::string& text,
                               const std::string& origin) {
  set_from_text(key, config_, text, origin);
  origins_[key.name()] = origin;
}

void ConfigBuilder::apply_phase_text(const std::string& text, const std::string& origin) {
  const size_t equals = text.find('='), dot = text.substr(0, equals).rfind('.');
  MB_CHECK(equals != text.npos && dot != text.npos,
           "{}: \"{}\" is no setting of a phase, expected PHASE.KEY=VALUE, such as 2.data=DIR",
           origin, text);
  const size_t phase = find_phase(config_, text.substr(0, dot), origin);
  const std::string name = text.substr(dot + 1, equals - dot - 1);
  const ConfigKey& key = find_phase_key(name, origin + ": key " + text.substr(0, equals));
  TrainConfig scratch;
  set_from_text(key, scratch, text.substr(equals + 1), origin);
  set(phase, key.name(), value_of(key, scratch), origin);
}

void ConfigBuilder::apply_list(const ConfigKey& key, std::vector<std::string> values,
                               const std::string& origin) {
  MB_ASSERT(key.is_list(), "{} is no list", key.name());
  config_.*std::get<std::vector<std::string> TrainConfig::*>(key.member) = std::move(values);
  origins_[key.name()] = origin;
}

void ConfigBuilder::apply_recipe(const std::string& name) {
  apply_toml(find_recipe(name).toml, "recipe " + name);
  recipe_ = name;
  recipe_layer_ = {config_, origins_};
}

void ConfigBuilder::finish() {
  check_flags_reach_a_phase();
  if (config_.phases.empty()) scale(std::nullopt);
  for (size_t phase = 0; phase < config_.phases.size(); ++phase) scale(phase);
}

/// A flag for a setting that every phase has of its own would change nothing.
void ConfigBuilder::check_flags_reach_a_phase() const {
  for (const auto& [name, origin] : origins_) {
    const bool given = origin.rfind("--", 0) == 0 || origin.rfind(kEnvironmentPrefix, 0) == 0;
    const bool own =
        !config_.phases.empty() &&
        std::ranges::all_of(config_.phases, [&name = name](const PhaseSettings& phase) {
          return phase.entries.count(name) > 0;
        });
    const std::string key = config_key(name).key;
    MB_CHECK(!given || !own,
             "{}: sets {}, but each phase has its own. Set that of a phase: --phase 1.{}=VALUE.",
             origin, name, key);
  }
}

const std::string& ConfigBuilder::origin(const std::string& name) const {
  static const std::string by_default = "default";
  const auto found = origins_.find(name);
  return found == origins_.end() ? by_default : found->second;
}

const std::string& ConfigBuilder::origin(std::optional<size_t> phase,
                                         const std::string& name) const {
  if (!phase) return origin(name);
  const auto& entries = config_.phases[*phase].entries;
  const auto found = entries.find(name);
  return found == entries.end() ? origin(name) : found->second.origin;
}

ConfigValue ConfigBuilder::value(std::optional<size_t> phase, const std::string& name) const {
  if (phase) {
    const auto& entries = config_.phases[*phase].entries;
    const auto found = entries.find(name);
    if (found != entries.end()) return found->second.value;
  }
  return value_of(config_key(name), config_);
}

void ConfigBuilder::set(std::optional<size_t> phase, const std::string& name,
                        const ConfigValue& value, const std::string& origin) {
  if (phase) {
    config_.phases[*phase].entries[name] = {value, origin};
    return;
  }
  set_value(config_key(name), config_, value);
  origins_[name] = origin;
}

namespace {

std::string toml_line(const ConfigKey& key, const TrainConfig& config, const std::string& origin) {
  const std::string line = fmt::format("{} = {}", key.key, toml_text(key, config));
  return fmt::format("{:<40}  # {}\n", line, origin);
}

}  // namespace

std::string ConfigBuilder::to_toml() const {
  std::string text = fmt::format("format_version = {}\n", kConfigFormatVersion);
  std::string section;
  for (const ConfigKey& key : config_keys()) {
    if (key.section != section) text += fmt::format("\n[{}]\n", key.section);
    section = key.section;
    text += toml_line(key, config_, origin(key.name()));
  }
  for (size_t phase = 0; phase < config_.phases.size(); ++phase) {
    text += "\n[[phase]]\n";
    const TrainConfig settings = phase_config(config_, phase);
    for (const ConfigKey& key : phase_keys())
      if (config_.phases[phase].entries.count(key.name()))
        text += toml_line(key, settings, origin(phase, key.name()));
  }
  return text;
}

}  // namespace minibert
