// trainer_test.cpp: whole runs on tiny data: what they leave, that a stopped run goes on bit for
// bit, and what they refuse.
#include "models/training/trainer.h"

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>
#include <limits>
#include <regex>
#include <thread>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "core/device.h"
#include "core/error.h"
#include "models/bert/hugging_face.h"
#include "models/text/vocab.h"
#include "models/training/checkpoint_store.h"
#include "models/training/resume.h"
#include "models/training/run_setup.h"
#include "tests/models/training/tiny_data.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::build_tiny_data, testing::flip_bit, testing::has, testing::message_of;
using testing::TemporaryFolder, testing::read_bytes, testing::write_bytes, testing::tiny_config;

/// Data that all tests share, and a folder for their runs.
class TrainerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new TemporaryFolder;
    data_ = build_tiny_data(*scratch_ / "text");
  }
  static void TearDownTestSuite() {
    delete scratch_;
    scratch_ = nullptr;
  }

  static TrainConfig config(const std::string& run) { return tiny_config(data_, folder(run)); }
  static fs::path folder(const std::string& run) { return *scratch_ / run; }
  static TrainResult run(const TrainConfig& config) {
    return train({config, "seed = 1\n", {"minibert", "train"}, nullptr, false});
  }
  /// Runs the undisturbed twelve steps once for all tests that compare with them.
  static fs::path undisturbed() {
    const fs::path path = folder("undisturbed");
    if (!fs::exists(path)) run(config("undisturbed"));
    return path;
  }

  static TemporaryFolder* scratch_;
  static fs::path data_;
};

TemporaryFolder* TrainerTest::scratch_ = nullptr;
fs::path TrainerTest::data_;

std::vector<nlohmann::json> lines_of(const fs::path& path) {
  std::vector<nlohmann::json> lines;
  std::istringstream stream(read_bytes(path));
  static const std::regex bare(
      ": (NaN|-?Infinity)");  // as Python writes them; quoted for this parser
  for (std::string line; std::getline(stream, line);)
    lines.push_back(nlohmann::json::parse(std::regex_replace(line, bare, ": \"$1\"")));
  return lines;
}

/// metrics.jsonl without its times.
std::vector<nlohmann::json> curve_of(const fs::path& run) {
  std::vector<nlohmann::json> lines = lines_of(run / "metrics.jsonl");
  for (nlohmann::json& line : lines)
    for (const char* key : {"step_seconds", "data_seconds", "communication_seconds"})
      EXPECT_EQ(line.erase(key), 1u) << key;
  return lines;
}

/// Weights, moments, counters and curve are the same bits.
void expect_same_run(const fs::path& got, const fs::path& expected, int64_t step) {
  const std::string name = "checkpoint-" + std::to_string(step);
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "trainer_state.json",
                           "config.json", "vocab.txt", "tokenizer_config.json"})
    EXPECT_EQ(read_bytes(got / name / file), read_bytes(expected / name / file)) << file;
  EXPECT_EQ(curve_of(got), curve_of(expected));
  EXPECT_EQ(read_bytes(got / "trust_ratios.jsonl"), read_bytes(expected / "trust_ratios.jsonl"));
}

TEST_F(TrainerTest, LeavesTheRunFolderOfTheContract) {
  const fs::path run = undisturbed();
  for (const char* name :
       {"config.resolved.toml", "run.json", "metrics.jsonl", "trust_ratios.jsonl",
        "logs/rank-0.log", "checkpoint-12/config.json", "checkpoint-12/model.safetensors",
        "checkpoint-12/vocab.txt", "checkpoint-12/tokenizer_config.json",
        "checkpoint-12/optimizer.safetensors", "checkpoint-12/trainer_state.json",
        "checkpoint-12/MANIFEST.json"})
    EXPECT_TRUE(fs::exists(run / name)) << name;
  EXPECT_EQ(fs::read_symlink(run / "latest"), "checkpoint-12");
  EXPECT_TRUE(fs::exists(run / "best"));
  const auto lines = lines_of(run / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 12u);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(lines[i]["step"], i + 1);
    EXPECT_EQ(lines[i]["sequences"], 8);
    EXPECT_EQ(lines[i].contains("eval"), (i + 1) % 4 == 0);
    EXPECT_EQ(lines[i]["loss"].get<double>(),
              lines[i]["mlm_loss"].get<double>() + lines[i]["nsp_loss"].get<double>());
  }
  EXPECT_EQ(lines_of(run / "trust_ratios.jsonl").size(), 6u);
  const LoadedBert loaded = load_hugging_face(run / "latest");
  EXPECT_TRUE(loaded.unused.empty());
}

TEST_F(TrainerTest, PausedRunGoesOnBitForBit) {
  TrainConfig c = config("paused");
  for (const int64_t stop : {1, 4, 5, 11}) {
    c.stop_after = stop;
    EXPECT_EQ(run(c).end, TrainEnd::paused);
    c.resume = "must";
  }
  c.stop_after = 0;
  EXPECT_EQ(run(c).end, TrainEnd::finished);
  expect_same_run(folder("paused"), undisturbed(), 12);
}

// Skipped steps at the start, a stop among them and one after: scale and counters are restored.
TEST_F(TrainerTest, PausedRunGoesOnBitForBitInSixteenBits) {
  for (const char* precision : {"bf16", "fp16"}) {
    SCOPED_TRACE(precision);
    TrainConfig c = config(std::string(precision) + "-whole");
    c.precision = precision;
    if (c.precision == "fp16") c.loss_scale = 0x1p50, c.loss_scale_interval = 4;
    EXPECT_EQ(run(c).end, TrainEnd::finished);
    const auto lines = lines_of(folder(std::string(precision) + "-whole") / "metrics.jsonl");
    if (c.precision == "fp16") {
      EXPECT_EQ(lines.front()["skipped_steps"], 1);
      EXPECT_EQ(lines.front()["loss_scale"], 0x1p50);
      EXPECT_GT(lines.back()["skipped_steps"], 5);
      EXPECT_LT(lines.back()["loss_scale"], 0x1p50);
      EXPECT_EQ(lines.size(), 12 + lines.back()["skipped_steps"].get<size_t>());
    } else {
      EXPECT_EQ(lines.size(), 12u);
      EXPECT_EQ(lines.back()["loss_scale"], 1);
    }
    const int64_t last = lines.back()["step"].get<int64_t>();
    TrainConfig paused = c;
    paused.output_dir = folder(std::string(precision) + "-paused").string();
    for (const int64_t stop : {3, 10}) {
      paused.stop_after = stop;
      EXPECT_EQ(run(paused).end, TrainEnd::paused);
      paused.resume = "must";
    }
    paused.stop_after = 0;
    EXPECT_EQ(run(paused).end, TrainEnd::finished);
    expect_same_run(folder(std::string(precision) + "-paused"),
                    folder(std::string(precision) + "-whole"), last);
  }
}

// Six skips in a row with the scale at its floor: exit code 4 with op, tensor and sample.
TEST_F(TrainerTest, SkipsWithoutEndStopTheRun) {
  TrainConfig c = config("endless");
  c.precision = "fp16";
  c.loss_scale = c.loss_scale_floor = 0x1p60;
  c.max_skips = 6;
  const std::string message = message_of<NumericError>([&] { run(c); });
  EXPECT_TRUE(has(message, "step 6: ")) << message;
  EXPECT_TRUE(has(message, "6 steps in a row were skipped")) << message;
  EXPECT_TRUE(has(message, "it comes from op ")) << message;
  EXPECT_TRUE(has(message, "sample")) << message;
  EXPECT_EQ(lines_of(folder("endless") / "metrics.jsonl").size(), 6u);
}

TEST_F(TrainerTest, ResumingInAnotherPrecisionIsAllowedAndReported) {
  TrainConfig c = config("switch");
  c.stop_after = 5;
  run(c);
  c.stop_after = 0;
  c.resume = "must";
  c.precision = "fp16";
  EXPECT_EQ(run(c).end, TrainEnd::finished);
  EXPECT_TRUE(has(read_bytes(folder("switch") / "logs/rank-0.log"),
                  "train.precision was fp32 in the checkpoint and is fp16 now"));
  EXPECT_EQ(lines_of(folder("switch") / "metrics.jsonl").back()["loss_scale"], 65536);
}

TEST_F(TrainerTest, FixedShapesAndRecomputeGiveTheSameCurve) {
  TrainConfig c = config("recompute");
  c.recompute = "layer";
  run(c);
  EXPECT_EQ(curve_of(folder("recompute")), curve_of(undisturbed()));
  TrainConfig fixed = config("fixed-shapes");
  fixed.fixed_shapes = true;
  run(fixed);
  const auto got = curve_of(folder("fixed-shapes")), expected = curve_of(undisturbed());
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double loss = expected[i]["loss"].get<double>();
    EXPECT_NEAR(got[i]["loss"].get<double>(), loss, 1e-5 * loss) << i;
  }
}

TEST_F(TrainerTest, FinishedRunHasNothingLeftToDo) {
  TrainConfig c = config("finished");
  run(c);
  const std::string before = read_bytes(folder("finished") / "metrics.jsonl");
  c.resume = "auto";
  EXPECT_EQ(run(c).end, TrainEnd::finished);
  EXPECT_EQ(read_bytes(folder("finished") / "metrics.jsonl"), before);
}

TEST_F(TrainerTest, DamagedNewestFallsBackToTheOneBeforeAndStillEndsTheSame) {
  TrainConfig c = config("damaged");
  c.stop_after = 7;
  run(c);
  flip_bit(folder("damaged") / "checkpoint-7/optimizer.safetensors", 4000);
  c.stop_after = 0, c.resume = "auto";
  run(c);
  EXPECT_TRUE(has(read_bytes(folder("damaged") / "logs/rank-0.log"), "skipped a checkpoint"));
  EXPECT_TRUE(fs::exists(folder("damaged") / "abandoned-checkpoint-7"));
  expect_same_run(folder("damaged"), undisturbed(), 12);
}

TEST_F(TrainerTest, NothingUsableIsAnErrorAndNotAFreshStart) {
  TrainConfig c = config("unusable");
  c.stop_after = 2;
  run(c);
  write_bytes(folder("unusable") / "checkpoint-2/MANIFEST.json", "");
  c.resume = "auto";
  EXPECT_TRUE(has(message_of<CheckpointError>([&] { run(c); }), "none of its checkpoints can be"));
  TrainConfig none = config("none");
  none.resume = "must";
  EXPECT_TRUE(has(message_of<CheckpointError>([&] { run(none); }), "has no checkpoint"));
  none.resume = "atuo";
  EXPECT_TRUE(has(message_of<UsageError>([&] { run(none); }), "Did you mean auto?"));
}

// Other heads have tensors of the same shapes; all that differs is told at once, and its fix works.
TEST_F(TrainerTest, CheckpointOfAnotherModelNamesEachSizeAndResumesAsAdvised) {
  TrainConfig c = config("shapes");
  c.stop_after = 2;
  run(c);
  c.stop_after = 3, c.resume = "auto";
  TrainConfig other = c;
  other.num_attention_heads = 4, other.intermediate_size = 64;
  const std::string message = message_of<UsageError>([&] { run(other); });
  EXPECT_TRUE(
      has(message, "num_attention_heads was 2 and is 4; intermediate_size was 128 and is 64"))
      << message;
  EXPECT_TRUE(has(message, "Resume with --num-attention-heads 2 --intermediate-size 128,"))
      << message;
  EXPECT_EQ(message_of<UsageError>([&] { check_start(other, open_inputs(other)); }), message);
  other.num_attention_heads = 2, other.intermediate_size = 128;
  EXPECT_EQ(run(other).steps, 3);
}

TEST_F(TrainerTest, ChangedSettingsAreListedAndRecordedWithTheirFirstStep) {
  TrainConfig c = config("changed");
  c.stop_after = 6;
  run(c);
  c.resume = "must", c.stop_after = 0;
  c.learning_rate = 5e-2, c.schedule = "constant", c.warmup = 3, c.weight_decay = 0.1;
  c.hidden_dropout = 0.2, c.max_grad_norm = 0.5, c.max_steps = 8, c.global_batch_size = 4;
  c.trust_ratio_max = 2, c.optimizer = "nvlamb";
  const std::vector<std::string> expected = {
      "model.hidden_dropout was 0.1 in the checkpoint and is 0.2 now, from step 7 on",
      "optim.learning_rate was 0.01 in the checkpoint and is 0.05 now, from step 7 on",
      "optim.schedule was linear in the checkpoint and is constant now, from step 7 on",
      "optim.warmup was 0.1 in the checkpoint and is 3 now, from step 7 on",
      "optim.weight_decay was 0.01 in the checkpoint and is 0.1 now, from step 7 on",
      "optim.max_grad_norm was 1 in the checkpoint and is 0.5 now, from step 7 on",
      "optim.trust_ratio_max was auto in the checkpoint and is 2 now, from step 7 on",
      "optim.optimizer was lamb in the checkpoint and is nvlamb now, from step 7 on",
      "train.max_steps was 12 in the checkpoint and is 8 now, from step 7 on",
      "train.global_batch_size was 8 in the checkpoint and is 4 now, from step 7 on",
      "the data go on after sample 24 of the phase, not after sample 48",
      // linear, 12 steps, W = 1.2, t = 6: 0.01 (1 - 6/12)
      "learning rate of step 7: 0.05, by the settings of the checkpoint 0.005"};
  const std::vector<std::string> dry = check_start(c, open_inputs(c));
  EXPECT_EQ(run(c).steps, 8);
  const std::string log = read_bytes(folder("changed") / "logs/rank-0.log");
  const std::string plan = fmt::format("{}", fmt::join(dry, "\n"));
  for (const std::string& line : expected) {
    EXPECT_TRUE(has(log, line)) << line;
    EXPECT_TRUE(has(plan, line)) << line;
  }
  const auto lines = lines_of(folder("changed") / "metrics.jsonl");
  for (const auto& line : lines) EXPECT_EQ(line.contains("changed_settings"), line["step"] == 7);
  const auto& changed = lines[6]["changed_settings"];
  EXPECT_EQ(changed.size(), 10u) << changed;
  EXPECT_EQ(changed["optim.learning_rate"], nlohmann::json({{"before", "0.01"}, {"now", "0.05"}}));
  EXPECT_NEAR(lines[6]["learning_rate"].get<double>(), 0.05, 1e-7);
  c.resume = "must", c.max_steps = 10;  // the checkpoint of step 8 has the new ones
  const auto next = check_start(c, open_inputs(c));
  ASSERT_EQ(next.size(), 2u) << fmt::format("{}", fmt::join(next, "\n"));
  EXPECT_TRUE(has(next[0], "train.max_steps was 8 in the checkpoint and is 10 now"));
  EXPECT_TRUE(
      has(next[1], "learning rate of step 9: 0.05, by the settings of the checkpoint 0.05"));
}

TEST_F(TrainerTest, AnEndBeforeTheCheckpointIsRefusedAndACompleteRunSaysSo) {
  TrainConfig c = config("end");
  c.stop_after = 6;
  run(c);
  c.resume = "must", c.stop_after = 0, c.max_steps = 3;
  const auto message = [&] { return message_of<UsageError>([&] { run(c); }); };
  EXPECT_TRUE(has(message(),
                  "the checkpoint holds 6 applied steps, expected at most 3 "
                  "(train.max_steps is 3)"))
      << message();
  EXPECT_TRUE(has(message(), "Use --max-steps 6 for the end where it stands, or more"))
      << message();
  EXPECT_EQ(message_of<UsageError>([&] { check_start(c, open_inputs(c)); }), message());
  c.max_steps = 12, c.stop_after = 4;
  EXPECT_TRUE(has(message(), "holds step 6, expected at most train.stop_after = 4")) << message();
  c.stop_after = 0, c.max_steps = 6;  // as advised
  EXPECT_EQ(run(c).end, TrainEnd::finished);
  const std::string log = read_bytes(folder("end") / "logs/rank-0.log");
  EXPECT_TRUE(has(log, "the run is complete: all of its 6 steps are done")) << log;
  EXPECT_TRUE(has(log, "--max-steps 12")) << log;
  EXPECT_EQ(lines_of(folder("end") / "metrics.jsonl").size(), 6u);
  c.max_steps = 12;
  EXPECT_EQ(run(c).steps, 12);
}

// A loss on other held-out data says nothing about which checkpoint is the best.
TEST_F(TrainerTest, TheBestCountsAnewOnOtherHeldOutData) {
  TrainConfig c = config("best");
  c.stop_after = 4;
  run(c);
  const fs::path state = folder("best") / "checkpoint-4/trainer_state.json";
  const auto best = nlohmann::json::parse(read_bytes(state))["best"];
  EXPECT_EQ(best["step"], 4);
  EXPECT_EQ(best["data"], fingerprint(*ShardSet::open((data_ / "held-out").string())));
  c.resume = "must", c.stop_after = 8;
  c.learning_rate = 1e-9;  // no better, but on other data
  c.evaluation_data = {"held-out=" + build_tiny_data(folder("other-held-out"), 5).string()};
  run(c);
  const auto after =
      nlohmann::json::parse(read_bytes(folder("best") / "checkpoint-8/trainer_state.json"))["best"];
  EXPECT_EQ(after["step"], 8);
  EXPECT_TRUE(has(read_bytes(folder("best") / "logs/rank-0.log"), "data.evaluation_checksum was "));
}

TEST_F(TrainerTest, ResumeFromAPathSetsLaterOnesAside) {
  TrainConfig c = config("path");
  c.keep_last = 5;
  run(c);
  c.resume = (folder("path") / "checkpoint-6").string();
  run(c);
  EXPECT_TRUE(fs::exists(folder("path") / "abandoned-checkpoint-9"));
  EXPECT_EQ(curve_of(folder("path")), curve_of(undisturbed()));
  TrainConfig elsewhere = config("elsewhere");
  elsewhere.resume = (folder("path") / "checkpoint-6").string();
  run(elsewhere);
  EXPECT_EQ(lines_of(folder("elsewhere") / "metrics.jsonl").front()["step"], 7);
  EXPECT_EQ(read_bytes(folder("elsewhere") / "checkpoint-12/model.safetensors"),
            read_bytes(undisturbed() / "checkpoint-12/model.safetensors"));
}

TEST_F(TrainerTest, ChangedMachineIsSaidAndTheRunGoesOn) {
  TrainConfig c = config("machine");
  c.stop_after = 2;
  run(c);
  const fs::path state = folder("machine") / "checkpoint-2/trainer_state.json";
  auto json = nlohmann::ordered_json::parse(read_bytes(state));
  json["environment"]["instruction_set"] = "v0";
  json["seed"] = 9;
  json.erase("settings");  // as versions before it wrote the file
  FileSystem files;
  std::vector<CheckpointFile> contents;
  for (const auto& entry : fs::directory_iterator(folder("machine") / "checkpoint-2")) {
    const std::string name = entry.path().filename().string();
    if (name == "MANIFEST.json") continue;
    const std::string text = name == "trainer_state.json" ? json.dump() : read_bytes(entry.path());
    contents.push_back(
        {name, [text](const fs::path& path) { return minibert::write_bytes(path, text); }});
  }
  CheckpointStore(folder("machine"), files).save(2, contents);
  c.stop_after = 0, c.resume = "must";
  run(c);
  const std::string log = read_bytes(folder("machine") / "logs/rank-0.log");
  EXPECT_TRUE(has(log, "instruction set v0 -> ")) << log;
  EXPECT_TRUE(has(log, "train.seed was 9 in the checkpoint and is 12345 now")) << log;
}

// ---- Batches -----------------------------------------------------------------------------------

// A row's arithmetic does not depend on its micro-batch, and weights' gradients are f32 in each
// precision: only the order of their sums differs. In 16 bits a working weight's last bit can tip over
// with it, which moves a later loss by less than one rounding of the type.
TEST_F(TrainerTest, AccumulationChangesNoSampleAndNoLoss) {
  const std::pair<std::string, double> precisions[] = {
      {"fp32", testing::Tolerance::optimizer},
      {"bf16", testing::Tolerance::model_loss_bf16},
      {"fp16", testing::Tolerance::model_loss_f16}};
  for (const auto& [precision, tolerance] : precisions) {
    TrainConfig one = config("1x32" + precision), four = config("4x8" + precision);
    one.precision = four.precision = precision;
    one.micro_batch_size = one.global_batch_size = four.global_batch_size = 32;
    four.micro_batch_size = 8;
    run(one), run(four);
    const auto a = curve_of(folder("1x32" + precision)), b = curve_of(folder("4x8" + precision));
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i]["tokens"], b[i]["tokens"]);
      for (const char* key : {"loss", "mlm_loss", "nsp_loss"}) {
        EXPECT_NEAR(a[i][key].get<double>(), b[i][key].get<double>(), tolerance)
            << precision << " " << key << " " << i + 1;
      }
    }
  }
}

TEST_F(TrainerTest, OverfitBatchLearnsItByHeart) {
  TrainConfig c = config("overfit");
  c.overfit_batch = true, c.max_steps = 60, c.hidden_dropout = c.attention_dropout = 0;
  c.evaluate_every = c.save_every = 0;
  run(c);
  const auto lines = lines_of(folder("overfit") / "metrics.jsonl");
  EXPECT_LT(lines.back()["mlm_loss"].get<double>(), 0.5 * lines.front()["mlm_loss"].get<double>());
  EXPECT_EQ(lines.back()["tokens"], lines.front()["tokens"]);
}

TEST_F(TrainerTest, WithoutNspTheHeadIsGoneAndItsFieldsAreNull) {
  TrainConfig c = config("mlm");
  c.nsp = false, c.max_steps = 4;
  run(c);
  EXPECT_TRUE(lines_of(folder("mlm") / "metrics.jsonl").back()["eval"]["nsp_loss"].is_null());
  EXPECT_FALSE(load_hugging_face(folder("mlm") / "latest").model.parts().nsp_head);
}

TEST_F(TrainerTest, InitFromStartsAtThatModelsWeights) {
  TrainConfig c = config("continued");
  c.init_from = (undisturbed() / "latest").string();
  const RunInputs inputs = open_inputs(c);
  std::vector<std::string> notes;
  const BertForPreTraining model = first_model(c, inputs, notes);
  const LoadedBert source = load_hugging_face(c.init_from);
  for (const ParameterSlice& slice : model.arena().table().slices()) {
    const int mine = model.arena().table().find(slice.name);
    const int theirs = source.model.arena().table().find(slice.name);
    ASSERT_GE(theirs, 0) << slice.name;
    const Tensor got = model.arena().weight(mine), expected = source.model.arena().weight(theirs);
    EXPECT_TRUE(testing::near(slice.name, got, expected, testing::Tolerance::exact));
  }
  c.max_steps = 2;
  run(c);
  EXPECT_LT(lines_of(folder("continued") / "metrics.jsonl").front()["mlm_loss"].get<double>(),
            lines_of(undisturbed() / "metrics.jsonl").front()["mlm_loss"].get<double>());
}

// ---- Signals -----------------------------------------------------------------------------------

/// Raises `signal` as soon as `condition` holds, from a thread of its own.
class RaiseWhen {
 public:
  RaiseWhen(int signal, std::function<bool()> condition)
      : thread_([this, signal, condition = std::move(condition)] {
          while (!stop_ && !condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          if (!stop_) ::kill(::getpid(), signal);
        }) {}
  ~RaiseWhen() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

int64_t line_count(const fs::path& path) {
  const std::string text = read_bytes(path);
  return std::count(text.begin(), text.end(), '\n');
}

TEST_F(TrainerTest, SignalSavesAWholeStepAndTheRunGoesOnBitForBit) {
  constexpr int64_t kSteps = 150;  // after the fifth, long enough for a busy machine to raise it
  TrainConfig undisturbed = config("signal-undisturbed");
  undisturbed.max_steps = kSteps;
  run(undisturbed);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    const std::string name = "signal-" + std::to_string(signal);
    TrainConfig c = config(name);
    c.max_steps = kSteps;
    TrainResult result;
    {
      RaiseWhen raise(signal, [&] { return line_count(folder(name) / "metrics.jsonl") >= 5; });
      result = run(c);
    }
    ASSERT_EQ(result.end, TrainEnd::signal);
    EXPECT_GE(result.steps, 5);
    EXPECT_TRUE(fs::exists(result.checkpoint / "MANIFEST.json"));
    c.resume = "must";
    EXPECT_EQ(run(c).end, TrainEnd::finished);
    expect_same_run(folder(name), folder("signal-undisturbed"), kSteps);
  }
}

TEST_F(TrainerTest, SignalDuringEvaluationIsHeardAndTheResumedRunEvaluates) {
  TrainConfig c = config("evaluating");
  // Its own sixth step is due for evaluation after a line of trust ratios: that line is the cue.
  c.evaluate_every = 6, c.trust_ratio_every = 6;
  TrainConfig undisturbed = c;
  undisturbed.output_dir = folder("evaluating-undisturbed").string();
  run(undisturbed);
  TrainResult result;
  {
    RaiseWhen raise(SIGTERM,
                    [&] { return line_count(folder("evaluating") / "trust_ratios.jsonl") >= 1; });
    result = run(c);
  }
  EXPECT_EQ(result.end, TrainEnd::signal);
  c.resume = "must";
  run(c);
  expect_same_run(folder("evaluating"), folder("evaluating-undisturbed"), 12);
}

TEST_F(TrainerTest, SignalBeforeTheFirstStepSavesAStartToGoOnFrom) {
  TrainConfig c = config("early");
  TrainResult result;
  {
    RaiseWhen raise(SIGTERM, [&] { return fs::exists(folder("early") / "run.json"); });
    result = run(c);
  }
  EXPECT_EQ(result.end, TrainEnd::signal);
  c.resume = "must";
  run(c);
  expect_same_run(folder("early"), undisturbed(), 12);
}

TEST_F(TrainerTest, StepThatWouldOutlastTheGraceIsDropped) {
  TrainConfig c = config("grace");
  c.micro_batch_size = 1, c.global_batch_size = 512, c.grace = 0, c.max_steps = 400;
  c.evaluation_data.clear();
  TrainResult result;
  {
    RaiseWhen raise(SIGTERM, [&] { return line_count(folder("grace") / "metrics.jsonl") >= 1; });
    result = run(c);
  }
  EXPECT_EQ(result.end, TrainEnd::signal);
  EXPECT_EQ(result.steps, line_count(folder("grace") / "metrics.jsonl"));
  c.resume = "must", c.stop_after = result.steps + 1;
  EXPECT_EQ(run(c).end, TrainEnd::paused);
}

TEST_F(TrainerTest, Usr2SavesAndGoesOn) {
  TrainConfig c = config("usr2");
  c.save_every = 0, c.keep_last = 100, c.max_steps = 200, c.evaluation_data.clear();
  TrainResult result;
  {
    RaiseWhen raise(SIGUSR2, [&] { return line_count(folder("usr2") / "metrics.jsonl") >= 3; });
    result = run(c);
  }
  EXPECT_EQ(result.end, TrainEnd::finished);
  FileSystem files;
  const auto saved = CheckpointStore(folder("usr2"), files).list();
  ASSERT_EQ(saved.size(), 2u) << "the one asked for, and the last";
  EXPECT_GE(saved.back().step, 3);
}

// ---- What must not be saved, and what can't be -------------------------------------------------

TEST_F(TrainerTest, NonFiniteLossStopsTheRunByNameAndIsNeverSaved) {
  const fs::path bad = folder("bad-model");
  fs::create_directories(bad);
  LoadedBert loaded = load_hugging_face(undisturbed() / "latest");
  const int number = loaded.model.arena().table().find("bert.encoder.layer.0.output.dense.weight");
  ASSERT_GE(number, 0);
  for (float& weight : loaded.model.arena().weight(number).span<float>())
    weight = std::numeric_limits<float>::max();  // finite, but not for long
  save_hugging_face(bad, loaded.model);
  TrainConfig c = config("non-finite");
  c.init_from = bad.string();
  const std::string message = message_of<NumericError>([&] { run(c); });
  EXPECT_TRUE(has(message, "step 1: loss is nan")) << message;
  EXPECT_TRUE(has(message, "first bad tensor: gradient of cls.seq_relationship.bias")) << message;
  EXPECT_TRUE(has(read_bytes(folder("non-finite") / "metrics.jsonl"), "\"mlm_loss\": NaN"));
  EXPECT_TRUE(has(read_bytes(folder("non-finite") / "logs/rank-0.log"), message));
  FileSystem files;
  EXPECT_TRUE(CheckpointStore(folder("non-finite"), files).list().empty());
}

TEST_F(TrainerTest, DiskFullWhileSavingKeepsTheOldOneAndStopsWithACheckpointError) {
  TrainConfig c = config("full");
  c.stop_after = 3;
  run(c);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{40000, before.rlim_max};  // logs fit, weights don't
  setrlimit(RLIMIT_FSIZE, &small);
  c.stop_after = 0, c.resume = "must", c.evaluation_data.clear();
  const std::string message = message_of<CheckpointError>([&] { run(c); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_TRUE(has(message, "not saved")) << message;
  EXPECT_TRUE(has(read_bytes(folder("full") / "logs/rank-0.log"), "not saved"));
  verify_checkpoint(folder("full") / "checkpoint-3");
  c.evaluation_data = config("full").evaluation_data;
  run(c);  // there is space again
  expect_same_run(folder("full"), undisturbed(), 12);
}

TEST_F(TrainerTest, SpaceOnTheDiskIsCheckedAtTheStart) {
  const TrainConfig c = config("space");
  const int64_t free = free_bytes(*scratch_ / "not/yet/there");
  std::vector<std::string> notes;
  EXPECT_TRUE(has(
      message_of<CheckpointError>([&] { check_free_space(c, 2 * free, folder("text"), notes); }),
      "for one checkpoint"));
  check_free_space(c, free / 2, folder("text"), notes);
  ASSERT_EQ(notes.size(), 1u) << "one fits, but not all that will be kept";
  EXPECT_TRUE(has(notes.front(), "the last 2 checkpoints, the best and the one being written"));
  check_free_space(c, 1000, folder("text"), notes);
  EXPECT_EQ(notes.size(), 1u);
}

// ---- Errors on the way --------------------------------------------------------------------------

/// Flips a bit in an example of a folder that has one shard; again, and it is whole.
void flip_in_example(const fs::path& data, int64_t example) {
  const fs::path shard = data / read_manifest(data).shards.at(0).file;
  const std::string bytes = read_bytes(shard);
  const auto number_at = [&](uint64_t offset) {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  };
  const uint64_t index = number_at(40);  // as shard.h says
  flip_bit(shard, number_at(index + 8 * static_cast<uint64_t>(example)) + 12);
}

TEST_F(TrainerTest, DamagedRecordEndsTheRunWithItsLastWholeStepSaved) {
  TrainConfig c = config("record");
  c.data = folder("record-data").string();
  fs::copy(data_, c.data, fs::copy_options::recursive);
  const int64_t examples = ShardSet::open(c.data)->examples();
  const EpochOrder order(static_cast<uint64_t>(c.seed), 0, examples);
  flip_in_example(c.data, order(5 * c.global_batch_size));  // the sixth step's first
  c.save_every = 0;
  const std::string message = message_of<DataError>([&] { run(c); });
  EXPECT_TRUE(has(message, "shard")) << message;
  verify_checkpoint(folder("record") / "checkpoint-5");
  const std::string log = read_bytes(folder("record") / "logs/rank-0.log");
  EXPECT_TRUE(has(log, message) && has(log, "step 5 of 12 is saved")) << log;
  flip_in_example(c.data, order(5 * c.global_batch_size));
  c.resume = "must", c.save_every = 3;  // as of the other run: a checkpoint records it
  run(c);
  expect_same_run(folder("record"), undisturbed(), 12);
}

TEST_F(TrainerTest, DamagedEvaluationDataLosesNoStepAndTheResumedRunEvaluates) {
  TrainConfig c = config("evaluation-record");
  const fs::path held_out = folder("evaluation-data");
  fs::copy(data_ / "held-out", held_out, fs::copy_options::recursive);
  c.evaluation_data = {"held-out=" + held_out.string()};
  flip_in_example(held_out, 0);
  EXPECT_FALSE(message_of<DataError>([&] { run(c); }).empty());
  verify_checkpoint(folder("evaluation-record") / "checkpoint-4");
  EXPECT_EQ(lines_of(folder("evaluation-record") / "metrics.jsonl").size(), 3u);
  flip_in_example(held_out, 0);
  c.resume = "must";
  run(c);
  expect_same_run(folder("evaluation-record"), undisturbed(), 12);
}

TEST_F(TrainerTest, DamagedLineOfTheCurveIsLeftOutAndTold) {
  TrainConfig c = config("curve");
  c.stop_after = 6;
  run(c);
  const fs::path metrics = folder("curve") / "metrics.jsonl";
  const std::string text = read_bytes(metrics);
  const size_t second = text.find('\n') + 1;
  write_bytes(metrics, text.substr(0, second) + "\n" + text.substr(second));
  c.stop_after = 0, c.resume = "auto";
  run(c);
  EXPECT_EQ(curve_of(folder("curve")), curve_of(undisturbed()));
  EXPECT_TRUE(has(read_bytes(folder("curve") / "logs/rank-0.log"),
                  "damaged lines: 1, the first is line 2"));
}

TEST_F(TrainerTest, LaunchThatFailedAtItsStartCanBeRepeated) {
  TrainConfig c = config("again");
  fs::create_directories(folder("again"));
  write_bytes(folder("again") / "logs", "");  // a file, where a folder must be
  EXPECT_TRUE(has(message_of<UsageError>([&] { run(c); }), "logs/rank-0.log: can't be opened"));
  fs::remove(folder("again") / "logs");
  run(c);
  expect_same_run(folder("again"), undisturbed(), 12);
}

// ---- What doesn't fit together -----------------------------------------------------------------

TEST_F(TrainerTest, SettingsThatDontFitTheDataAreRefused) {
  TrainConfig positions = config("x");
  positions.max_position_embeddings = 16;
  EXPECT_TRUE(has(message_of<UsageError>([&] { open_inputs(positions); }),
                  "sequences have up to 24 tokens, expected at most 16"));
  TrainConfig vocabulary = config("x");
  write_bytes(folder("other-vocab.txt"), testing::tiny_vocabulary(41));
  vocabulary.vocab = folder("other-vocab.txt").string();
  EXPECT_TRUE(
      has(message_of<UsageError>([&] { open_inputs(vocabulary); }), "different vocabulary"));
  TrainConfig evaluation = config("x");
  const fs::path other = build_tiny_data(folder("other"), 1, true, 41);
  evaluation.evaluation_data = {other.string()};
  EXPECT_FALSE(message_of<DataError>([&] { open_inputs(evaluation); }).empty());
  TrainConfig pairs = config("x");
  pairs.data = build_tiny_data(folder("single"), 1, false).string();
  EXPECT_TRUE(has(message_of<UsageError>([&] { open_inputs(pairs); }), "Use --no-nsp"));
  TrainConfig device = config("x");
  device.device = "cuda";
  if (!cuda_available()) EXPECT_FALSE(message_of<UsageError>([&] { open_inputs(device); }).empty());
  TrainConfig heads = config("x");
  heads.hidden_size = 33;
  EXPECT_TRUE(has(message_of<UsageError>([&] { open_inputs(heads); }), "Use --hidden-size 34 or"));
  heads.hidden_size = 1024;
  EXPECT_TRUE(has(message_of<UsageError>([&] { open_inputs(heads); }),
                  "num_attention_heads is 2, expected at least 4"));
  TrainConfig unigrams = config("x");
  const fs::path held_out = folder("no-unigrams");
  fs::copy(data_ / "held-out", held_out, fs::copy_options::recursive);
  fs::remove(held_out / "unigram.bin");
  unigrams.evaluation_data = {held_out.string()};
  EXPECT_TRUE(has(message_of<DataError>([&] { open_inputs(unigrams); }), "unigram.bin"));
  TrainConfig missing = config("x");
  missing.data = "/no/such/data";
  EXPECT_TRUE(has(message_of<DataError>([&] { open_inputs(missing); }), "/no/such/data"));
  EXPECT_FALSE(fs::exists(folder("x"))) << "nothing is written before all is checked";
}

TEST_F(TrainerTest, DataWithAnotherVocabularyOfTheSameSizeIsRefused) {
  const fs::path other = folder("swapped");
  fs::copy(data_, other, fs::copy_options::recursive);
  const auto replace = [&](const char* file, const std::string& from, const std::string& to) {
    std::string text = read_bytes(other / file);
    ASSERT_TRUE(has(text, from));
    write_bytes(other / file, text.replace(text.find(from), from.size(), to));
  };
  const auto hash = [&] { return fmt::format("{:016x}", Vocab::load(other / "vocab.txt").hash()); };
  const std::string before = hash();
  replace("vocab.txt", "w3\nw4\n", "w4\nw3\n");
  replace("manifest.json", before, hash());
  TrainConfig c = config("vocabulary");
  c.data = other.string();
  c.evaluation_data.clear();
  c.init_from = (undisturbed() / "latest").string();
  EXPECT_TRUE(has(message_of<UsageError>([&] { open_inputs(c); }), "is a different vocabulary"));
  c.init_from.clear();
  c.resume = (undisturbed() / "latest").string();
  EXPECT_TRUE(has(message_of<UsageError>([&] { run(c); }), "Resume with the data of that run"));
}

TEST_F(TrainerTest, DryRunRefusesWhatTheRunWouldAndWritesNothing) {
  TrainConfig c = config("dry");
  const RunInputs inputs = open_inputs(c);
  const auto usage = [&] { return message_of<UsageError>([&] { check_start(c, inputs); }); };
  const auto checkpoint = [&] {
    return message_of<CheckpointError>([&] { check_start(c, inputs); });
  };
  EXPECT_EQ(usage(), "");
  c.resume = "auto";
  EXPECT_EQ(checkpoint(), "");
  c.resume = "must";
  EXPECT_TRUE(has(checkpoint(), "has no checkpoint, expected one"));
  c.resume = "nope";
  EXPECT_TRUE(has(usage(), "(this path does not exist)"));
  EXPECT_FALSE(fs::exists(folder("dry")));
  c.output_dir = undisturbed().string(), c.resume = "must";
  EXPECT_EQ(checkpoint(), "");
  c.resume = "never";
  EXPECT_TRUE(has(usage(), "expected an empty folder"));
}

}  // namespace
}  // namespace minibert
