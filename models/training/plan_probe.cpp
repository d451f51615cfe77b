// plan_probe.cpp: one micro-batch and one update after the other, each timed.
#include "models/training/plan_probe.h"

#include <algorithm>
#include <cmath>

#include "core/clock.h"
#include "core/device_stream.h"
#include "models/training/random_batch.h"
#include "models/training/train_step.h"

namespace minibert {
namespace {

constexpr int64_t kLeast = 3;       // timed micro-batches
constexpr int64_t kWarmUp = 1;      // micro-batches before them
constexpr int64_t kCutsOfStep = 4;  // of a step, spread over it: its data are in random order

/// Micro-batches of the run, one after the other.
class Source {
 public:
  Source(const PlanRequest& request, const PhaseNeeds& needs) : request_(request), needs_(needs) {}

  GlobalStep next() {
    GlobalStep step = request_.data() ? loaded() : made();
    const PackedBatch& batch = step.micro_batches.front();
    step.masked_rows = batch.masked_rows();
    step.sequences = batch.sequences();
    step.tokens = batch.tokens();
    step.squared_lengths = batch.sizes.squared_lengths;
    step.data_step = number_++;
    return step;
  }

 private:
  GlobalStep loaded() const {
    const StepSource& loader = *request_.data()->loader;
    StepPlan plan = loader.plan(request_.phase.first_step + number_ / kCutsOfStep);
    const auto cuts = static_cast<int64_t>(plan.cuts.size());
    return loader.load(std::move(plan), {number_ % kCutsOfStep % cuts});
  }
  GlobalStep made() const {
    const std::vector<int64_t> lengths(static_cast<size_t>(request_.config().micro_batch_size),
                                       needs_.sequence_length);
    const BertConfig& m = needs_.model;
    GlobalStep step;
    step.numbers = {0};
    step.micro_batches.push_back(random_batch(
        lengths, m.vocab_size, {m.vocab_size, m.max_position_embeddings, m.type_vocab_size},
        request_.config().nsp, {/* seed= */ 0, number_}, needs_.masked));
    return step;
  }

  const PlanRequest& request_;
  const PhaseNeeds& needs_;
  int64_t number_ = 0;
};

Schedule constant_schedule() {
  ScheduleOptions options;
  options.name = "constant";
  options.learning_rate = 1e-5f;           // nothing is kept of these steps
  options.total_steps = int64_t{1} << 20;  // more than a probe takes
  return Schedule(options);
}

TrainStepOptions plain_step(const TrainConfig& config) {
  TrainStepOptions options =
      step_options(config, TrainConfig().bucket_megabytes, Objective::pre_training);
  options.graph = false;  // its replay would be one piece
  options.deterministic = options.shard_optimizer = false;
  return options;
}

}  // namespace

double quantile_of(const std::vector<double>& sorted, double quantile) {
  const double place = quantile * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(std::floor(place));
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (place - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

double PlanProbe::step_seconds(double flops, double quantile) const {
  return flops * quantile_of(flop_seconds, quantile) + quantile_of(update_seconds, quantile);
}
double PlanProbe::step_seconds(double flops) const {
  return step_seconds(flops, 0.5);
}

int64_t probe_process_bytes(const PlanRequest& request) {
  // oneDNN's sgemm asks malloc for panels at each call, as large as a tile's rows and columns times
  // K, up to limits which these sizes reach; malloc keeps them, and the gaps between them.
  constexpr int64_t kLength = 64, kMostTokens = 512, kMostHidden = 512;
  const BertConfig whole = needs_of(request).model;
  PlanRequest small = request;
  small.inputs = nullptr;
  small.masked = 0;
  small.vocab_size = 100;
  TrainConfig& config = small.phase.config;
  config.sequence_length = kLength;
  config.init_from.clear();
  config.num_hidden_layers = 2;
  config.hidden_size = std::clamp<int64_t>(whole.hidden_size / 64 * 64, 64, kMostHidden);
  config.num_attention_heads = config.hidden_size / 64;
  config.intermediate_size = 4 * config.hidden_size;
  config.max_position_embeddings = kLength;
  config.micro_batch_size = config.global_batch_size = kMostTokens / kLength;
  config.token_capacity = 0;
  small.phase.steps = small.total_steps = 1;
  probe_steps(small, needs_of(small), /* seconds= */ 0);
  Allocator::instance().release_cache();
  return process_bytes();
}

PlanProbe probe_steps(const PlanRequest& request, const PhaseNeeds& needs, double seconds) {
  const ComputeOptions compute = compute_options(request.config());
  const DeviceStream stream(compute);
  BertForPreTraining model(needs.model, ModelUse::training, needs.parts, compute);
  model.initialize(static_cast<uint64_t>(request.config().seed));
  Optimizer optimizer(model.arena(), optimizer_options(request.config()), constant_schedule(),
                      loss_scaling(request.config()));
  TrainStep step(model, optimizer, plain_step(request.config()));
  Source source(request, needs);
  PlanProbe probe;
  const double begin = seconds_now();
  for (int64_t i = 0; i < kWarmUp + kLeast || seconds_now() - begin < seconds; ++i) {
    const GlobalStep batch = source.next();
    const double flops = step_flops(needs.model, needs.parts, batch);
    const double start = seconds_now();
    step.accumulate(batch, batch.data_step);
    step.read();
    const double computed = seconds_now();
    step.update();
    step.read();
    if (i < kWarmUp) continue;
    probe.flop_seconds.push_back((computed - start) / flops);
    probe.update_seconds.push_back(seconds_now() - computed);
  }
  std::ranges::sort(probe.flop_seconds);
  std::ranges::sort(probe.update_seconds);
  return probe;
}

}  // namespace minibert
