// train_step.cpp: one optimizer step, in a dozen calls.
#include "models/training/train_step.h"

#include <algorithm>

#include "core/kernels/copy.h"
#include "core/kernels/step.h"

namespace minibert {

TrainStep::TrainStep(const BertForPreTraining& model, Optimizer& optimizer,
                     const TrainStepOptions& options, ProcessGroup* ranks)
    : model_(model),
      optimizer_(optimizer),
      options_(options),
      state_(optimizer.initial_state(), model.device()),
      uploads_(model.device()),
      ranks_(ranks && ranks->world() > 1 ? ranks : nullptr) {
  MB_CHECK(!options.graph || !ranks_,
           "train.graph is on, expected off with {} ranks (their sums are not captured). Use "
           "--no-graph.",
           ranks_->world());
  if (options.shard_optimizer && ranks_) make_shards();
  if (options.deterministic) {
    tree_.emplace(ranks_, model.arena().gradients());
  } else if (ranks_) {
    make_buckets();
  }
}

TrainStep::~TrainStep() {
  for (const Variable& leaf : model_.leaves()) {
    if (buckets_) leaf.on_final_gradient({});
    if (weights_) leaf.on_read({});
  }
}

/// Where a leaf lies in the flat buffers.
ElementRange TrainStep::range_of(const Variable& leaf) const {
  const Tensor& own = leaf.gradient_buffer();
  return {own.data<float>() - model_.arena().gradients().data<float>(), own.numel()};
}

/// Shards the optimizer; from now on whoever reads a leaf waits for its weights.
void TrainStep::make_shards() {
  const Arena& arena = model_.arena();
  const int64_t bucket = bucket_elements(options_.bucket_bytes, ranks_->world());
  shards_ = shard_ranges(arena.table().size(), bucket, ranks_->world());
  optimizer_.shard({ranks_, shards_});
  weights_.emplace(*ranks_, arena, shards_, bucket);
  for (const Variable& leaf : model_.leaves())
    leaf.on_read([this, range = range_of(leaf)] { weights_->wait_for(range); });
}

/// A leaf's hook tells the buckets that its gradient is final.
void TrainStep::make_buckets() {
  const Tensor& gradients = model_.arena().gradients();
  std::vector<ElementRange> parameters;
  for (const Variable& leaf : model_.leaves()) {
    const ElementRange range = range_of(leaf);
    parameters.push_back(range);
    leaf.on_final_gradient([this, range](const Variable&) {
      if (buckets_->started()) buckets_->final(range);
    });
  }
  const int64_t bucket = bucket_elements(options_.bucket_bytes, ranks_->world());
  buckets_.emplace(*ranks_, gradients, parameters, bucket, shards_, options_.wire);
}

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

/// The next backward overwrites them.
void TrainStep::forget_gradients() {
  for (const Variable& leaf : model_.leaves()) leaf.reset_grad();
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
      .recompute = options_.recompute,
      .objective = options_.objective};
  const PreTrainingOutput output = [&] {
    const Stage named(*this, "forward");
    return model_.forward(micro_batch, context);
  }();
  const Stage named(*this, "backward");
  output.loss.backward(1.0f, model_.leaves());
}

bool TrainStep::accumulate(const GlobalStep& batch, int64_t data_step,
                           const std::function<bool(size_t)>& drop) {
  begin(batch, data_step);
  forget_gradients();
  uploads_.start(batch);
  for (size_t i = 0; i < batch.micro_batches.size(); ++i) {
    if (drop && drop(i)) return false;
    uploads_.use_next(batch, [&](const DeviceBatch& micro_batch) { queue(micro_batch); });
  }
  return true;
}

bool TrainStep::gradients(const GlobalStep& batch, int64_t data_step,
                          const std::function<bool(size_t)>& drop) {
  clock_ = CommunicationClock();
  if (!tree_ && !buckets_) return accumulate(batch, data_step, drop);
  if (tree_) {
    begin(batch, data_step);
    return add_in_a_tree(batch, drop);
  }
  const size_t last = batch.micro_batches.size();
  const bool whole = accumulate(batch, data_step, [&](size_t i) {
    if (drop && drop(i)) return true;
    if (i + 1 == last) buckets_->start();
    return false;
  });
  if (!whole || (last == 0 && drop && drop(0))) return false;
  if (last == 0) {  // nothing was dealt to this rank
    model_.arena().gradients().fill_zero();
    buckets_->start();
  }
  const Stage named(*this, "all-reduce");
  clock_ = buckets_->finish();
  return true;
}

/// Each micro-batch alone, then their sums.
bool TrainStep::add_in_a_tree(const GlobalStep& batch, const std::function<bool(size_t)>& drop) {
  uploads_.start(batch);
  for (size_t i = 0; i < batch.micro_batches.size(); ++i) {
    if (drop && drop(i)) {
      tree_->forget();
      return false;
    }
    forget_gradients();
    uploads_.use_next(batch, [&](const DeviceBatch& micro_batch) { queue(micro_batch); });
    tree_->add();
  }
  if (batch.micro_batches.empty() && drop && drop(0)) return false;
  const Stage named(*this, "all-reduce");
  clock_ = tree_->finish(static_cast<int64_t>(batch.cuts.size()));
  return true;
}

void TrainStep::update() {
  const Stage named(*this, "update");
  if (weights_) {
    weights_->outdate();  // waits for the last step's weights, also those that no layer has read
    weights_clock_ = weights_->take_clock();
  }
  optimizer_.step(state_.get());
}

void TrainStep::share_weights() {
  if (!weights_) return;
  const Stage named(*this, "all-gather");
  weights_->start();
}

void TrainStep::gather_masters() {
  if (!weights_) return;
  weights_->finish();
  const Arena& arena = model_.arena();
  if (arena.compute() != DType::f32) gather_shards(*ranks_, shards_, arena.masters());
  ranks_->check();
}

Communication TrainStep::communication() const {
  Communication sum = clock_.read();
  return sum += weights_clock_.read();
}

StepState TrainStep::read() const {
  const StepState state = state_.read();
  if (ranks_) ranks_->check();
  return state;
}

void TrainStep::run(const GlobalStep& batch, int64_t data_step) {
  if (!options_.graph || model_.device() != Device::cuda) {
    if (!gradients(batch, data_step)) return;
    update();
    return share_weights();
  }
  begin(batch, data_step);
  const auto queue_all = [&] {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (i == 0 || tree_) forget_gradients();
      queue(inputs_[i]);
      if (tree_) tree_->add();
    }
    if (tree_) {
      const Stage named(*this, "all-reduce");
      tree_->finish(static_cast<int64_t>(inputs_.size()));
    }
    update();
  };
  // The first batch of these shapes is queued as usual: it allocates all the memory that they need.
  const bool first = !fits(batch);
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
