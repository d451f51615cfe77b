// plan_published.cpp: a fit and a table.
#include "models/training/plan_published.h"

#include <algorithm>

#include "core/error.h"
#include "core/nearest_name.h"
#include "models/training/run_plan.h"
#include "models/training/run_setup.h"

namespace minibert {
namespace {

void check_has_runs(const Cluster& cluster) {
  MB_CHECK(!cluster.published.recipes.empty(),
           "cluster {}: it has no published runs, expected a section [published]. `minibert plan "
           "--print-cluster tpu-v3` prints one.",
           cluster.name);
}

}  // namespace

std::vector<PhaseWork> recipe_work(const Cluster& cluster, const std::string& recipe,
                                   bool overlaps) {
  std::vector<PhaseWork> phases;
  for (const Phase& phase : phases_of(recipe_config(recipe))) {
    const TrainConfig& c = phase.config;
    const BertConfig model = model_shape(c, BertConfig().vocab_size);
    const auto parameters = static_cast<double>(bert_parameters(model).parameters());
    const StepPlan step =
        mean_step(phase, nullptr, c.sequence_length, masked_of_full(c.sequence_length));
    const double bytes = parameters * static_cast<double>(cluster.published.gradient_bytes);
    const double bucket = static_cast<double>(cluster.published.gradient_bytes) / 4 *
                          static_cast<double>(TrainConfig().bucket_megabytes << 20);
    const OptimizerPolicies& policies = optimizer_variant(c.optimizer).policies;
    phases.push_back(
        {{.sequence_flops = usual_step_flops(model, {}, step) / static_cast<double>(step.sequences),
          .global_batch_size = c.global_batch_size,
          .micro_batch_size = c.micro_batch_size,
          .gradient_bytes = bytes,
          .bucket_bytes = overlaps ? bucket : bytes,
          .update_bytes = parameters * update_bytes_a_weight(policies, /* working= */ 2)},
         phase.steps});
  }
  return phases;
}

PublishedFit fit_published(const Cluster& cluster) {
  check_has_runs(cluster);
  const PublishedRun fitted = find_run(cluster, cluster.published.fit);
  PublishedFit fit;
  fit.share = fitted_share(cluster, recipe_work(cluster, fitted.recipe, /* overlaps= */ false),
                           fitted.devices, 3600 * fitted.hours);
  for (const std::string& recipe : cluster.published.recipes) {
    PublishedRow row{.run = find_run(cluster, recipe)};
    const std::vector<PhaseWork> phases = recipe_work(cluster, recipe, /* overlaps= */ false);
    double exposed = 0;
    for (const PhaseWork& phase : phases) {
      const auto steps = static_cast<double>(phase.steps);
      row.steps += phase.steps;
      row.flops +=
          steps * static_cast<double>(phase.work.global_batch_size) * phase.work.sequence_flops;
      exposed += steps * step_time(cluster, phase.work, row.run.devices, fit.share).exposed;
    }
    const double seconds = run_seconds(cluster, phases, row.run.devices, fit.share);
    row.predicted_minutes = seconds / 60;
    row.exposed_share = exposed / seconds;
    fit.rows.push_back(row);
  }
  return fit;
}

PublishedRun find_run(const Cluster& cluster, const std::string& recipe) {
  check_has_runs(cluster);
  const std::vector<std::string>& recipes = cluster.published.recipes;
  const std::string& name = recipe.empty() ? recipes.back() : recipe;
  const bool known = std::ranges::find(recipes, name) != recipes.end();
  MB_CHECK(known, "cluster {}: there is no published run of recipe \"{}\", expected one of: {}.{}",
           cluster.name, name, fmt::join(recipes, ", "), did_you_mean(name, recipes));
  return *published_run(name);
}

}  // namespace minibert
