// plan_memory_test.cpp: the plan's bytes are those of steps that are computed, category by
// category, and what many ranks would keep follows from the formulas of their settings.
#include "models/training/plan_memory.h"

#include <thread>

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "core/random.h"

namespace minibert {
namespace {

constexpr int64_t kSequences = 6, kLength = 32, kMasked = 5, kSteps = 40000;

BertConfig small_model() {
  BertConfig config = BertConfig::named("bert-tiny");
  config.vocab_size = 1000;
  config.max_position_embeddings = 64;
  return config;
}

MemoryRequest request_of(DType dtype = DType::f32) {
  MemoryRequest request;
  request.model = small_model();
  request.compute = {.dtype = dtype};
  request.optimizer.name = "lamb";
  request.steps = kSteps;
  request.micro_batch = full_micro_batch(kSequences, kLength, kMasked, request.model, true);
  return request;
}

PackedBatch full_batch(const BertConfig& model, Objective objective, uint64_t seed) {
  RandomStream random(seed, StreamPurpose::user, 0);
  std::vector<int32_t> ids(static_cast<size_t>(kSequences * kLength)), places, labels;
  const int32_t masked = objective == Objective::pre_training ? kMasked : 0;
  for (int32_t& id : ids)
    id = static_cast<int32_t>(random.below(static_cast<uint32_t>(model.vocab_size)));
  for (int32_t i = 0; i < masked; ++i) places.push_back(2 * i + 1), labels.push_back(i);
  std::vector<SequenceToPack> sequences;
  for (int64_t b = 0; b < kSequences; ++b)
    sequences.push_back({.ids = std::span(ids).subspan(static_cast<size_t>(b * kLength), kLength),
                         .first_segment = kLength,
                         .sample = static_cast<int32_t>(b),
                         .masked_positions = places,
                         .masked_labels = labels,
                         .nsp_label = 0,
                         .span_start = 2,
                         .span_end = 3});
  const BatchLimits limits{model.vocab_size, model.max_position_embeddings, model.type_vocab_size};
  const bool spans = objective == Objective::question_answering;
  return pack(sequences, limits, /* nsp= */ !spans, {}, spans);
}

/// Trains for real, from an allocator that holds nothing else.
MemoryPlan measured(const MemoryRequest& request) {
  Allocator& allocator = Allocator::instance();
  EXPECT_EQ(allocator.usage(MemoryCategory::weights).bytes, 0);
  BertForPreTraining model(request.model, ModelUse::training, request.parts, request.compute);
  model.initialize(1);
  ScheduleOptions schedule;
  schedule.name = "constant";
  schedule.total_steps = request.steps;
  Optimizer optimizer(model.arena(), request.optimizer, Schedule(schedule));
  TrainStep step(model, optimizer, request.step);
  allocator.reset_peak();
  for (int64_t number = 0; number < 2; ++number) {
    GlobalStep batch;
    batch.data_step = number;
    for (int64_t i = 0; i < request.micro_batches; ++i) {
      batch.numbers.push_back(i);
      batch.cuts.push_back({i * kSequences, kSequences, kSequences * kLength});
      batch.micro_batches.push_back(
          full_batch(request.model, request.step.objective, static_cast<uint64_t>(i)));
    }
    batch.masked_rows = request.micro_batches * kSequences * kMasked;  // > 0 for any objective
    batch.sequences = request.micro_batches * kSequences;
    step.run(batch, number);
    EXPECT_EQ(step.read().skipped_steps, 0);
  }
  const auto peak = [&](MemoryCategory category) { return allocator.usage(category).peak_bytes; };
  MemoryPlan plan;
  plan.weights = peak(MemoryCategory::weights);
  plan.gradients = peak(MemoryCategory::gradients);
  plan.optimizer_state = peak(MemoryCategory::optimizer_state);
  plan.activations = peak(MemoryCategory::activations);
  plan.workspace = peak(MemoryCategory::workspace);
  plan.peak = allocator.total().peak_bytes - peak(MemoryCategory::data);
  return plan;
}

void expect_as_measured(const MemoryRequest& request) {
  set_num_threads(1);  // of two, one may get no task that needs scratch
  const MemoryPlan plan = plan_memory(request);
  MemoryPlan real;
  std::jthread([&] {
    real = measured(request);
  }).join();  // a thread without scratch of former steps
  EXPECT_EQ(plan.weights + plan.working_copy, real.weights);
  EXPECT_EQ(plan.gradients, real.gradients);
  EXPECT_EQ(plan.optimizer_state, real.optimizer_state);
  EXPECT_EQ(plan.activations, real.activations);
  EXPECT_EQ(plan.workspace, real.workspace);
  EXPECT_EQ(plan.peak, real.peak);
}

TEST(PlanMemory, IsThatOfStepsInF32) {
  expect_as_measured(request_of());
}
TEST(PlanMemory, IsThatOfStepsInBf16) {
  expect_as_measured(request_of(DType::bf16));
}
TEST(PlanMemory, IsThatOfStepsThatRecomputeLayers) {
  MemoryRequest request = request_of();
  request.model.num_hidden_layers = 4;
  const int64_t kept = plan_memory(request).activations;
  request.step.recompute = Recompute::layer;
  expect_as_measured(request);
  EXPECT_LT(plan_memory(request).activations, kept);
}
TEST(PlanMemory, IsThatOfAStepOfManyMicroBatches) {
  MemoryRequest request = request_of();
  request.micro_batches = 5;
  expect_as_measured(request);
}
TEST(PlanMemory, IsThatOfADeterministicStep) {
  MemoryRequest request = request_of();
  request.step.deterministic = true;
  request.micro_batches = 5;
  expect_as_measured(request);
}
TEST(PlanMemory, IsThatOfAdamwWithoutPairs) {
  MemoryRequest request = request_of();
  request.optimizer.name = "adamw";
  request.model.hidden_dropout_prob = request.model.attention_probs_dropout_prob = 0;
  expect_as_measured(request);
}

MemoryRequest fine_tuning(Objective objective) {
  MemoryRequest request = request_of();
  request.step.objective = objective;
  request.parts = parts_for(objective, /* classes= */ 7);
  request.micro_batch =
      full_micro_batch(kSequences, kLength, kMasked, request.model, /* nsp= */ true, objective);
  return request;
}
TEST(PlanMemory, IsThatOfAStepThatLearnsToAnswer) {
  expect_as_measured(fine_tuning(Objective::question_answering));
}
TEST(PlanMemory, IsThatOfAStepThatLearnsClasses) {
  expect_as_measured(fine_tuning(Objective::classification));
}

TEST(PlanMemory, CountsWhatRanksKeepAndSend) {
  MemoryRequest request = request_of();
  const MemoryPlan alone = plan_memory(request);
  EXPECT_EQ(alone.bytes_sent, 0);
  request.ranks = 8;
  const MemoryPlan each = plan_memory(request);
  EXPECT_EQ(each.gradients, alone.gradients);
  // 2 n (R - 1) / R of f32 gradients; blocks of a bucket are rounded up to whole elements
  const double ring = 2.0 * static_cast<double>(alone.gradients) * 7 / 8;
  EXPECT_NEAR(static_cast<double>(each.bytes_sent), ring, 1000);
  request.step.wire = DType::bf16;
  const MemoryPlan halved = plan_memory(request);
  EXPECT_NEAR(static_cast<double>(halved.bytes_sent), ring / 2, 1000);
  EXPECT_EQ(halved.gradients, alone.gradients * 3 / 2);
}

TEST(PlanMemory, CountsAShareOfTheMomentsWhereTheyAreSharded) {
  MemoryRequest request = request_of();
  request.model.vocab_size = 30522;  // enough elements for a share of each rank
  request.ranks = 4;
  const MemoryPlan whole = plan_memory(request);
  request.step.shard_optimizer = true;
  const MemoryPlan share = plan_memory(request);
  const double moments = 2 * static_cast<double>(whole.weights);
  EXPECT_NEAR(static_cast<double>(whole.optimizer_state - share.optimizer_state), moments * 3 / 4,
              0.01 * moments);
}

TEST(PlanMemory, GrowsWithTheMicroBatchAndNotWithTheDevicesPresence) {
  MemoryRequest request = request_of(DType::bf16);
  request.compute.device = Device::cuda;
  const MemoryPlan one = plan_memory(request);
  EXPECT_GT(one.peak, one.weights + one.gradients + one.optimizer_state);
  EXPECT_GE(one.reserved, one.peak);
  request.micro_batch = full_micro_batch(4 * kSequences, kLength, kMasked, request.model, true);
  const MemoryPlan four = plan_memory(request);
  EXPECT_NEAR(static_cast<double>(four.activations), 4.0 * static_cast<double>(one.activations),
              0.02 * static_cast<double>(four.activations));
}

TEST(LargestFitting, FindsTheBorder) {
  for (const int64_t border : {0, 1, 2, 3, 7, 8, 9, 100}) {
    EXPECT_EQ(largest_fitting(100, [&](int64_t n) { return n <= border; }), border);
    EXPECT_EQ(largest_fitting(5, [&](int64_t n) { return n <= border; }),
              std::min<int64_t>(border, 5));
  }
}

}  // namespace
}  // namespace minibert
