// plan_memory.h: the memory that a run would take, by category, before it takes any: two training
// steps as a dry run (core/dry_run.h). The code that trains is the model: what an op saves, a kernel
// allocates or a rank keeps is counted where it is asked for. Called by plan.h, by describe_plan()
// (run_setup.h) and, when memory has run out, by trainer.cpp. Easy to break: a request describes
// micro-batches at their largest; real ones are ragged and take less.
// Test: ctest -R plan_memory (against steps that are computed); tools/bench/plan_memory compares the
// resident memory of whole runs.
#pragma once

#include <functional>

#include "models/bert/bert.h"
#include "models/training/train_step.h"
#include "optim/optimizer.h"

namespace minibert {

/// What decides a rank's memory.
struct MemoryRequest {
  BertConfig model;
  BertParts parts;
  ComputeOptions compute;
  OptimizerOptions optimizer;
  TrainStepOptions step;
  int64_t steps = 1;          // of the schedule, whose rates lie in a table
  BatchSizes micro_batch;     // each of the rank's
  int64_t micro_batches = 1;  // of the rank, in a step
  int ranks = 1;
  int threads = 0;  // 0: num_threads()
};

/// A micro-batch of full sequences, with the labels of `objective`. Of pre-training alone:
/// `masked`, the rows of each that are predicted, and `nsp`.
BatchSizes full_micro_batch(int64_t sequences, int64_t length, int64_t masked,
                            const BertConfig& model, bool nsp,
                            Objective objective = Objective::pre_training);

/// Bytes of one rank. In the device's memory, but for the last two, which lie in the host's.
struct MemoryPlan {
  int64_t weights = 0;          // f32 masters
  int64_t working_copy = 0;     // in the compute type, where that is not f32
  int64_t gradients = 0;        // f32; with ranks also their 16-bit copies, partial sums of a tree
  int64_t optimizer_state = 0;  // moments and tables: this rank's share, if they are sharded
  int64_t activations = 0;      // the most at one time
  int64_t workspace = 0;        // the most at one time: kernels' scratch, batches on the device
  int64_t loader = 0;           // batches on the host: the step's, and those that are loaded ahead
  int64_t snapshot = 0;         // of weights and moments on the host, while a checkpoint is written
  /// The most at one time on the device: less than the sum, since peaks do not meet.
  int64_t peak = 0;
  /// What the allocator holds in the end: freed blocks are kept, and on a GPU all are rounded up.
  int64_t reserved = 0;
  /// Bytes that a rank sends in a step (ring.h): the rank that sends the most.
  int64_t bytes_sent = 0;

  /// Of the host's memory, on device cpu everything; without process, libraries and snapshot.
  int64_t host(Device device) const { return loader + (device == Device::cpu ? reserved : 0); }
  /// The same of rank 0 while it writes a checkpoint.
  int64_t host_while_saving(Device device) const { return host(device) + snapshot; }
};

/// Errors: UsageError as the model's and the optimizer's.
MemoryPlan plan_memory(const MemoryRequest& request);

/// The most sequences of a micro-batch that fit: the largest n, up to `most`, with fits(n); 0 if 1 does
/// not fit. fits() must not become true again once it was false.
int64_t largest_fitting(int64_t most, const std::function<bool(int64_t)>& fits);

}  // namespace minibert
