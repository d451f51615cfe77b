// plan_published.h: recipes that were published with their times (published.h, cluster.h), against the
// model of plan_time.h: one figure, the share of the peak, is fitted on one run, and the others are
// predicted. Called by the verb `plan`. Easy to break: a fit hides what the model leaves out in
// that one share, so the errors of the other rows are what it is worth. Test: ctest -R plan_time.
#pragma once

#include <string>
#include <vector>

#include "models/training/plan_time.h"
#include "models/training/published.h"

namespace minibert {

struct PublishedRow {
  PublishedRun run;
  int64_t steps = 0;
  double flops = 0;  // as usually counted
  double predicted_minutes = 0;
  double exposed_share = 0;  // of the predicted time
  double published_minutes() const { return 60 * run.hours; }
  double error() const { return predicted_minutes / published_minutes() - 1; }
};

struct PublishedFit {
  double share = 0;  // of the peak
  std::vector<PublishedRow> rows;
};

/// Phases of a recipe as work: full sequences. `overlaps`: sums begin behind the last backward, bucket
/// by bucket, as ours do; else after it. Errors: UsageError for an unknown recipe.
std::vector<PhaseWork> recipe_work(const Cluster& cluster, const std::string& recipe,
                                   bool overlaps);

/// Errors: UsageError if the cluster has no published runs; as fitted_share().
PublishedFit fit_published(const Cluster& cluster);

/// A published run by its recipe; "": the cluster's last. Errors: UsageError naming the nearest.
PublishedRun find_run(const Cluster& cluster, const std::string& recipe);

}  // namespace minibert
