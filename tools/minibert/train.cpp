// train.cpp: `minibert train`: merges flags, environment and files into one configuration and calls
// models/training. Every flag is in the table in models/training/config_keys.cpp.
// Try: minibert train --help; minibert train --list-recipes;
// minibert train --list-optimizers. Test: ctest -R train_verb.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "dist/launch.h"
#include "models/training/config.h"
#include "models/training/recipes.h"
#include "models/training/resume.h"
#include "models/training/run_plan.h"
#include "models/training/run_setup.h"
#include "models/training/trainer.h"
#include "optim/optimizer_policies.h"
#include "tools/minibert/local_ranks.h"
#include "tools/minibert/train_flags.h"

namespace minibert {
namespace {

constexpr int kSavedAfterSignal = 75;  // EX_TEMPFAIL: a scheduler should start it again

struct Options {
  TrainFlags settings;
  bool list_recipes = false, list_optimizers = false, print_config = false, dry_run = false,
       json = false;
  int ranks = 0, gpus = 0;  // --nproc, --gpus; 0: not given
};

void print_recipes() {
  for (const Recipe& recipe : recipes()) fmt::print("{:<20} {}\n", recipe.name, describe(recipe));
  fmt::print("\n");
  for (const std::string& line : recipe_table()) fmt::print("{}\n", line);
}

std::string optimizer_text(const OptimizerVariant& row) {
  return fmt::format("{}: {}\n  {}\n  eps {:g}, {}\n  source: {}\n", row.name, row.summary,
                     row.formula, row.policies.eps, describe(row.policies), row.source);
}

std::string optimizer_json(const OptimizerVariant& row) {
  nlohmann::ordered_json knobs{{"epsilon", fmt::format("{:g}", row.policies.eps)}};
  for (const OptimizerKnob& knob : optimizer_knobs()) knobs[knob.key] = knob.value(row.policies);
  return nlohmann::ordered_json{{"name", row.name},       {"summary", row.summary},
                                {"formula", row.formula}, {"moments", moment_count(row.policies)},
                                {"knobs", knobs},         {"source", row.source}}
      .dump();
}

void print_optimizers(bool json) {
  for (const OptimizerVariant& row : optimizer_variants())
    fmt::print("{}\n", json ? optimizer_json(row) : optimizer_text(row));
  if (json) return;
  fmt::print("knobs (settings of [optim]; auto = as the optimizer has it):\n");
  for (const OptimizerKnob& knob : optimizer_knobs())
    fmt::print("  {:<20} {}\n", knob.key, knob.help);
}

/// What the settings and the data say, or the settings alone where they describe the data.
void print_plan(const ConfigBuilder& builder, bool json) {
  const TrainConfig& config = builder.config();
  std::optional<RunInputs> inputs;
  if (!is_described(config)) {
    inputs = open_inputs(config);
    check_start(config, *inputs);
  }
  const std::vector<PhasePlan> plan = plan_run(config, inputs ? &*inputs : nullptr);
  if (json) {
    fmt::print("{}\n", run_json(config, plan, builder.recipe()));
    return;
  }
  fmt::print("{}\n", builder.to_toml());
  if (inputs)
    for (const std::string& line : describe_plan(config, *inputs)) fmt::print("{}\n", line);
  for (const std::string& line : describe_run(config, plan, builder.recipe()))
    fmt::print("{}\n", line);
  if (!inputs)
    fmt::print(
        "no data are given: sequences count as full, and nothing is checked against data or "
        "output folder. Give {}\n",
        flag_text(phases_of(config).front().config, "data", "DIR"));
}

/// --gpus N is --nproc N with --device cuda.
void choose_gpus(int gpus, ConfigBuilder& builder) {
  if (gpus == 0) return;
  const ConfigKey& key = *std::ranges::find(config_keys(), "train.device", &ConfigKey::name);
  const std::string& device = builder.config().device;
  MB_CHECK(builder.origin(key.name()) != key.flag() || device == "cuda",
           "--gpus is {} with --device {}, expected cuda. Leave out one of them.", gpus, device);
  builder.apply_text(key, "cuda", "--gpus");
}

void run_train(const Options& options, const std::vector<std::string>& arguments) {
  if (options.list_recipes) return print_recipes();
  if (options.list_optimizers) return print_optimizers(options.json);
  ConfigBuilder builder = options.settings.resolve();
  choose_gpus(options.gpus, builder);
  if (options.print_config) {
    fmt::print("{}", builder.to_toml());
    return;
  }
  if (options.dry_run) return print_plan(builder, options.json);
  const Launch launch = launch_here();
  start_ranks(std::max(options.ranks, options.gpus), launch, arguments,
              1.5 * builder.config().communication_timeout + 30,
              options.gpus > 0 ? "--gpus" : "--nproc");
  const TrainResult result =
      train({builder.config(), builder.to_toml(), arguments, environ, options.json, launch});
  // A run survives its standard output: what was printed is also in its folder.
  if (std::ferror(stdout) && !std::freopen("/dev/null", "w", stdout)) std::clearerr(stdout);
  if (result.end == TrainEnd::signal) throw CLI::RuntimeError(kSavedAfterSignal);
}

}  // namespace

void add_train_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "train",
      "Pre-train BERT, from scratch or resumed. Settings: defaults < --recipe < --config < "
      "environment < flags");
  options->settings.add_to(*verb);
  verb->add_flag("--list-recipes", options->list_recipes, "List the recipes and exit");
  verb->add_flag(
      "--list-optimizers", options->list_optimizers,
      "List the optimizers with formula, knobs and source, and exit (--json: a line each)");
  verb->add_flag("--print-config", options->print_config,
                 "Print the resolved settings as TOML and exit");
  verb->add_flag(
      "--dry-run", options->dry_run,
      "Check settings and data, print the plan (with --json as one object), write nothing; "
      "a recipe's plan needs no data");
  verb->add_option("--nproc", options->ranks,
                   "Processes that share the work on this machine: they train the same run, faster")
      ->check(CLI::Range(1, 1024));
  verb->add_option("--gpus", options->gpus, "The same on as many GPUs: --nproc with --device cuda")
      ->check(CLI::Range(1, 1024))
      ->excludes("--nproc");
  verb->add_flag("--json", options->json, "Print one JSON object per log line on standard output");
  verb->callback([options] { run_train(*options, own_arguments()); });
}

}  // namespace minibert
