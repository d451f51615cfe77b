// train.cpp: `minibert train`: merges flags, environment and files into one configuration and calls
// models/training. Every flag is in the table in models/training/config_keys.cpp.
// Try: minibert train --help; minibert train --list-recipes;
// minibert train --list-optimizers. Test: ctest -R train_verb.
#include <algorithm>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "models/training/recipes.h"
#include "models/training/resume.h"
#include "models/training/run_plan.h"
#include "optim/optimizer_policies.h"
#include "tools/minibert/local_ranks.h"
#include "tools/minibert/training_verb.h"

namespace minibert {
namespace {

struct Options {
  TrainingVerb training;
  bool list_recipes = false, list_optimizers = false;
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
void print_plan(const ConfigBuilder& builder, int ranks, bool json) {
  const TrainConfig& config = builder.config();
  std::optional<RunInputs> inputs;
  std::vector<std::string> changed;
  if (!is_described(config)) {
    inputs = open_inputs(config);
    changed = check_start(config, *inputs);
  }
  const std::vector<PhasePlan> plan = plan_run(config, inputs ? &*inputs : nullptr);
  if (json) {
    fmt::print("{}\n", run_json(config, plan, builder.recipe(), inputs ? &*inputs : nullptr));
    return;
  }
  fmt::print("{}\n", builder.to_toml());
  if (inputs)
    for (const std::string& line : describe_plan(config, *inputs, ranks)) fmt::print("{}\n", line);
  for (const std::string& line : describe_run(config, plan, builder.recipe()))
    fmt::print("{}\n", line);
  if (inputs)
    for (const std::string& line : inputs->notes) fmt::print("note: {}\n", line);
  for (const std::string& line : changed) fmt::print("note: {}\n", line);
  if (!inputs)
    fmt::print(
        "no data are given: sequences count as full, and nothing is checked against data or "
        "output folder. Give {}\n",
        flag_text(phases_of(config).front().config, "data", "DIR"));
}

void run_train(const Options& options, const std::vector<std::string>& arguments) {
  if (options.list_recipes) return print_recipes();
  const TrainingVerb& flags = options.training;
  if (options.list_optimizers) return print_optimizers(flags.json);
  const ConfigBuilder builder = flags.resolve();
  if (flags.print_config) {
    fmt::print("{}", builder.to_toml());
    return;
  }
  if (flags.dry_run) return print_plan(builder, std::max({flags.ranks, flags.gpus, 1}), flags.json);
  const Launch launch = flags.start(builder, arguments);
  run_training({builder.config(), builder.to_toml(), arguments, environ, flags.json, launch});
}

}  // namespace

void add_train_verb(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "train",
      "Pre-train BERT, from scratch or resumed. Settings: defaults < --recipe < --config < "
      "environment < flags");
  options->training.add_to(
      *verb,
      "Check settings and data, print the plan (with --json as one object), write nothing; "
      "a recipe's plan needs no data");
  verb->add_flag("--list-recipes", options->list_recipes, "List the recipes and exit");
  verb->add_flag(
      "--list-optimizers", options->list_optimizers,
      "List the optimizers with formula, knobs and source, and exit (--json: a line each)");
  verb->callback([options] { run_train(*options, own_arguments()); });
}

}  // namespace minibert
