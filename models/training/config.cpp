// config.cpp: settings from TOML, environment and flags, and back to TOML.
#include "models/training/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/nearest_name.h"
#include "core/precision.h"
#include "models/training/phases.h"
#include "models/training/recipes.h"
#include "models/training/run_setup.h"
#include "models/training/setting_faults.h"
#include "models/training/toml_text.h"

namespace minibert {
namespace {

constexpr std::string_view kEnvironmentPrefix = "MINIBERT_";
constexpr const char* kAuto = "auto";  // a number that something else decides

std::string flag_form(std::string key, char separator) {
  std::replace(key.begin(), key.end(), '_', separator);
  return key;
}

const ConfigKey* find_key(std::string_view name) {
  for (const ConfigKey& key : config_keys())
    if (key.name() == name) return &key;
  return nullptr;
}

std::string range_text(const ConfigKey& key) {
  if (std::isinf(key.high)) return fmt::format("at least {}", key.low);
  return fmt::format("{} to {}", key.low, key.high);
}

void check_range(const ConfigKey& key, double value, const std::string& origin) {
  MB_CHECK(value >= key.low && value <= key.high && std::isfinite(value),
           "{}: {} is {}, expected {} ({}). Change it there.", origin, key.name(), value,
           range_text(key), key.help);
}

void check_choice(const ConfigKey& key, const std::string& value, const std::string& origin) {
  if (key.choices.empty() || std::count(key.choices.begin(), key.choices.end(), value)) return;
  fail<UsageError>("{}: {} is \"{}\", expected one of: {}.{}", origin, key.name(), value,
                   fmt::join(key.choices, ", "), did_you_mean(value, key.choices));
}

int64_t parse_integer(const ConfigKey& key, const std::string& text, const std::string& origin) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  MB_CHECK(error == std::errc() && stop == end && !text.empty(),
           "{}: {} is \"{}\", expected an integer, {} ({})", origin, key.name(), text,
           range_text(key), key.help);
  return value;
}

double parse_double(const ConfigKey& key, const std::string& text, const std::string& origin) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  MB_CHECK(error == std::errc() && stop == end && !text.empty(),
           "{}: {} is \"{}\", expected a number, {} ({})", origin, key.name(), text,
           range_text(key), key.help);
  return value;
}

bool parse_bool(const ConfigKey& key, const std::string& text, const std::string& origin) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  fail<UsageError>("{}: {} is \"{}\", expected true or false ({})", origin, key.name(), text,
                   key.help);
}

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

/// A value as text, put into `config`.
struct TextSetter {
  TrainConfig& config;
  const ConfigKey& key;
  const std::string &text, &origin;

  void operator()(std::string TrainConfig::*member) const {
    check_choice(key, text, origin);
    config.*member = text;
  }
  void operator()(int64_t TrainConfig::*member) const {
    const int64_t value = parse_integer(key, text, origin);
    check_range(key, static_cast<double>(value), origin);
    config.*member = value;
  }
  void operator()(double TrainConfig::*member) const {
    const double value = parse_double(key, text, origin);
    check_range(key, value, origin);
    config.*member = value;
  }
  void operator()(std::optional<double> TrainConfig::*member) const {
    (config.*member).reset();
    if (text == kAuto) return;
    config.*member = parse_double(key, text, origin);
    check_range(key, *(config.*member), origin);
  }
  void operator()(bool TrainConfig::*member) const {
    config.*member = parse_bool(key, text, origin);
  }
  void operator()(std::vector<std::string> TrainConfig::*member) const {
    config.*member = split_commas(text);
  }
};

[[noreturn]] void wrong_type(const ConfigKey& key, const char* wanted, const std::string& origin) {
  fail<UsageError>("{}: {} has another type, expected {} ({})", origin, key.name(), wanted,
                   key.help);
}

/// A TOML value of the key's type, put into `config`.
struct TomlSetter {
  TrainConfig& config;
  const ConfigKey& key;
  const toml::node& node;
  const std::string& origin;

  void operator()(std::string TrainConfig::*member) const {
    if (!node.is_string()) wrong_type(key, "a string", origin);
    config.*member = *node.value<std::string>();
    check_choice(key, config.*member, origin);
  }
  void operator()(int64_t TrainConfig::*member) const {
    if (!node.is_integer()) wrong_type(key, "an integer", origin);
    check_range(key, static_cast<double>(*node.value<int64_t>()), origin);
    config.*member = *node.value<int64_t>();
  }
  void operator()(double TrainConfig::*member) const {
    if (!node.is_number()) wrong_type(key, "a number", origin);
    const auto value = node.value<double>();
    MB_CHECK(value,
             "{}: {} is an integer beyond 2^53, expected {} ({}). Write it with a decimal point.",
             origin, key.name(), range_text(key), key.help);
    check_range(key, *value, origin);
    config.*member = *value;
  }
  void operator()(std::optional<double> TrainConfig::*member) const {
    (config.*member).reset();
    if (node.is_string() && *node.value<std::string>() == kAuto) return;
    if (!node.is_number()) wrong_type(key, "a number or \"auto\"", origin);
    config.*member = node.value<double>().value_or(INFINITY);
    check_range(key, *(config.*member), origin);
  }
  void operator()(bool TrainConfig::*member) const {
    if (!node.is_boolean()) wrong_type(key, "true or false", origin);
    config.*member = *node.value<bool>();
  }
  void operator()(std::vector<std::string> TrainConfig::*member) const {
    const toml::array* array = node.as_array();
    if (!array) wrong_type(key, "a list of strings", origin);
    std::vector<std::string> values;
    for (const toml::node& element : *array) {
      if (!element.is_string()) wrong_type(key, "a list of strings", origin);
      values.push_back(*element.value<std::string>());
    }
    config.*member = values;
  }
};

/// The table's entries as settings of one phase.
PhaseSettings read_phase(const toml::table& table, const std::string& origin,
                         SettingFaults& faults) {
  PhaseSettings phase;
  for (const auto& entry : table) {
    faults.collect([&] {
      const std::string name(entry.first.str()), where = toml_place(origin, entry.second);
      const ConfigKey& found = find_phase_key(name, where + ": key phase." + name);
      TrainConfig scratch;
      std::visit(TomlSetter{scratch, found, entry.second, where}, found.member);
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

std::string quoted(const std::string& text) {
  std::ostringstream stream;
  stream << toml::value<std::string>(text);
  return stream.str();
}

/// A setting as TOML text.
struct TomlText {
  const TrainConfig& config;
  std::string operator()(std::string TrainConfig::*member) const { return quoted(config.*member); }
  std::string operator()(int64_t TrainConfig::*member) const {
    return fmt::format("{}", config.*member);
  }
  std::string operator()(double TrainConfig::*member) const {
    return fmt::format("{}", config.*member);
  }
  std::string operator()(std::optional<double> TrainConfig::*member) const {
    return config.*member ? fmt::format("{}", *(config.*member)) : quoted(kAuto);
  }
  std::string operator()(bool TrainConfig::*member) const {
    return config.*member ? "true" : "false";
  }
  std::string operator()(std::vector<std::string> TrainConfig::*member) const {
    std::vector<std::string> parts;
    for (const std::string& value : config.*member) parts.push_back(quoted(value));
    return fmt::format("[{}]", fmt::join(parts, ", "));
  }
};

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
        std::visit(TomlSetter{config_, *found, entry.second, where}, found->member);
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
  std::visit(TextSetter{config_, key, text, origin}, key.member);
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
  std::visit(TextSetter{scratch, key, text.substr(equals + 1), origin}, key.member);
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

std::string toml_text(const ConfigKey& key, const TrainConfig& config) {
  return std::visit(TomlText{config}, key.member);
}

ConfigValue value_of(const ConfigKey& key, const TrainConfig& config) {
  return std::visit([&](auto member) { return ConfigValue(config.*member); }, key.member);
}

void set_value(const ConfigKey& key, TrainConfig& config, const ConfigValue& value) {
  std::visit(
      [&](auto member) {
        config.*member = std::get<std::remove_cvref_t<decltype(config.*member)>>(value);
      },
      key.member);
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

int64_t accumulation_steps(const TrainConfig& config) {
  const int64_t micro = config.micro_batch_size, global = config.global_batch_size;
  const int64_t nearest = std::max<int64_t>(1, (global + micro / 2) / micro) * micro;
  MB_CHECK(global % micro == 0,
           "{}train.global_batch_size is {}, expected a multiple of train.micro_batch_size = {} (a "
           "step is a whole number of micro-batches). Use {} or another --micro-batch-size.",
           phase_prefix(config), global, micro,
           flag_text(config, "global_batch_size", std::to_string(nearest)));
  return global / micro;
}

std::vector<std::pair<std::string, std::string>> evaluation_sets(const TrainConfig& config) {
  std::vector<std::pair<std::string, std::string>> sets;
  std::set<std::string> names;
  for (const std::string& text : config.evaluation_data) {
    const size_t equals = text.find('=');
    std::string path = equals == std::string::npos ? text : text.substr(equals + 1);
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const std::string name = equals == std::string::npos
                                 ? std::filesystem::path(path).filename().string()
                                 : text.substr(0, equals);
    MB_CHECK(!name.empty() && name.find_first_of("\"\\") == std::string::npos,
             "data.evaluation_data: \"{}\" gives the set no usable name. Name it: "
             "--evaluation-data NAME=PATH.",
             text);
    MB_CHECK(names.insert(name).second,
             "data.evaluation_data: the name \"{}\" is given twice. Name the sets: "
             "--evaluation-data NAME=PATH.",
             name);
    sets.emplace_back(name, path);
  }
  return sets;
}

bool scales_loss(const TrainConfig& config) {
  return config.loss_scaling == "on" ||
         (config.loss_scaling == "auto" && config.precision == "fp16");
}

namespace {

/// What device cuda alone has.
void check_device_cuda(const TrainConfig& config) {
  const Device device = parse_device(config.device);
  check_gemm_cuda_backend(parse_gemm_cuda_backend(config.gemm), device, "train.");
  if (!config.graph) return;
  MB_CHECK(device == Device::cuda,
           "train.graph is on, but train.device is {}, expected cuda: a graph is CUDA's. Leave "
           "--graph out, or use --device cuda.",
           config.device);
  MB_CHECK(config.fixed_shapes,
           "train.graph is on, but train.fixed_shapes is off, expected on: a graph repeats one "
           "shape. Add --fixed-shapes, or leave --graph out.");
}

void check_loss_scale(const TrainConfig& config) {
  const bool can_overflow = config.precision == "fp16" || config.precision == "bf16";
  MB_CHECK(config.loss_scaling != "on" || can_overflow,
           "scale.loss_scaling is on, but train.precision is {}, expected fp16 or bf16 (gradients "
           "in f32 need no scale). Leave --loss-scaling out, or use --precision fp16.",
           config.precision);
  if (!scales_loss(config)) {
    const TrainConfig defaults;
    for (const ConfigKey& key : config_keys()) {
      if (key.section != "scale" || key.key == "loss_scaling") continue;
      const bool changed =
          std::visit([&](auto member) { return config.*member != defaults.*member; }, key.member);
      MB_CHECK(!changed,
               "{} is set, but the loss is not scaled (train.precision {}, scale.loss_scaling {}). "
               "Leave {} out, or use --precision fp16.",
               key.name(), config.precision, config.loss_scaling, key.flag());
    }
  }
  MB_CHECK(config.loss_scale >= config.loss_scale_floor,
           "scale.loss_scale is {}, expected at least scale.loss_scale_floor = {}. Use a smaller "
           "--loss-scale-floor.",
           config.loss_scale, config.loss_scale_floor);
}

void check_optimizer(const TrainConfig& config) {
  const OptimizerOptions o = optimizer_options(config);
  policies_in_force(optimizer_variant(o.name), o.knobs, o.eps, o.max_grad_norm);
}

void check_reduce_precision(const TrainConfig& config) {
  MB_CHECK(!config.deterministic || config.reduce_precision == "fp32",
           "ranks.reduce_precision is {}, expected fp32 with train.deterministic (a sum of rounded "
           "parts depends on the number of ranks). Use one of both.",
           config.reduce_precision);
}

void check_run_of_phases(const TrainConfig& config, bool data_at_hand) {
  const std::vector<Phase> phases = phases_of(config);
  check_phases(phases, data_at_hand);
  MB_CHECK(config.stop_after <= total_steps(phases),
           "train.stop_after is {}, expected at most {} = {}", config.stop_after,
           config.phases.empty() ? "train.max_steps" : "the steps of all phases",
           total_steps(phases));
}

void collect_together(const TrainConfig& config, bool data_at_hand, SettingFaults& faults) {
  faults.collect([&] { check_device_cuda(config); });
  faults.collect([&] { check_loss_scale(config); });
  faults.collect([&] { check_optimizer(config); });
  faults.collect([&] { check_reduce_precision(config); });
  faults.collect([&] { check_run_of_phases(config, data_at_hand); });
}

}  // namespace

void validate(const TrainConfig& config) {
  SettingFaults faults;
  faults.collect(
      [&] { check_precision(parse_precision(config.precision), parse_device(config.device)); });
  collect_together(config, /* data_at_hand= */ true, faults);
  faults.collect([&] {
    MB_CHECK(
        !config.output_dir.empty(),
        "checkpoint.output_dir is empty, expected the run's folder. Give it with --output-dir.");
  });
  faults.check("settings");
}

void check_together(const TrainConfig& config, bool data_at_hand) {
  SettingFaults faults;
  collect_together(config, data_at_hand, faults);
  faults.check("settings");
}

}  // namespace minibert
