// plan_test.cpp: what a plan says of a run, against the data's manifest and formulas, and its
// advice after memory ran out, carried out.
#include "models/training/plan.h"

#include <fstream>
#include <regex>

#include <gtest/gtest.h>

#include "models/training/finetune.h"
#include "models/training/plan_probe.h"
#include "models/training/trainer.h"
#include "tests/models/training/tiny_data.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::build_tiny_data, testing::has, testing::message_of, testing::TemporaryFolder,
    testing::tiny_config, testing::usage_error_of;

class PlanTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new TemporaryFolder;
    data_ = build_tiny_data(*scratch_ / "text");
  }
  static void TearDownTestSuite() { delete scratch_; }
  static TrainConfig config(const std::string& run) { return tiny_config(data_, *scratch_ / run); }
  static PlanRequest request(const TrainConfig& config) {
    return plan_requests(config, std::make_shared<RunInputs>(open_data(config)), {}).front();
  }
  /// Too little for a micro-batch of `n`, enough for about half of it, with a checkpoint under way.
  static int64_t room_for_half(const PlanRequest& r, int64_t n) {
    const MemoryPlan all = plan_memory_of(r, n), one = plan_memory_of(r, 1);
    return Allocator::instance().total().bytes + all.snapshot + (all.peak + one.peak) / 2;
  }
  /// Trains `settings` with room for about half of its micro-batch, and again as the error advises.
  static void expect_advice_works(TrainConfig settings, const OpenInputs& open) {
    const int64_t n = settings.micro_batch_size;
    const PlanRequest r =
        plan_requests(settings, std::make_shared<RunInputs>(open(settings)), {}).front();
    Allocator::instance().set_limit(room_for_half(r, n));
    const auto run = [&] {
      train({.config = settings,
             .resolved_config = "",
             .arguments = {"minibert", "train"},
             .open = open});
    };
    const std::string message = message_of<OutOfMemory>(run);
    std::smatch found;
    ASSERT_TRUE(std::regex_search(message, found, std::regex("Use --micro-batch-size (\\d+)\\.$")))
        << message;
    settings.micro_batch_size = std::stoll(found[1]);
    EXPECT_LT(settings.micro_batch_size, n);
    EXPECT_GE(settings.micro_batch_size, n / 8) << "about half of it fits";
    settings.output_dir += "-advised";
    run();
    EXPECT_TRUE(fs::exists(fs::path(settings.output_dir) / "checkpoint-2"));
    Allocator::instance().set_limit(0);
  }
  static TemporaryFolder* scratch_;
  static fs::path data_;
};
TemporaryFolder* PlanTest::scratch_ = nullptr;
fs::path PlanTest::data_;

TEST_F(PlanTest, CountsWhatTheDataHold) {
  TrainConfig settings = config("counts");
  settings.max_steps = 1000;
  const PlanRequest r = request(settings);
  const PhaseNeeds plan = needs_of(r);
  const DataCounts& counts = r.data()->data->manifest().counts;
  const double mean =
      static_cast<double>(counts.example_tokens) / static_cast<double>(counts.examples);
  EXPECT_NEAR(static_cast<double>(plan.step.tokens) / 8, mean, 0.1 * mean);
  EXPECT_NEAR(plan.sequences(), 8000, 0);
  EXPECT_NEAR(*plan.passes, 8000.0 / static_cast<double>(counts.examples), 1e-9);
  EXPECT_EQ(plan.sequence_length, 24);
  EXPECT_EQ(plan.masked, 4);  // max_predictions; 15 % are 3.6
  EXPECT_EQ(plan.micro_batches, 2);
}

TEST_F(PlanTest, NeedsNeitherDataNorOutputNorTheDevice) {
  TrainConfig settings;
  settings.model = "bert-large";
  settings.device = "cuda";
  settings.precision = "bf16";
  settings.micro_batch_size = 8;
  settings.global_batch_size = 64;
  PlanRequest common;
  common.ranks = 4;
  const PlanRequest r = plan_requests(settings, nullptr, common).front();
  const PhaseNeeds plan = needs_of(r);
  EXPECT_EQ(plan.parameters, 336226108);  // as published, with both heads
  EXPECT_EQ(plan.micro_batches, 2);
  EXPECT_EQ(plan.step.tokens, 64 * 128);
  EXPECT_FALSE(plan.passes.has_value());
  const auto n = static_cast<double>(plan.parameters);
  EXPECT_NEAR(static_cast<double>(plan.memory.weights), 4 * n, 0.001 * 4 * n);
  EXPECT_NEAR(static_cast<double>(plan.memory.working_copy), 2 * n, 0.001 * 2 * n);
  EXPECT_NEAR(static_cast<double>(plan.memory.gradients), 4 * n, 0.001 * 4 * n);
  EXPECT_NEAR(static_cast<double>(plan.memory.optimizer_state), 8 * n, 0.005 * 8 * n);
  EXPECT_NEAR(static_cast<double>(plan.memory.bytes_sent), 2 * 4 * n * 3 / 4, 0.001 * 6 * n);
}

TEST_F(PlanTest, LargestMicroBatchIsTheLargest) {
  const PlanRequest r = [&] {
    TrainConfig settings = config("largest");
    settings.global_batch_size = 1024;
    return request(settings);
  }();
  const int64_t limit = plan_memory_of(r, 100).host_while_saving(Device::cpu) + 50;
  const int64_t largest = largest_micro_batch(r, limit, /* process= */ 50);
  EXPECT_GE(largest, 100);
  EXPECT_LE(plan_memory_of(r, largest).host_while_saving(Device::cpu) + 50, limit);
  EXPECT_GT(plan_memory_of(r, largest + 1).host_while_saving(Device::cpu) + 50, limit);
  EXPECT_EQ(largest_micro_batch(r, 1000, 0), 0);
  EXPECT_EQ(largest_divisor(1024, 100), 64);
}

TEST_F(PlanTest, AdviceAfterMemoryRanOutWorks) {
  TrainConfig settings = config("short");
  settings.evaluation_data = {};
  settings.hidden_size = 128;  // the probe of the peak rate, a few MiB, must fit too
  settings.global_batch_size = settings.micro_batch_size = 64;
  settings.max_steps = 2;
  expect_advice_works(settings, open_inputs);
}

TEST_F(PlanTest, AdviceAfterMemoryRanOutInFineTuningWorks) {
  TrainConfig base = config("pre-trained");
  base.evaluation_data = {};
  base.hidden_size = 128;
  base.max_steps = 1;
  train({base, "", {"minibert", "train"}, nullptr, false});
  const fs::path texts = *scratch_ / "labelled.csv";
  std::ofstream file(texts);
  file << "text,label\n";
  for (int i = 0; i < 512; ++i)
    file << fmt::format("the river and the bridge {} of the old town,{}\n", i, i % 2 ? "a" : "b");
  file.close();
  TrainConfig settings = config("fine-tuned");
  settings.init_from = fs::path(base.output_dir) / "checkpoint-1";
  settings.data = texts;
  settings.evaluation_data = {};
  settings.global_batch_size = settings.micro_batch_size = 256;
  settings.max_steps = 2;
  const auto open = [](const TrainConfig& c) {
    return open_classify(c, {.columns = {}, .max_sequence_length = 24});
  };
  expect_advice_works(settings, open);
}

TEST_F(PlanTest, TrainSaysWhatThePlanSays) {
  const TrainConfig settings = config("says");
  const RunInputs inputs = open_data(settings);
  const std::string line = describe_memory(settings, inputs, 1);
  const MemoryPlan m = plan_memory_of(request(settings), settings.micro_batch_size);
  const auto megabytes = [](int64_t b) { return static_cast<double>(b) / (1 << 20); };
  EXPECT_TRUE(has(line, fmt::format("{:.0f} MB optimizer state", megabytes(m.optimizer_state))))
      << line;
  const std::vector<std::string> lines = describe_plan(settings, inputs, 1);
  EXPECT_NE(std::ranges::find(lines, line), lines.end());
}

TEST_F(PlanTest, ProbesStepsOfTheRun) {
  const PlanRequest r = request(config("probe"));
  const PhaseNeeds plan = needs_of(r);
  const PlanProbe probe = probe_steps(r, plan, /* seconds= */ 0);
  EXPECT_EQ(probe.flop_seconds.size(), 3u);
  EXPECT_GT(probe.step_seconds(plan.step_flops), 0);
  EXPECT_LE(probe.step_seconds(plan.step_flops, 0.25), probe.step_seconds(plan.step_flops, 0.75));
  EXPECT_FALSE(fs::exists(*scratch_ / "probe")) << "a plan writes nothing";
}

TEST(Quantile, LiesBetweenNeighbours) {
  EXPECT_DOUBLE_EQ(quantile_of({1, 2, 4}, 0.5), 2);
  EXPECT_DOUBLE_EQ(quantile_of({1, 2, 4, 8}, 0.5), 3);
  EXPECT_DOUBLE_EQ(quantile_of({1, 2, 4}, 0.25), 1.5);
  EXPECT_DOUBLE_EQ(quantile_of({7}, 0.75), 7);
}

TEST(PlanRequests, AreThePhases) {
  PlanRequest common;
  common.ranks = 1024;
  const std::vector<PlanRequest> phases =
      plan_requests(recipe_config("bert-large-lamb-64k"), nullptr, common);
  ASSERT_EQ(phases.size(), 2u);
  const PhaseNeeds first = needs_of(phases[0]), second = needs_of(phases[1]);
  EXPECT_EQ(first.steps, 7037);
  EXPECT_EQ(second.steps, 1562);
  EXPECT_EQ(first.sequence_length, 128);
  EXPECT_EQ(second.sequence_length, 512);
  EXPECT_EQ(first.step.tokens, 65536 * 128);
  EXPECT_EQ(second.micro_batches, 2) << "32,768 / 1,024 / 16";
  EXPECT_EQ(phases[0].total_steps, 8599);
  EXPECT_EQ(first.memory.optimizer_state, second.memory.optimizer_state);
}

TEST(PlanRequests, RefuseWhatDoesNotFit) {
  PlanRequest r;
  r.phase.steps = 1;
  r.phase.config.sequence_length = 1024;
  EXPECT_TRUE(has(usage_error_of([&] { needs_of(r); }), "Use --max-position-embeddings 1024"));
  r.phase.config.sequence_length = 64;
  r.masked = 65;
  EXPECT_TRUE(has(usage_error_of([&] { needs_of(r); }), "--masked is 65"));
}

}  // namespace
}  // namespace minibert
