// plan_time_test.cpp: the model of step time against sums written out here, its inverses, and the
// table of published runs against figures of facts that the code does not have.
#include "models/training/plan_time.h"

#include <gtest/gtest.h>

#include "core/profile.h"
#include "models/training/plan_published.h"
#include "models/training/run_setup.h"
#include "tests/usage_error.h"

namespace minibert {
namespace {

void expect_usage_error(const std::function<void()>& body, const std::string& part) {
  const std::string message = minibert::testing::usage_error_of(body);
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

/// Round figures: 100 FLOP/s, 4 devices a node at 10 bytes/s, nodes at 2 bytes/s.
Cluster round_cluster() {
  Cluster c;
  c.name = "round";
  c.device_name = "thing";
  c.peak_flops = 200;
  c.memory_bytes_per_second = 50;
  c.devices_a_node = 4;
  c.node_bytes_per_second = 20;
  c.network_bytes_per_second = 4;
  c.link_share = 0.5;
  c.latency_seconds = 0.125;
  return c;
}

StepWork round_work() {
  return {.sequence_flops = 10,
          .global_batch_size = 64,
          .micro_batch_size = 2,
          .gradient_bytes = 80,
          .bucket_bytes = 20,
          .update_bytes = 100};
}

TEST(StepTime, OfOneDeviceComputesAndUpdates) {
  const StepTime t = step_time(round_cluster(), round_work(), 1, 0.5);
  EXPECT_DOUBLE_EQ(t.compute, 64 * 10 / 100.0);
  EXPECT_DOUBLE_EQ(t.update, 2);
  EXPECT_DOUBLE_EQ(t.exposed, 0);
  EXPECT_DOUBLE_EQ(t.scaling(), 1);
}

TEST(StepTime, OfANodeHasARing) {
  const StepTime t = step_time(round_cluster(), round_work(), 4, 0.5);
  EXPECT_DOUBLE_EQ(t.compute, 1.6);
  EXPECT_DOUBLE_EQ(t.backward, 2.0 / 3 * 2 * 10 / 100);
  // 2 x 80 x 3/4 bytes at 10 bytes/s, 6 hops
  EXPECT_DOUBLE_EQ(t.wire, 12 + 6 * 0.125);
  EXPECT_DOUBLE_EQ(t.exposed, t.wire - t.backward);
}

TEST(StepTime, OfNodesHasRingsBetweenThem) {
  const StepTime t = step_time(round_cluster(), round_work(), 8, 0.5);
  // then 2 x 80/4 x 1/2 bytes at 2 bytes/s, 2 hops more
  EXPECT_DOUBLE_EQ(t.wire, 12 + 10 + 8 * 0.125);
  EXPECT_DOUBLE_EQ(t.compute, 0.8);
  EXPECT_DOUBLE_EQ(t.latency, 1);
}

TEST(StepTime, ExposesTheLastBucketWhereBackwardHidesTheRest) {
  StepWork work = round_work();
  work.micro_batch_size = 1000;
  work.global_batch_size = 4000;
  const StepTime t = step_time(round_cluster(), work, 4, 0.5);
  EXPECT_DOUBLE_EQ(t.exposed, 3 + 0.75);
}

TEST(StepTime, RoundsTheShareOfADeviceUp) {
  EXPECT_DOUBLE_EQ(step_time(round_cluster(), round_work(), 5, 0.5).compute, 1.3);
}

TEST(StepTime, InversesComeBack) {
  const Cluster c = round_cluster();
  const std::vector<PhaseWork> phases = {{round_work(), 10}, {round_work(), 5}};
  const double seconds = run_seconds(c, phases, 4, 0.3);
  EXPECT_NEAR(fitted_share(c, phases, 4, seconds), 0.3, 1e-9);
  expect_usage_error([&] { fitted_share(c, phases, 4, 1); }, "at least the");
  // 1 device: 15 x (6.4 + 2) = 126 s; with 2 devices the sums alone take longer
  EXPECT_EQ(devices_for(c, phases, 126.1, 0.5), 1);
  EXPECT_EQ(devices_for(c, phases, 30, 0.5), 0);
}

/// NVIDIA's and DeepSpeed's way to count, as a table of facts has it: GFLOP of a sequence.
TEST(UsualFlops, AreThoseOfTheTable) {
  struct Row {
    const char* model;
    int64_t length, masked;
    double gigaflops;
  };
  for (const Row& row : {Row{"bert-base", 128, 20, 69.9}, Row{"bert-base", 512, 80, 301.4},
                         Row{"bert-large", 128, 20, 240.6}, Row{"bert-large", 512, 80, 1020.5}}) {
    StepPlan one;
    one.sequences = 1;
    one.tokens = row.length;
    one.masked_rows = row.masked;
    one.squared_lengths = row.length * row.length;
    const BertConfig model = BertConfig::named(row.model);
    EXPECT_NEAR(usual_step_flops(model, {}, one) / 1e9, row.gigaflops, 0.05) << row.model;
    EXPECT_LT(step_flops(model, {}, one), usual_step_flops(model, {}, one));
  }
}

TEST(Published, FitsOneRunAndPredictsTheOthers) {
  const PublishedFit fit = fit_published(find_cluster("tpu-v3"));
  ASSERT_EQ(fit.rows.size(), 8u);
  EXPECT_NEAR(fit.rows[0].error(), 0, 1e-6);
  // 512e6 sequences, 9/10 of 240.6 and 1/10 of 1,020.5 GFLOP, in 82.8 h on 16 x 123 TFLOP/s: 27.8 %
  // of the whole time; the fitted share is of the time without sums, and without a million updates of
  // 336.2e6 weights, 46 bytes each, at 900 GB/s.
  const double updates = 1e6 * 336.2e6 * 46 / 900e9 / (82.8 * 3600);
  EXPECT_NEAR(fit.share * (1 - updates - fit.rows[0].exposed_share), 0.278, 0.001);
  for (const PublishedRow& row : fit.rows) {
    EXPECT_GT(row.predicted_minutes, 0.5 * row.published_minutes()) << row.run.recipe;
    EXPECT_LT(row.predicted_minutes, 1.5 * row.published_minutes()) << row.run.recipe;
  }
  EXPECT_EQ(fit.rows.back().steps, 8599);
  expect_usage_error([&] { fit_published(find_cluster("h100")); }, "no published runs");
  expect_usage_error([&] { find_run(find_cluster("tpu-v3"), "lamb-64k"); },
                     "expected one of: bert-large-lamb-512");
}

}  // namespace
}  // namespace minibert
