// train_step.cpp: the way of a batch, in a dozen calls.
#include "models/training/train_step.h"

#include <algorithm>

#include "core/kernels/copy.h"
#include "core/kernels/step.h"
#include "core/range.h"

namespace minibert {

TrainStep::TrainStep(const BertForPreTraining& model, Optimizer& optimizer,
                     const TrainStepOptions& options)
    : model_(model),
      optimizer_(optimizer),
      options_(options),
      state_(optimizer.initial_state(), model.device()),
      uploads_(model.device()) {}

/// The part that takes values from the host: queued anew for each step.
void TrainStep::begin(const GlobalStep& batch, int64_t data_step) {
  MB_CHECK(data_step <= kMaxDataStep,
           "step {}: expected at most {} (22 bits of dropout's random counter). Start a new run "
           "from this one's checkpoint with --init-from",
           data_step, kMaxDataStep);
  step_begin({.state = state_.get(),
              .device = model_.device(),
              .data_step = static_cast<uint32_t>(data_step),
              .masked_rows = batch.masked_rows,
              .sequences = options_.nsp ? batch.sequences : 0});
}

/// Forward and backward: gradients add up.
void TrainStep::queue(const DeviceBatch& micro_batch) {
  StepState* state = state_.get();
  const StepContext context{
      .training = true,
      .seed = options_.seed,
      .data_step = &state->data_step,
      .mlm = {&state->mlm_scale, &state->mlm},
      .nsp = options_.nsp ? LossSite{&state->nsp_scale, &state->nsp} : LossSite{},
      .recompute = options_.recompute};
  const PreTrainingOutput output = [&] {
    const Range named("forward");
    return model_.forward(micro_batch, context);
  }();
  const Range named("backward");
  output.loss.backward(1.0f, model_.leaves());
}

bool TrainStep::accumulate(const GlobalStep& batch, int64_t data_step,
                           const std::function<bool(size_t)>& drop) {
  begin(batch, data_step);
  for (const Variable& leaf : model_.leaves()) leaf.reset_grad();
  uploads_.start(batch);
  for (size_t i = 0; i < batch.micro_batches.size(); ++i) {
    if (drop && drop(i)) return false;
    uploads_.use_next(batch, [&](const DeviceBatch& micro_batch) { queue(micro_batch); });
  }
  return true;
}

void TrainStep::update() {
  const Range named("update");
  optimizer_.step(state_.get());
}

void TrainStep::run(const GlobalStep& batch, int64_t data_step) {
  if (!options_.graph || model_.device() != Device::cuda) {
    if (accumulate(batch, data_step)) update();
    return;
  }
  begin(batch, data_step);
  const auto queue_all = [&] {
    for (const Variable& leaf : model_.leaves()) leaf.reset_grad();
    for (const DeviceBatch& micro_batch : inputs_) queue(micro_batch);
    update();
  };
  const bool first =
      !fits(batch);  // the first of these shapes brings all the memory that they need
  if (first) make_inputs(batch);
  uploads_.start(batch);
  for (DeviceBatch& input : inputs_)
    uploads_.use_next(batch, [&](const DeviceBatch& micro_batch) {
      copy_bytes(micro_batch.block, input.block);
      input.sizes = micro_batch.sizes;
    });
  if (first) return queue_all();
  if (!graph_.captured()) graph_.capture(queue_all);
  graph_.launch();
}

/// Where the graph finds its batches: memory that stays where it is.
void TrainStep::make_inputs(const GlobalStep& batch) {
  graph_.reset();
  inputs_.clear();
  for (const PackedBatch& b : batch.micro_batches)
    inputs_.emplace_back(b.sizes, Tensor::empty(b.block.shape(), DType::i32,
                                                MemoryCategory::workspace, model_.device()));
}

/// Whether the batch has the shapes of inputs_.
bool TrainStep::fits(const GlobalStep& batch) const {
  return std::ranges::equal(
      batch.micro_batches, inputs_,
      [](const PackedBatch& a, const DeviceBatch& b) { return a.sizes.same_room(b.sizes); });
}

}  // namespace minibert
