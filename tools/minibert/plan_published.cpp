// plan_published.cpp: the part of `minibert plan` that reads published runs (--published): a fitted
// share of the peak and the error of every other run, or the devices of another cluster that one of
// them takes.
// Test: ctest -R plan_verb.
#include "tools/minibert/plan_published.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/training/plan_published.h"

namespace minibert {
namespace {

using Json = nlohmann::ordered_json;

Json print_fit(const PublishedOptions& o, const Cluster& cluster) {
  const PublishedFit fit = fit_published(cluster);
  Json rows = Json::array();
  if (!o.json) {
    fmt::print(
        "{}\nA model, not a measurement. One figure is fitted: {:.1f}% of the peak of {:.0f} "
        "TFLOP/s ({}), on the run {}; the others are predicted. Sums count after backward.\n",
        cluster.published.title, 100 * fit.share, cluster.peak_flops / 1e12, cluster.device_name,
        cluster.published.fit);
    fmt::print("{:<20} {:>7} {:>9} {:>10} {:>14} {:>14} {:>8} {:>14}\n", "recipe", "devices",
               "steps", "FLOP", "published min", "predicted min", "error", "waits for sums");
  }
  for (const PublishedRow& row : fit.rows) {
    if (!o.json)
      fmt::print("{:<20} {:>7} {:>9} {:>10.3g} {:>14.1f} {:>14.1f} {:>+7.1f}% {:>13.1f}%\n",
                 row.run.recipe, row.run.devices, row.steps, row.flops, row.published_minutes(),
                 row.predicted_minutes, 100 * row.error(), 100 * row.exposed_share);
    rows.push_back({{"recipe", row.run.recipe},
                    {"devices", row.run.devices},
                    {"steps", row.steps},
                    {"flops", row.flops},
                    {"published_minutes", row.published_minutes()},
                    {"predicted_minutes", row.predicted_minutes},
                    {"error", row.error()},
                    {"exposed_share", row.exposed_share}});
  }
  return {{"title", cluster.published.title}, {"share_of_peak", fit.share}, {"rows", rows}};
}

/// The published run on another cluster: how many of its devices do it in so many minutes.
Json print_devices(const PublishedOptions& o, const Cluster& from, const Cluster& to) {
  const PublishedRun run = find_run(from, o.run);
  const std::vector<PhaseWork> phases = recipe_work(from, run.recipe, /* overlaps= */ true);
  std::vector<double> within = o.within;
  if (within.empty()) within.push_back(60 * run.hours);
  Json rows = Json::array();
  if (!o.json) {
    fmt::print("{}, run {}, on {}: a model, not a measurement.\n", from.published.title, run.recipe,
               to.device_name);
    fmt::print(
        "A device computes at {:.0f}% of {:.0f} TFLOP/s; sums over {} a node at {:.0f} GB/s and "
        "between nodes at {:.0f} GB/s a device, {:.0f}% of which are reached (sources: minibert "
        "plan --print-cluster {}).\n",
        100 * to.attained_share, to.peak_flops / 1e12, to.devices_a_node,
        to.node_bytes_per_second / 1e9, to.network_bytes_per_second / 1e9, 100 * to.link_share,
        to.name);
    fmt::print("{:>11} {:>8} {:>14} {:>8}\n", "within min", "devices", "predicted min", "scaling");
  }
  for (const double minutes : within) {
    const int64_t devices = devices_for(to, phases, 60 * minutes, to.attained_share);
    MB_CHECK(
        devices > 0,
        "--within is {} minutes, expected more: no number of {}s takes so little for the run {}",
        minutes, to.device_name, run.recipe);
    const double predicted = run_seconds(to, phases, devices, to.attained_share) / 60;
    const double scaling = step_time(to, phases.front().work, devices, to.attained_share).scaling();
    if (!o.json)
      fmt::print("{:>11.1f} {:>8} {:>14.1f} {:>7.1f}%\n", minutes, devices, predicted,
                 100 * scaling);
    rows.push_back({{"within_minutes", minutes},
                    {"devices", devices},
                    {"predicted_minutes", predicted},
                    {"scaling", scaling}});
  }
  return {{"recipe", run.recipe},
          {"cluster", to.name},
          {"share_of_peak", to.attained_share},
          {"rows", rows}};
}

}  // namespace

void print_published(const PublishedOptions& o) {
  const Cluster from = find_cluster(o.published);
  const Json json = o.cluster.empty() || o.cluster == o.published
                        ? print_fit(o, from)
                        : print_devices(o, from, find_cluster(o.cluster));
  if (o.json) fmt::print("{}\n", json.dump());
}

}  // namespace minibert
