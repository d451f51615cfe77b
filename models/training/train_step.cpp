// train_step.cpp: the way of a batch, in a dozen calls.
#include "models/training/train_step.h"

#include "core/kernels/step.h"

namespace minibert {

TrainStep::TrainStep(const BertForPreTraining& model, Optimizer& optimizer,
                     const TrainStepOptions& options)
    : model_(model),
      optimizer_(optimizer),
      options_(options),
      state_(optimizer.initial_state(), model.device()) {}

bool TrainStep::accumulate(const GlobalStep& batch, int64_t data_step,
                           const std::function<bool(size_t)>& drop) {
  MB_CHECK(data_step <= kMaxDataStep,
           "step {}: expected at most {} (22 bits of dropout's random counter). Start a new run "
           "from this one's checkpoint with --init-from",
           data_step, kMaxDataStep);
  StepState* state = state_.get();
  step_begin({.state = state,
              .device = model_.device(),
              .data_step = static_cast<uint32_t>(data_step),
              .masked_rows = batch.masked_rows,
              .sequences = options_.nsp ? batch.sequences : 0});
  const StepContext context{
      .training = true,
      .seed = options_.seed,
      .data_step = &state->data_step,
      .mlm = {&state->mlm_scale, &state->mlm},
      .nsp = options_.nsp ? LossSite{&state->nsp_scale, &state->nsp} : LossSite{},
      .recompute = options_.recompute};
  for (const Variable& leaf : model_.leaves()) leaf.reset_grad();
  for (size_t i = 0; i < batch.micro_batches.size(); ++i) {
    if (drop && drop(i)) return false;
    const DeviceBatch micro_batch = upload(batch.micro_batches[i], model_.device());
    const PreTrainingOutput output = model_.forward(micro_batch, context);
    output.loss.backward(1.0f, model_.leaves());
  }
  return true;
}

void TrainStep::update() {
  optimizer_.step(state_.get());
}

}  // namespace minibert
