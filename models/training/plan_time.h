// plan_time.h: what a step takes on a described cluster (cluster.h), piece by piece: a model, not a
// measurement. For R devices, a global batch of G sequences and m sequences a micro-batch:
//
//   compute   F ceil(G / R) / (share x peak)        F: FLOPs of a sequence, run_setup.h
//   backward  2/3 F m / (share x peak)              of the last micro-batch: only during it do
//                                                   gradients travel
//   wire      an all-reduce of n bytes in a ring inside a node, between nodes, inside again, with
//             L = devices of a node, N = R / L nodes, B = share of the links x their rates:
//             2 n (L - 1) / (L B_node) + 2 (n / L) (N - 1) / (N B_network) + hops x latency
//   exposed   max(last bucket, wire - backward)     last bucket: its gradients are final when backward
//                                                   ends
//   update    bytes of the optimizer / the memory's rate
//   step      compute + exposed + update
//
// Called by plan.h. Easy to break: `share` is of whole steps as somebody measured them, so it holds
// what kernels lose, and no communication. Test: ctest -R plan_time.
#pragma once

#include "models/training/cluster.h"
#include "optim/optimizer_policies.h"

namespace minibert {

/// What a step of one shape moves and computes.
struct StepWork {
  double sequence_flops = 0;                            // of one sequence, forward and backward
  int64_t global_batch_size = 0, micro_batch_size = 0;  // sequences
  double gradient_bytes = 0;                            // of all parameters, as they travel
  double bucket_bytes = 0;                              // of them, that travel at once
  double update_bytes = 0;                              // read and written by the optimizer
};

/// Seconds.
struct StepTime {
  double compute = 0, backward = 0, wire = 0, bucket = 0, exposed = 0, update = 0;
  double latency = 0;  // part of wire
  double step() const { return compute + exposed + update; }
  /// Of a device's time, that it computes: against one with the same share of the work and no others.
  double scaling() const { return (compute + update) / step(); }
};

/// `share` of the peak: the cluster's attained_share, unless the caller fitted one.
StepTime step_time(const Cluster& cluster, const StepWork& work, int64_t devices, double share);

/// Seconds of an all-reduce of `bytes`; `latency`, if given, becomes the part that hops take.
double all_reduce_seconds(const Cluster& cluster, double bytes, int64_t devices,
                          double* latency = nullptr);

/// Bytes that the optimizer reads and writes a weight, as its chapter's costs say
/// (core/kernels/optimizer.h); `working`: bytes of a working copy's element, 0 without one.
double update_bytes_a_weight(const OptimizerPolicies& policies, int64_t working);

/// A run's steps one phase after the other.
struct PhaseWork {
  StepWork work;
  int64_t steps = 0;
};
double run_seconds(const Cluster& cluster, const std::vector<PhaseWork>& phases, int64_t devices,
                   double share);

/// The share of the peak with which the run takes `seconds`. Errors: UsageError if there is none up to
/// 1: what is exposed and the updates alone take longer, or the peak is too low.
double fitted_share(const Cluster& cluster, const std::vector<PhaseWork>& phases, int64_t devices,
                    double seconds);

/// Fewest devices, in whole nodes, with which the run takes at most `seconds`; 0 if no number does.
int64_t devices_for(const Cluster& cluster, const std::vector<PhaseWork>& phases, double seconds,
                    double share);

}  // namespace minibert
