// plan_memory.cpp: two steps without memory, and what they asked for.
#include "models/training/plan_memory.h"

#include <algorithm>
#include <bit>

#include "core/dry_run.h"
#include "dist/counting_group.h"

namespace minibert {
namespace {

/// Steps whose batches are on the host: the one at work and two ahead (loader_prefetch.h).
constexpr int64_t kStepsInFlight = 3;
constexpr int64_t kWalked = 2;  // micro-batches; more of them repeat the second

int64_t batch_bytes(const BatchSizes& sizes) {
  return BatchFields::elements(sizes) * static_cast<int64_t>(sizeof(int32_t));
}

/// A step of `count` micro-batches, which hold nothing.
GlobalStep step_of(const BatchSizes& sizes, int64_t count, int64_t data_step) {
  GlobalStep step;
  step.data_step = data_step;
  for (int64_t i = 0; i < count; ++i) {
    step.numbers.push_back(i);
    step.cuts.push_back({i * sizes.sequences, sizes.sequences, sizes.tokens});
    step.micro_batches.emplace_back(
        sizes, Tensor::empty({BatchFields::elements(sizes)}, DType::i32, MemoryCategory::data));
  }
  step.masked_rows = count * sizes.masked_rows;
  step.sequences = count * sizes.sequences;
  step.tokens = count * sizes.tokens;
  return step;
}

/// Buffers of partial sums that a tree (gradient_tree.h) has for `micro_batches` beyond those for
/// `walked`.
int64_t more_levels(int64_t micro_batches, int64_t walked) {
  const auto levels = [](int64_t n) { return std::bit_width(static_cast<uint64_t>(n)); };
  return levels(micro_batches) - levels(walked);
}

/// Two steps of the rank, so that what stays from one to the next is there.
void walk(const MemoryRequest& request, int64_t walked, CountingGroup& ranks, DryRun& run,
          MemoryPlan& plan) {
  BertForPreTraining model(request.model, ModelUse::training, request.parts, request.compute);
  ScheduleOptions schedule;
  schedule.name = "constant";
  schedule.total_steps = 1;  // the table of rates is counted apart: it takes time to fill
  Optimizer optimizer(model.arena(), request.optimizer, Schedule(schedule));
  TrainStepOptions options = request.step;
  options.graph = false;  // a graph uses the memory of the steps before it
  TrainStep step(model, optimizer, options, &ranks);
  run.allocator().reset_peak();  // of the whole moments, where a rank keeps a share
  for (int64_t number = 0; number < 2; ++number) {
    ranks.reset();
    step.run(step_of(request.micro_batch, walked, number), number);
  }
  plan.weights = model.arena().masters().bytes();
  if (model.arena().compute() != DType::f32) plan.working_copy = model.arena().working().bytes();
  plan.snapshot = 3 * plan.weights;
  plan.bytes_sent = ranks.bytes_sent();
}

}  // namespace

BatchSizes full_micro_batch(int64_t sequences, int64_t length, int64_t masked,
                            const BertConfig& model, bool nsp, Objective objective) {
  BatchSizes sizes;
  sizes.sequences = sizes.sequence_capacity = sequences;
  sizes.tokens = sizes.row_capacity = sequences * length;
  sizes.nsp =
      objective == Objective::classification || (objective == Objective::pre_training && nsp);
  if (objective == Objective::pre_training)
    sizes.masked_rows = sizes.masked_capacity = sequences * masked;
  sizes.spans = objective == Objective::question_answering;
  if (sizes.spans) sizes.span_capacity = length;
  sizes.squared_lengths = sequences * length * length;
  sizes.head_capacity = sizes.masked_capacity + (sizes.nsp ? sequences : 0);
  sizes.limits = {model.vocab_size, model.max_position_embeddings, model.type_vocab_size};
  return sizes;
}

MemoryPlan plan_memory(const MemoryRequest& request) {
  const Device device = request.compute.device;
  const int64_t walked = std::min(request.micro_batches, kWalked);
  MemoryPlan plan;
  DryRun run(request.threads);
  const Allocator& allocator = run.allocator();
  CountingGroup ranks(/* rank= */ 0, request.ranks);
  walk(request, walked, ranks, run, plan);
  const auto peak = [&](MemoryCategory category) { return allocator.usage(category).peak_bytes; };
  plan.gradients = peak(MemoryCategory::gradients);
  plan.optimizer_state = peak(MemoryCategory::optimizer_state);
  plan.activations = peak(MemoryCategory::activations);
  plan.workspace = peak(MemoryCategory::workspace);
  plan.peak = allocator.total(device).peak_bytes;
  plan.reserved = allocator.peak_reserved_bytes(device);
  if (device == Device::cpu) {  // the loader's are counted apart
    plan.peak -= peak(MemoryCategory::data);
    plan.reserved -= peak(MemoryCategory::data);
  }
  const int64_t batches = batch_bytes(request.micro_batch) * request.micro_batches;
  plan.loader = kStepsInFlight * batches;
  const int64_t rates = (request.steps - 1) * static_cast<int64_t>(sizeof(StepRates));
  for (int64_t* bytes : {&plan.optimizer_state, &plan.peak, &plan.reserved}) *bytes += rates;
  if (request.step.deterministic) {
    const int64_t more = more_levels(request.micro_batches, walked) * plan.weights;
    for (int64_t* bytes : {&plan.gradients, &plan.peak, &plan.reserved}) *bytes += more;
  }
  if (request.step.graph && device == Device::cuda) {  // inputs of all micro-batches
    for (int64_t* bytes : {&plan.workspace, &plan.peak, &plan.reserved}) *bytes += batches;
  }
  return plan;
}

int64_t largest_fitting(int64_t most, const std::function<bool(int64_t)>& fits) {
  int64_t low = 0, high = 1;  // low fits
  while (high <= most && fits(high)) {
    low = high;
    high *= 2;
  }
  high = std::min(high, most + 1);  // does not fit
  while (low + 1 < high) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace minibert
