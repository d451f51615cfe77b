// train_flags.cpp: flags from the table of settings, and settings from the flags.
#include "tools/minibert/train_flags.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <unistd.h>

#include "core/error.h"
#include "models/bert/hugging_face.h"
#include "models/training/recipes.h"
#include "models/training/setting_faults.h"

namespace minibert {
namespace {

/// One line of help: meaning, choices, environment variable.
std::string help_of(const ConfigKey& key) {
  std::string text = key.help;
  if (!key.choices.empty()) text += fmt::format(" ({})", fmt::join(key.choices, "|"));
  return fmt::format("{} [{}]", text, key.environment());
}

}  // namespace

void TrainFlags::add_to(CLI::App& verb) {
  verb_ = &verb;
  verb.add_option("--config", config_file_,
                  "TOML file with settings (`minibert train --print-config` shows one)");
  if (restriction_.recipe.empty()) {
    verb.add_option("--recipe", recipe_, "Built-in settings by name");
    add_phase_option(verb);
  }
  for (const ConfigKey& key : config_keys())
    if (!is_fixed(key)) add_key(key);
}

void TrainFlags::add_phase_option(CLI::App& verb) {
  std::vector<std::string> keys;
  for (const ConfigKey& key : phase_keys()) keys.push_back(key.key);
  verb.add_option(
          "--phase", phase_settings_,
          fmt::format("A setting of one [[phase]], PHASE.KEY=VALUE, such as 2.data=DIR; may be "
                      "given several times. PHASE is its number, from 1, or its name; KEY is "
                      "one of {} [MINIBERT_PHASE]",
                      fmt::join(keys, ", ")))
      ->allow_extra_args(false);
}

bool TrainFlags::is_fixed(const ConfigKey& key) const {
  return std::ranges::find(restriction_.fixed, key.name()) != restriction_.fixed.end();
}

void TrainFlags::add_key(const ConfigKey& key) {
  CLI::Option* option = nullptr;
  const std::string name = key.name();
  if (key.is_switch()) {
    const std::string off = "--no-" + key.flag().substr(2);
    option = verb_->add_flag_callback(
        key.flag(), [this, name] { values_[name] = "true"; }, help_of(key));
    verb_
        ->add_flag_callback(
            off, [this, name] { values_[name] = "false"; }, "Switch that off")
        ->group("Section " + key.section);
  } else if (key.is_list()) {
    option = verb_->add_option(key.flag(), lists_[name], help_of(key))->allow_extra_args(false);
  } else {
    option = verb_->add_option(key.flag(), values_[name], help_of(key));
  }
  option->group("Section " + key.section);
}

namespace {

/// A model that training starts from keeps its dropout, as Transformers' from_pretrained does,
/// where no setting says another.
void take_dropout(ConfigBuilder& builder) {
  const std::filesystem::path file =
      std::filesystem::path(builder.config().init_from) / "config.json";
  std::error_code ignored;
  if (builder.config().init_from.empty() || !std::filesystem::exists(file, ignored)) return;
  const BertConfig model = load_hugging_face_config(builder.config().init_from);
  for (const auto& [name, value] :
       {std::pair("model.hidden_dropout", model.hidden_dropout_prob),
        std::pair("model.attention_dropout", model.attention_probs_dropout_prob)})
    if (builder.origin(name) == "default")
      builder.apply_text(*std::ranges::find(config_keys(), name, &ConfigKey::name),
                         fmt::format("{}", value), file.string());
}

}  // namespace

ConfigBuilder TrainFlags::resolve() const {
  ConfigBuilder builder;
  if (!restriction_.recipe.empty()) builder.apply_toml(restriction_.recipe, restriction_.name);
  if (!recipe_.empty()) builder.apply_recipe(recipe_);
  if (!config_file_.empty()) builder.apply_file(config_file_);
  builder.apply_environment(environ);
  SettingFaults faults;
  for (const ConfigKey& key : config_keys()) faults.collect([&] { apply(key, builder); });
  for (const std::string& text : phase_settings_)
    faults.collect([&] { builder.apply_phase_text(text, "--phase"); });
  faults.check("flags");
  take_dropout(builder);
  builder.finish();
  return builder;
}

/// One setting's flag, if it was given.
void TrainFlags::apply(const ConfigKey& key, ConfigBuilder& builder) const {
  if (is_fixed(key)) {
    const std::string& origin = builder.origin(key.name());
    MB_CHECK(origin == "default" || origin.starts_with(restriction_.name + ":"),
             "{} is set ({}), but {} takes it from its model and task. Remove it.", key.name(),
             origin, restriction_.name);
    return;
  }
  const bool given =
      key.is_switch() ? values_.count(key.name()) > 0 : verb_->get_option(key.flag())->count() > 0;
  if (!given) return;
  if (key.is_list()) {
    builder.apply_list(key, lists_.at(key.name()), key.flag());
  } else {
    builder.apply_text(key, values_.at(key.name()), key.flag());
  }
}

}  // namespace minibert
