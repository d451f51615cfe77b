// train_step.h: one optimizer step: a global batch through the model, backward, the update. Driven by
// trainer.cpp, `bench step` and tests. Once queued, a step needs no answer from the host: its number,
// scales, counts and decisions lie in a StepState in the device's memory. So run() can capture it as
// a CUDA graph (core/device_graph.h): all but begin(), whose arguments differ from step to step, and
// the copies of the batches into the memory that the graph reads. Easy to break: a step changes
// weights in update() alone, so a step that is dropped before it leaves no trace; nothing in here may
// read a tensor on the host (test: NeedsNoAnswerFromTheHost). Test: ctest -R train_step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/device_graph.h"
#include "core/device_value.h"
#include "core/range.h"
#include "core/step_state.h"
#include "dist/process_group.h"
#include "models/bert/bert.h"
#include "models/text/loader.h"
#include "models/training/batch_uploads.h"
#include "models/training/communication.h"
#include "models/training/gradient_buckets.h"
#include "models/training/gradient_tree.h"
#include "models/training/weight_gather.h"
#include "optim/optimizer.h"

namespace minibert {

struct TrainStepOptions {
  uint64_t seed = 0;  // of dropout
  bool nsp = true;
  Objective objective = Objective::pre_training;  // others count the rows of `mlm`
  Recompute recompute = Recompute::none;
  /// run() captures the second of the steps whose batches have the same room and replays it from then
  /// on. Device cuda alone, and batches of fixed shapes: others are queued anew each time.
  bool graph = false;
  /// Gradients are summed in an order that does not depend on the number of ranks (gradient_tree.h).
  bool deterministic = false;
  int64_t bucket_bytes = 25 << 20;  // of gradients that are summed over ranks at once, in f32
  DType wire = DType::f32;          // in which gradients are summed over ranks: f32, bf16 or f16
  /// Each rank keeps and updates its share of the moments alone (shards.h). Needs several ranks.
  bool shard_optimizer = false;
};

class TrainStep {
 public:
  /// All must outlive the step. `ranks` null: there are no others. With shard_optimizer it shards the
  /// optimizer, whose moments must be final.
  /// Errors: UsageError for a graph with several ranks, and as GradientTree's.
  TrainStep(const BertForPreTraining& model, Optimizer& optimizer, const TrainStepOptions& options,
            ProcessGroup* ranks = nullptr);
  ~TrainStep();

  /// accumulate(), and the sum over ranks: update() then does the same on each of them. Ranks call
  /// it together. Before a rank's last micro-batch (if it has none: once, with 0) `drop` must answer
  /// the same on all; who gets a yes earlier drops the rest. Errors: as accumulate(); CommError.
  bool gradients(const GlobalStep& batch, int64_t data_step,
                 const std::function<bool(size_t micro_batch)>& drop = {});
  /// Queues forward and backward of the step's micro-batches on this rank; gradients add up over
  /// them. `drop`, if given, is asked before each micro-batch with its number: if it says so, the
  /// step ends here. Returns whether all were queued. Units: `data_step` from 0.
  /// Errors: UsageError if data_step does not fit dropout's counter; as BertForPreTraining::forward.
  bool accumulate(const GlobalStep& batch, int64_t data_step,
                  const std::function<bool(size_t micro_batch)>& drop = {});
  /// Queues the optimizer's update with the gradients that are there. Errors: CommError.
  void update();
  /// Where the optimizer is sharded: begins to bring the new weights to all ranks. Called after each
  /// update and before anything reads weights, on all ranks together. What ranks have to tell each
  /// other about the step comes before, or it would wait behind the weights. The next step waits
  /// for each part when it first needs it (weight_gather.h).
  void share_weights();
  /// Brings all masters to each rank, where the optimizer is sharded: before they are saved.
  /// Errors: CommError.
  void gather_masters();
  /// gradients(), update() and share_weights(); as a graph, where the options say so.
  void run(const GlobalStep& batch, int64_t data_step);
  /// Starts to copy the first micro-batches of the step to come, beside what is queued.
  void expect(const GlobalStep& next) { uploads_.start(next); }

  /// The time that the last gradients() spent on sums over ranks, and on bringing the weights that the
  /// step began with; valid once read() has waited for them.
  Communication communication() const;
  int64_t buckets() const { return buckets_ ? buckets_->buckets() : 0; }
  /// Calls `hear` with what the host is about to do, by the names of its ranges (core/range.h):
  /// "forward", "backward", "all-reduce", "update", "all-gather".
  void tell(std::function<void(const char*)> hear) { hear_ = std::move(hear); }

  /// What the steps so far have left; losses are of this rank's micro-batches. Waits for the device.
  /// Errors: CommError, if a sum over ranks failed on it; then weights and moments are not defined.
  StepState read() const;
  /// Sets what is kept from step to step, as a checkpoint has it.
  void write(const StepState& state) { state_.write(state); }

 private:
  /// A range whose beginning is told.
  class Stage : public Range {
   public:
    Stage(const TrainStep& step, const char* name) : Range(name) {
      if (step.hear_) step.hear_(name);
    }
  };
  void begin(const GlobalStep& batch, int64_t data_step);
  void queue(const DeviceBatch& micro_batch);
  void forget_gradients();
  ElementRange range_of(const Variable& leaf) const;
  void make_buckets();
  void make_shards();
  bool add_in_a_tree(const GlobalStep& batch, const std::function<bool(size_t)>& drop);
  void make_inputs(const GlobalStep& batch);
  bool fits(const GlobalStep& batch) const;

  const BertForPreTraining& model_;
  Optimizer& optimizer_;
  TrainStepOptions options_;
  DeviceValue<StepState> state_;
  BatchUploads uploads_;
  ProcessGroup* ranks_;                            // null: no others
  std::vector<std::vector<ElementRange>> shards_;  // by rank, if the optimizer is sharded
  std::optional<GradientBuckets> buckets_;         // with several ranks,
  std::optional<GradientTree> tree_;               // or of a deterministic run
  std::optional<WeightGather> weights_;            // if the optimizer is sharded
  CommunicationClock clock_, weights_clock_;
  DeviceGraph graph_;
  std::vector<DeviceBatch> inputs_;  // of the graph
  std::function<void(const char*)> hear_;
};

}  // namespace minibert
