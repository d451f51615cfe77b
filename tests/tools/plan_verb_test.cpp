// plan_verb_test.cpp: `minibert plan` as users call it: its JSON against published figures and against
// `bench step`, its tables, and its errors.
#include <cmath>
#include <fstream>
#include <sstream>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/run_minibert.h"

namespace minibert {
namespace {

using testing::Outcome, testing::run_minibert;

nlohmann::json json_of(const std::string& arguments) {
  const Outcome out = run_minibert(arguments + " --json");
  EXPECT_EQ(out.code, 0) << out.output;
  return nlohmann::json::parse(out.output, nullptr, /* allow_exceptions= */ false);
}

void expect_error(const std::string& arguments, const std::string& part) {
  const Outcome out = run_minibert("plan " + arguments);
  EXPECT_EQ(out.code, 2) << arguments << ": " << out.output;
  EXPECT_NE(out.output.find(part), std::string::npos) << arguments << ": " << out.output;
}

/// bert-tiny as small as bench step's, in this precision: within 3 %, category by category.
void expect_memory_of_bench(const std::string& precision) {
  const std::string common = " --model bert-tiny --threads 1 --precision " + precision;
  const auto plan = json_of(
      "plan --micro-batch-size 4 --global-batch-size 4 --sequence-length 64 "
      "--vocab-size 3000 --masked 10 --optimizer adamw --max-steps 3 --probe-seconds 0" +
      common)["memory"];
  const auto bench = json_of("bench step --batch 4 --seq 64 --vocab 3000 --steps 1 --warmup 1" +
                             common)["memory_mib"];
  const auto expect_near = [&](const char* what, double bytes) {
    const double mebibytes = bench[what].get<double>();
    EXPECT_NEAR(bytes / 0x1p20, mebibytes, 0.03 * mebibytes + 0.05) << precision << ' ' << what;
  };
  expect_near("weights", plan["weights"].get<double>() + plan["working_copy"].get<double>());
  expect_near("gradients", plan["gradients"]);
  expect_near("optimizer state", plan["optimizer_state"]);
  expect_near("activations", plan["activations"]);
  expect_near("workspace", plan["workspace"]);
}

TEST(PlanVerb, MemoryIsThatOfBenchStep) {
  for (const char* precision : {"fp32", "bf16"}) expect_memory_of_bench(precision);
}

TEST(PlanVerb, CountsTheRecipe) {
  const auto plan = json_of("plan --recipe bert-base --masked 20 --probe-seconds 0");
  EXPECT_EQ(plan["parameters"], 110106428);
  EXPECT_EQ(plan["steps"], 1000000);
  EXPECT_EQ(plan["sequences"], 512e6);
  EXPECT_NEAR(plan["usual_step_flops"].get<double>() / 512 / 1e9, 69.9, 0.05);
  EXPECT_EQ(plan["bytes_sent"], 0);
  EXPECT_FALSE(plan.contains("time"));
}

TEST(PlanVerb, LargestMicroBatchGrowsWithTheMemory) {
  const auto largest = [](const std::string& memory) {
    return json_of("plan --recipe bert-base --probe-seconds 0 --memory " +
                   memory)["largest_micro_batch"]["fits"]
        .get<int64_t>();
  };
  EXPECT_EQ(largest("1GiB"), 0);
  const int64_t eight = largest("8GiB"), sixteen = largest("16GiB");
  EXPECT_GT(eight, 8);
  EXPECT_GT(sixteen, 2 * eight) << "weights and moments count once";
}

TEST(PlanVerb, PlansEachPhase) {
  const Outcome out =
      run_minibert("plan --recipe bert-large-lamb-64k --cluster h100 --devices 64 --json");
  ASSERT_EQ(out.code, 0) << out.output;
  std::istringstream lines(out.output);
  std::vector<nlohmann::json> objects;
  for (std::string line; std::getline(lines, line);) objects.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(objects[0]["steps"], 7037);
  EXPECT_EQ(objects[1]["sequence_length"], 512);
  EXPECT_EQ(objects[2]["total"]["steps"], 8599);
  EXPECT_NEAR(objects[2]["total"]["run_seconds"].get<double>(),
              objects[0]["time"]["run_seconds"].get<double>() +
                  objects[1]["time"]["run_seconds"].get<double>(),
              1e-6);
}

TEST(PlanVerb, TimesStepsHere) {
  const auto plan = json_of(
      "plan --model bert-tiny --num-hidden-layers 1 --micro-batch-size 2 "
      "--global-batch-size 4 --sequence-length 16 --vocab-size 500 "
      "--probe-seconds 0.1");
  const auto& time = plan["time"];
  EXPECT_EQ(time["kind"], "measured");
  EXPECT_NEAR(time["run_seconds"].get<double>(), 1000 * time["step_seconds"].get<double>(), 1e-6);
  EXPECT_NEAR(time["step_seconds"].get<double>(),
              plan["step_flops"].get<double>() / time["flops_per_second"].get<double>() +
                  time["update_seconds"].get<double>(),
              1e-6);
}

TEST(PlanVerb, PlansForGpusWithoutOne) {
  const auto plan = json_of(
      "plan --cluster h100 --devices 64 --model bert-large --precision bf16 "
      "--micro-batch-size 64 --global-batch-size 4096 --masked 20");
  EXPECT_EQ(plan["device"], "cuda");
  EXPECT_EQ(plan["ranks"], 64);
  EXPECT_EQ(plan["micro_batches"], 1);
  EXPECT_EQ(plan["time"]["kind"], "modelled");
  // 64 sequences of 240.6 GFLOP at 45 % of 989 TFLOP/s
  EXPECT_NEAR(plan["time"]["seconds"]["compute"].get<double>(), 64 * 240.6e9 / (0.45 * 989e12),
              1e-5);
  // f32 gradients in a ring of 64: 2 x 63/64 x 4 bytes
  EXPECT_NEAR(plan["bytes_sent"].get<double>(), 336.2e6 * 4 * 2 * 63 / 64, 0.002 * 336e6 * 8);
  EXPECT_GT(plan["largest_micro_batch"]["fits"].get<int64_t>(), 64);
}

TEST(PlanVerb, PredictsThePapersHours) {
  const auto fit = json_of("plan --published tpu-v3");
  ASSERT_EQ(fit["rows"].size(), 8u);
  EXPECT_NEAR(fit["rows"][0]["predicted_minutes"].get<double>(), 82.8 * 60, 0.01);
  EXPECT_EQ(fit["rows"][7]["steps"], 8599);
  const Outcome table = run_minibert("plan --published tpu-v3");
  EXPECT_NE(table.output.find("A model, not a measurement"), std::string::npos) << table.output;
  EXPECT_NE(table.output.find("8599"), std::string::npos) << table.output;
}

TEST(PlanVerb, FindsTheDevicesForATime) {
  const auto found =
      json_of("plan --published tpu-v3 --cluster h100 --within 76.19 --within 60")["rows"];
  ASSERT_EQ(found.size(), 2u);
  for (const auto& row : found)
    EXPECT_LE(row["predicted_minutes"].get<double>(), row["within_minutes"].get<double>());
  EXPECT_GT(found[1]["devices"], found[0]["devices"]);
  // 1.63e20 FLOP at 0.45 x 989e12 in an hour: 102 of them without any loss
  EXPECT_GE(found[1]["devices"].get<int64_t>(), 102);
  EXPECT_LE(found[1]["devices"].get<int64_t>(), 128);
}

TEST(PlanVerb, AClustersPrintoutIsACluster) {
  const Outcome printed = run_minibert("plan --print-cluster h100");
  const std::string path = ::testing::TempDir() + "printed_cluster.toml";
  std::ofstream(path) << printed.output;
  const std::string rest = " --devices 8 --micro-batch-size 8 --global-batch-size 64";
  EXPECT_EQ(json_of("plan --cluster " + path + rest)["time"]["seconds"],
            json_of("plan --cluster h100" + rest)["time"]["seconds"]);
}

TEST(PlanVerb, NamesWhatIsWrong) {
  expect_error("--cluster h10", "Did you mean h100?");
  expect_error("--published h100", "no published runs");
  expect_error("--published tpu-v3 --cluster h100 --run bert-large-lamb-6k",
               "Did you mean bert-large-lamb-");
  expect_error("--memory 12", "--memory is \"12\", expected a number and a unit");
  expect_error("--memory 0GB", "--memory is \"0GB\", expected more than 0");
  expect_error("--global-batch-size 33", "multiple of train.micro_batch_size");
  expect_error("--sequence-length 600", "Use --max-position-embeddings 600");
  expect_error("--masked 200", "--masked is 200");
  expect_error("--recipe bert-bas", "Did you mean bert-base?");
  EXPECT_EQ(run_minibert("plan --data none").code, 3);
}

}  // namespace
}  // namespace minibert
