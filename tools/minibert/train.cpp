// train.cpp: `minibert train`: merges flags, environment and files into one configuration and calls
// models/training. Every flag is in the table in models/training/config_keys.cpp.
// Try: minibert train --help; minibert train --list-recipes. Test: ctest -R train_verb.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <unistd.h>

#include "dist/launch.h"
#include "dist/spawn.h"
#include "models/training/config.h"
#include "models/training/recipes.h"
#include "models/training/resume.h"
#include "models/training/run_setup.h"
#include "models/training/trainer.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

constexpr int kSavedAfterSignal = 75;  // EX_TEMPFAIL: a scheduler should start it again

struct TrainFlags {
  std::string config_file, recipe;
  bool list_recipes = false, print_config = false, dry_run = false, json = false;
  int ranks = 0;                              // --nproc; 0: not given
  std::map<std::string, std::string> values;  // by key name; a switch is "true" or "false"
  std::map<std::string, std::vector<std::string>> lists;  // by key name
};

/// One line of help: meaning, choices, environment variable.
std::string help_of(const ConfigKey& key) {
  std::string text = key.help;
  if (!key.choices.empty()) text += fmt::format(" ({})", fmt::join(key.choices, "|"));
  return fmt::format("{} [{}]", text, key.environment());
}

void add_key(CLI::App& verb, const ConfigKey& key, const std::shared_ptr<TrainFlags>& flags) {
  CLI::Option* option = nullptr;
  const std::string name = key.name();
  if (key.is_switch()) {
    const std::string off = "--no-" + key.flag().substr(2);
    option = verb.add_flag_callback(
        key.flag(), [flags, name] { flags->values[name] = "true"; }, help_of(key));
    verb.add_flag_callback(
            off, [flags, name] { flags->values[name] = "false"; }, "Switch that off")
        ->group("Section " + key.section);
  } else if (key.is_list()) {
    option = verb.add_option(key.flag(), flags->lists[name], help_of(key))->allow_extra_args(false);
  } else {
    option = verb.add_option(key.flag(), flags->values[name], help_of(key));
  }
  option->group("Section " + key.section);
}

ConfigBuilder resolve(const TrainFlags& flags, const CLI::App& verb) {
  ConfigBuilder builder;
  if (!flags.recipe.empty())
    builder.apply_toml(find_recipe(flags.recipe).toml, "recipe " + flags.recipe);
  if (!flags.config_file.empty()) builder.apply_file(flags.config_file);
  builder.apply_environment(environ);
  for (const ConfigKey& key : config_keys()) {
    const bool given = key.is_switch() ? flags.values.count(key.name()) > 0
                                       : verb.get_option(key.flag())->count() > 0;
    if (!given) continue;
    if (key.is_list()) {
      builder.apply_list(key, flags.lists.at(key.name()), key.flag());
    } else {
      builder.apply_text(key, flags.values.at(key.name()), key.flag());
    }
  }
  return builder;
}

void print_recipes() {
  for (const Recipe& recipe : recipes()) fmt::print("{:<12} {}\n", recipe.name, describe(recipe));
}

void print_plan(const ConfigBuilder& builder) {
  const RunInputs inputs = open_inputs(builder.config());
  check_start(builder.config(), inputs);
  fmt::print("{}\n", builder.to_toml());
  for (const std::string& line : describe_plan(builder.config(), inputs)) fmt::print("{}\n", line);
}

/// Starts --nproc ranks of this command, or nothing if this process is a rank.
void start_ranks(const TrainFlags& flags, const TrainConfig& config, const Launch& launch,
                 const std::vector<std::string>& arguments) {
  if (flags.ranks == 0) return;
  MB_CHECK(
      launch.by.empty() || launch.world == flags.ranks,
      "--nproc is {}, expected {}, the number of ranks that {} has started. Leave out --nproc.",
      flags.ranks, launch.world, launch.by);
  if (!launch.by.empty() || flags.ranks == 1) return;
  const int code = spawn_ranks(
      {.ranks = flags.ranks,
       .command = arguments,
       .patience = 1.5 * config.communication_timeout + 30,
       .last_words = 10,
       .say = [](const std::string& line) { std::fputs((line + "\n").c_str(), stderr); }});
  throw CLI::RuntimeError(code);
}

void run_train(const TrainFlags& flags, const CLI::App& verb,
               const std::vector<std::string>& arguments) {
  if (flags.list_recipes) return print_recipes();
  const ConfigBuilder builder = resolve(flags, verb);
  if (flags.print_config) {
    fmt::print("{}", builder.to_toml());
    return;
  }
  if (flags.dry_run) return print_plan(builder);
  const Launch launch = launch_here();
  start_ranks(flags, builder.config(), launch, arguments);
  const TrainResult result =
      train({builder.config(), builder.to_toml(), arguments, environ, flags.json, launch});
  // A run survives its standard output: what was printed is also in its folder.
  if (std::ferror(stdout) && !std::freopen("/dev/null", "w", stdout)) std::clearerr(stdout);
  if (result.end == TrainEnd::signal) throw CLI::RuntimeError(kSavedAfterSignal);
}

/// The arguments of this process, as the system recorded them.
std::vector<std::string> own_arguments() {
  std::vector<std::string> arguments;
  std::FILE* file = std::fopen("/proc/self/cmdline", "rb");
  if (!file) return arguments;
  std::string argument;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    if (c != 0) {
      argument += static_cast<char>(c);
      continue;
    }
    arguments.push_back(argument);
    argument.clear();
  }
  std::fclose(file);
  return arguments;
}

}  // namespace

void add_train_verb(CLI::App& app) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* verb = app.add_subcommand(
      "train",
      "Pre-train BERT, from scratch or resumed. Settings: defaults < --recipe < --config < "
      "environment < flags");
  verb->add_option("--config", flags->config_file,
                   "TOML file with settings (--print-config shows one)");
  verb->add_option("--recipe", flags->recipe, "Built-in settings by name");
  verb->add_flag("--list-recipes", flags->list_recipes, "List the recipes and exit");
  verb->add_flag("--print-config", flags->print_config,
                 "Print the resolved settings as TOML and exit");
  verb->add_flag("--dry-run", flags->dry_run,
                 "Check settings and data, print the plan, write nothing");
  verb->add_option("--nproc", flags->ranks,
                   "Processes that share the work on this machine: they train the same run, faster")
      ->check(CLI::Range(1, 1024));
  verb->add_flag("--json", flags->json, "Print one JSON object per log line on standard output");
  for (const ConfigKey& key : config_keys()) add_key(*verb, key, flags);
  verb->callback([flags, verb] { run_train(*flags, *verb, own_arguments()); });
}

}  // namespace minibert
