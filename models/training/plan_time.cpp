// plan_time.cpp: the formulas of the header, and their inverses by bisection.
#include "models/training/plan_time.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace minibert {
namespace {

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

double ring_share(int64_t members) {
  return 2.0 * static_cast<double>(members - 1) / static_cast<double>(members);
}

}  // namespace

double all_reduce_seconds(const Cluster& cluster, double bytes, int64_t devices, double* latency) {
  const int64_t local = std::min(devices, cluster.devices_a_node);
  const int64_t nodes = ceil_div(devices, cluster.devices_a_node);
  const auto hops = static_cast<double>(2 * (local - 1) + 2 * (nodes - 1));
  const double waits = hops * cluster.latency_seconds;
  if (latency) *latency = waits;
  // Between nodes: as many rings as a node has devices, each of its part of the bytes.
  return bytes * ring_share(local) / (cluster.link_share * cluster.node_bytes_per_second) +
         bytes / static_cast<double>(local) * ring_share(nodes) /
             (cluster.link_share * cluster.network_bytes_per_second) +
         waits;
}

StepTime step_time(const Cluster& cluster, const StepWork& work, int64_t devices, double share) {
  const double rate = share * cluster.peak_flops / work.sequence_flops;  // sequences/s of a device
  const int64_t own = ceil_div(work.global_batch_size, devices);
  StepTime time;
  time.compute = static_cast<double>(own) / rate;
  time.update = work.update_bytes / cluster.memory_bytes_per_second;
  if (devices == 1) return time;
  time.backward = 2.0 / 3 * static_cast<double>(std::min(work.micro_batch_size, own)) / rate;
  time.wire = all_reduce_seconds(cluster, work.gradient_bytes, devices, &time.latency);
  time.bucket =
      all_reduce_seconds(cluster, std::min(work.bucket_bytes, work.gradient_bytes), devices);
  time.exposed = std::max(time.bucket, time.wire - time.backward);
  return time;
}

double update_bytes_a_weight(const OptimizerPolicies& policies, int64_t working) {
  const bool two = moment_count(policies) == 2;
  const double square_sums = 4, norms = 8, moments = two ? 24 : 16, apply = two ? 16 : 12,
               step = two ? 28 : 20;
  double passes = step;
  if (policies.ratio_of == RatioOf::update) {
    passes = moments + apply + (policies.direction == Direction::lans ? 4 : 0);
  } else if (policies.ratio_of != RatioOf::none) {
    passes = norms + step;
  }
  return square_sums + passes + static_cast<double>(working);
}

double run_seconds(const Cluster& cluster, const std::vector<PhaseWork>& phases, int64_t devices,
                   double share) {
  double seconds = 0;
  for (const PhaseWork& phase : phases)
    seconds +=
        static_cast<double>(phase.steps) * step_time(cluster, phase.work, devices, share).step();
  return seconds;
}

double fitted_share(const Cluster& cluster, const std::vector<PhaseWork>& phases, int64_t devices,
                    double seconds) {
  const auto taken = [&](double share) { return run_seconds(cluster, phases, devices, share); };
  MB_CHECK(
      taken(1) <= seconds,
      "cluster {}: {:.1f} minutes are {} devices' time, expected at least the {:.1f} minutes that "
      "they take at their peak. Check its published figures.",
      cluster.name, seconds / 60, devices, taken(1) / 60);
  double low = 1e-9, high = 1;  // too slow, fast enough
  for (int i = 0; i < 100; ++i) {
    const double middle = std::sqrt(low * high);
    (taken(middle) <= seconds ? high : low) = middle;
  }
  return high;
}

int64_t devices_for(const Cluster& cluster, const std::vector<PhaseWork>& phases, double seconds,
                    double share) {
  int64_t most = 1;  // devices beyond the sequences of a step have nothing to do
  for (const PhaseWork& phase : phases) most = std::max(most, phase.work.global_batch_size);
  const auto enough = [&](int64_t devices) {
    return run_seconds(cluster, phases, devices, share) <= seconds;
  };
  for (int64_t devices = 1; devices < cluster.devices_a_node; ++devices)
    if (enough(devices)) return devices;
  for (int64_t nodes = 1; nodes * cluster.devices_a_node <= most; ++nodes)
    if (enough(nodes * cluster.devices_a_node)) return nodes * cluster.devices_a_node;
  return 0;
}

}  // namespace minibert
