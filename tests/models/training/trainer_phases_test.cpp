// trainer_phases_test.cpp: runs of several phases: what their curves say, that one stopped anywhere,
// at the border too, goes on bit for bit, and that a run of one phase is the run that it always was.
#include <cmath>
#include <fstream>
#include <regex>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/training/compare_runs.h"
#include "models/training/trainer.h"
#include "tests/models/training/tiny_data.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::build_tiny_data, testing::has, testing::message_of, testing::TemporaryFolder,
    testing::tiny_config, testing::read_bytes;

/// 5 steps of 8 sequences, then 4 of 16 of other data, then 3 of 8 of these other data.
class TrainerPhases : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new TemporaryFolder;
    first_ = build_tiny_data(*scratch_ / "first", 1);
    second_ = build_tiny_data(*scratch_ / "second", 2);
  }
  static void TearDownTestSuite() {
    delete scratch_;
    scratch_ = nullptr;
  }

  static TrainConfig config(const std::string& run) {
    TrainConfig c = tiny_config(first_, folder(run));
    c.save_every = 0;
    c.log_every = 1;
    const auto phase = [&](std::map<std::string, ConfigValue> values) {
      PhaseSettings settings;
      for (auto& [name, value] : values) settings.entries[name] = {value, "test"};
      c.phases.push_back(settings);
    };
    phase({{"train.max_steps", int64_t{5}}, {"optim.warmup", 2.0}});
    phase({{"train.max_steps", int64_t{4}},
           {"data.data", second_.string()},
           {"data.evaluation_data", std::vector{"other=" + (second_ / "held-out").string()}},
           {"train.global_batch_size", int64_t{16}},
           {"optim.learning_rate", 5e-3},
           {"optim.schedule", std::string("polynomial")},
           {"optim.schedule_power", 0.5},
           {"phase.restart_step_count", true}});
    phase({{"train.max_steps", int64_t{3}}, {"data.data", second_.string()}});
    return c;
  }
  static fs::path folder(const std::string& run) { return *scratch_ / run; }
  static TrainResult run(const TrainConfig& config) {
    return train({config, "seed = 1\n", {"minibert", "train"}, nullptr, false});
  }
  static fs::path undisturbed() {
    const fs::path path = folder("undisturbed");
    if (!fs::exists(path)) run(config("undisturbed"));
    return path;
  }
  static std::vector<json> records(const fs::path& run) {
    std::ifstream file(run / "metrics.jsonl");
    std::vector<json> all;
    for (std::string line; std::getline(file, line);)  // a skipped step's norm is no JSON
      all.push_back(json::parse(std::regex_replace(line, std::regex("-?(NaN|Infinity)"), "null")));
    return all;
  }

  static TemporaryFolder* scratch_;
  static fs::path first_, second_;
};
TemporaryFolder* TrainerPhases::scratch_ = nullptr;
fs::path TrainerPhases::first_, TrainerPhases::second_;

TEST_F(TrainerPhases, TheCurveSaysWhichPhaseAStepIsOf) {
  const std::vector<json> curve = records(undisturbed());
  ASSERT_EQ(curve.size(), 12u);
  for (int64_t i = 0; i < 12; ++i) {
    const json& r = curve[static_cast<size_t>(i)];
    EXPECT_EQ(r["step"], i + 1);
    EXPECT_EQ(r["phase"], i < 5 ? 0 : i < 9 ? 1 : 2) << i;
    EXPECT_EQ(r["sequences"], i >= 5 && i < 9 ? 16 : 8) << i;
  }
  // Each phase rises from zero again: linear with W = 2, polynomial with W = .4, linear with W = .3.
  const auto rate = [&](size_t i) { return curve[i]["learning_rate"].get<double>(); };
  EXPECT_FLOAT_EQ(rate(0), 1e-2 / 2);
  EXPECT_FLOAT_EQ(rate(4), 1e-2 * (1 - 4.0 / 5));
  EXPECT_FLOAT_EQ(rate(5), 5e-3 * std::sqrt(1 - 1.0 / 4));
  EXPECT_FLOAT_EQ(rate(7), 5e-3 * std::sqrt(1 - 3.0 / 4));
  EXPECT_FLOAT_EQ(rate(9), 1e-2);
  EXPECT_FLOAT_EQ(rate(11), 1e-2 * (1 - 2.0 / 3));
}

TEST_F(TrainerPhases, BordersAreEvaluatedAndSaved) {
  const std::vector<json> curve = records(undisturbed());
  for (const size_t last : {4, 8, 11}) EXPECT_TRUE(curve[last].contains("eval")) << last;
  for (const int64_t step : {5, 9, 12}) {
    const fs::path state = undisturbed() / ("checkpoint-" + std::to_string(step));
    if (!fs::exists(state)) continue;  // the older ones are removed in time
    EXPECT_EQ(json::parse(read_bytes(state / "trainer_state.json"))["data_steps"], step);
  }
  const json end = json::parse(read_bytes(undisturbed() / "checkpoint-12" / "trainer_state.json"));
  ASSERT_EQ(end["phases"].size(), 3u);
  EXPECT_EQ(end["phases"][1]["first_data_step"], 5);
  EXPECT_EQ(end["phases"][2]["first_applied_step"], 9);
  EXPECT_EQ(end["best"]["step"], 12) << "the losses of the second phase are of another set";
  const std::string log = read_bytes(undisturbed() / "logs" / "rank-0.log");
  EXPECT_TRUE(has(log, "step 5/12 | phase 1/3 | mlm ")) << log;
  EXPECT_TRUE(has(log, "step 6/12 | phase 2/3 | mlm "));
  EXPECT_TRUE(has(log,
                  "step 5 | phase 2 of 3 begins | 16 sequences of up to 24 tokens a step, from "
                  "sample 0 on, 4 steps"));
  EXPECT_TRUE(has(log, "bias correction counts from 1 again"));
  EXPECT_TRUE(has(log,
                  "step 9 | phase 3 of 3 begins | 8 sequences of up to 24 tokens a step, from "
                  "sample 64 on, 3 steps"))
      << "the same data go on";
}

TEST_F(TrainerPhases, StoppedAfterAnyStepItGoesOnBitForBit) {
  for (int64_t stop = 1; stop < 12; ++stop) {
    const std::string name = "stopped-" + std::to_string(stop);
    TrainConfig c = config(name);
    c.stop_after = stop;
    EXPECT_EQ(run(c).end, TrainEnd::paused) << stop;
    c.stop_after = 0;
    c.resume = "must";
    EXPECT_EQ(run(c).end, TrainEnd::finished) << stop;
    EXPECT_EQ(first_difference(folder(name), undisturbed(), 0), std::nullopt) << stop;
    EXPECT_TRUE(has(read_bytes(folder(name) / "logs" / "rank-0.log"),
                    "going on at step " + std::to_string(stop) + " of 12, in phase"));
    fs::remove_all(folder(name));
  }
}

TEST_F(TrainerPhases, OneTableIsTheRunWithoutTables) {
  TrainConfig plain = tiny_config(first_, folder("plain"));
  run(plain);
  TrainConfig table = tiny_config(first_, folder("table"));
  PhaseSettings phase;
  phase.entries["train.max_steps"] = {int64_t{12}, "test"};
  phase.entries["optim.learning_rate"] = {1e-2, "test"};
  table.learning_rate = 5;
  table.phases = {phase};
  run(table);
  EXPECT_EQ(first_difference(folder("table"), folder("plain"), 0), std::nullopt);
}

// Two phases of the same settings differ from one long run in the schedule alone, not in the data.
TEST_F(TrainerPhases, APhaseOverTheSameDataTakesTheSamplesThatComeNext) {
  TrainConfig one = tiny_config(first_, folder("one"));
  one.schedule = "constant", one.warmup = 0;
  run(one);
  TrainConfig two = one;
  two.output_dir = folder("two").string();
  for (int i = 0; i < 2; ++i) {
    PhaseSettings phase;
    phase.entries["train.max_steps"] = {int64_t{6}, "test"};
    two.phases.push_back(phase);
  }
  run(two);
  const std::vector<json> a = records(folder("one")), b = records(folder("two"));
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i]["loss"], b[i]["loss"]) << i;
}

TEST_F(TrainerPhases, SkippedStepsBelongToNoPhasesCount) {
  TrainConfig c = config("skips");
  c.precision = "fp16";
  c.loss_scale = 1e36;  // overflows until it was halved often enough
  c.max_skips = 200;
  c.keep_last = 10;
  run(c);
  const std::vector<json> curve = records(folder("skips"));
  ASSERT_GT(curve.size(), 12u) << "some steps were skipped";
  const int64_t skipped = curve.back()["skipped_steps"];
  EXPECT_EQ(static_cast<int64_t>(curve.size()), 12 + skipped);
  const json end = json::parse(read_bytes(
      folder("skips") / ("checkpoint-" + std::to_string(curve.size())) / "trainer_state.json"));
  EXPECT_EQ(end["phases"][1]["first_data_step"], 5 + skipped);
  EXPECT_EQ(end["phases"][1]["first_applied_step"], 5);
  const fs::path again = folder("skips-again");  // from the border's checkpoint
  fs::copy(folder("skips"), again, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  c.output_dir = again.string();
  c.resume = (again / ("checkpoint-" + std::to_string(5 + skipped))).string();
  run(c);
  EXPECT_TRUE(has(read_bytes(again / "logs" / "rank-0.log"),
                  "going on at step " + std::to_string(5 + skipped) + " of 12, in phase 1"));
  EXPECT_EQ(first_difference(again, folder("skips"), 0), std::nullopt);
}

TEST_F(TrainerPhases, ACheckpointOfOtherPhasesIsRefused) {
  TrainConfig c = config("other");
  c.stop_after = 7;
  run(c);
  c.stop_after = 0, c.resume = "must";
  const auto error = [&] { return message_of<UsageError>([&] { run(c); }); };
  c.phases[0].entries["train.max_steps"].value = int64_t{6};
  EXPECT_TRUE(has(error(),
                  "phase 2 began after 5 applied steps in the checkpoint, but after 6 in the "
                  "configuration. Resume with the [[phase]] tables of that run"))
      << error();
  c = config("other");
  c.resume = "must";
  c.phases[1].entries["train.max_steps"].value = int64_t{1};
  EXPECT_TRUE(
      has(error(), "the checkpoint has 7 applied steps and is in phase 2, which ends after 6"))
      << error();
  c.phases.resize(1);
  EXPECT_TRUE(has(error(), "is in phase 2, but the configuration has 1")) << error();
  c = config("other");  // a phase that has not begun may be changed
  c.resume = "must";
  c.phases[2].entries["train.max_steps"].value = int64_t{2};
  EXPECT_EQ(run(c).steps, 11);
}

// A run that ended goes on with a second phase: the old checkpoint has begun one phase.
TEST_F(TrainerPhases, AFinishedRunGetsAnotherPhase) {
  TrainConfig c = tiny_config(first_, folder("grown"));
  run(c);
  c.resume = "must";
  for (const int64_t steps : {12, 3}) {
    PhaseSettings phase;
    phase.entries["train.max_steps"] = {steps, "test"};
    c.phases.push_back(phase);
  }
  EXPECT_EQ(run(c).steps, 15);
  EXPECT_EQ(records(folder("grown")).back()["phase"], 1);
}

}  // namespace
}  // namespace minibert
