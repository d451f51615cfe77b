// compare_runs_test.cpp: run folders made by hand, and what is said of each difference.
#include "models/training/compare_runs.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/bert/checkpoint_manifest.h"
#include "models/bert/safetensors.h"
#include "models/training/file_system.h"
#include "models/training/metrics.h"
#include "tests/models/training/messages.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::message_of, testing::TemporaryFolder;

/// What a run of this test has; each test changes something.
struct Made {
  int64_t step = 6;
  std::vector<float> weights = {0.5f, 0.25f, -1}, moments = {0, 1, 2};
  std::string weight_name = "bert.weight", precision = "fp32";
  int threads = 2;
  double loss = 2.5, step_seconds = 0.1;
  int64_t tokens = 64;
  double evaluation = 3;
  int records = 2;
  std::string ratios = "{\"step\": 5, \"tensors\": {}}";
};

class CompareRuns : public ::testing::Test {
 protected:
  fs::path make(const std::string& name, const Made& made) {
    const fs::path run = folder_ / name, checkpoint = run / fmt::format("checkpoint-{}", made.step);
    fs::create_directories(checkpoint);
    std::vector<std::pair<std::string, FileSum>> sums;
    const auto text = [&](const char* file, const std::string& content) {
      sums.emplace_back(file, write_bytes(checkpoint / file, content));
    };
    const auto tensors = [&](const char* file, const std::string& tensor_name,
                             const std::vector<float>& values) {
      const Tensor tensor = Tensor::zeros({static_cast<int64_t>(values.size())}, DType::f32);
      std::ranges::copy(values, tensor.data<float>());
      const NamedTensor named[] = {{tensor_name, tensor}};
      sums.emplace_back(file, write_safetensors((checkpoint / file).string(), named));
    };
    text("config.json", "{}");
    text("vocab.txt", "a\n");
    text("trainer_state.json",
         fmt::format("{{\"data_steps\": {}, \"precision\": \"{}\", \"environment\": {}}}",
                     made.step, made.precision, made.threads));
    tensors("model.safetensors", made.weight_name, made.weights);
    tensors("optimizer.safetensors", "bert.weight.exp_avg", made.moments);
    write_bytes(checkpoint / kCheckpointManifest, checkpoint_manifest(made.step, sums));
    fs::create_directory_symlink(checkpoint.filename(), run / "latest");
    std::string curve;
    for (int step = 1; step <= made.records; ++step) {
      StepRecord record;
      record.step = step;
      record.loss = record.mlm_loss = made.loss;
      record.tokens = made.tokens;
      record.step_seconds = made.step_seconds;
      EvaluationResult evaluation;
      evaluation.mlm_loss = made.evaluation;
      if (step == 2) record.evaluations = {{"held-out", evaluation}};
      curve += to_json(record) + "\n";
    }
    write_bytes(run / "metrics.jsonl", curve);
    write_bytes(run / "trust_ratios.jsonl", made.ratios + "\n");
    return run;
  }

  /// What differs in a run that was made so, from one that was not changed.
  std::string found(const Made& made, double loss_tolerance = 0) {
    const std::string number = std::to_string(++runs_);
    return first_difference(make("run-" + number, made), make("expected-" + number, {}),
                            loss_tolerance)
        .value_or("nothing");
  }

  const TemporaryFolder folder_;
  int runs_ = 0;
};

TEST_F(CompareRuns, TimesAndTheMachineMayDiffer) {
  EXPECT_EQ(found({.threads = 1, .step_seconds = 7}), "nothing");
}

TEST_F(CompareRuns, NamesTensorAndElement) {
  EXPECT_EQ(found({.weights = {0.5f, 0.25f, -1.0000001f}}),
            "model.safetensors: bert.weight[2] is -1.0000001, expected -1");
  EXPECT_EQ(found({.moments = {-0.0f, 1, 2}}),
            "optimizer.safetensors: bert.weight.exp_avg[0] is -0, expected 0");
  EXPECT_EQ(found({.weights = {0.5f}}),
            "model.safetensors: bert.weight is F32 [1], expected F32 [3]");
  EXPECT_EQ(found({.weight_name = "other"}), "model.safetensors: bert.weight is missing");
}

TEST_F(CompareRuns, NamesTheRest) {
  EXPECT_EQ(found({.step = 4}), "latest is checkpoint-4, expected checkpoint-6");
  EXPECT_EQ(found({.precision = "bf16"}),
            "trainer_state.json: precision is \"bf16\", expected \"fp32\"");
  EXPECT_EQ(found({.tokens = 65}), "metrics.jsonl: line 1: tokens of step 1 is 65, expected 64");
  EXPECT_EQ(found({.records = 1}), "metrics.jsonl: 1 lines, expected 2");
  EXPECT_NE(found({.evaluation = 4}).find("metrics.jsonl: line 2: after step 2: \"eval\": "),
            std::string::npos);
  EXPECT_EQ(found({.ratios = "{}"}).find("trust_ratios.jsonl: line 1: \"{}\", expected "), 0u);
}

TEST_F(CompareRuns, LossesMayBeApartByTheTolerance) {
  const double near = 2.5 * (1 + 1e-13);
  EXPECT_EQ(found({.loss = near}, kRankLossTolerance), "nothing");
  EXPECT_EQ(found({.loss = near}).find("metrics.jsonl: line 1: loss of step 1 is 2.5"), 0u);
  EXPECT_NE(found({.loss = 2.5 * (1 + 1e-9)}, kRankLossTolerance), "nothing");
}

TEST_F(CompareRuns, StateIsStepAndChecksums) {
  const auto state = newest_state(make("one", {}));
  ASSERT_TRUE(state);
  EXPECT_EQ(state->step, 6);
  const auto same = newest_state(make("same", {})),
             other = newest_state(make("other", {.weights = {1}}));
  EXPECT_EQ(same->weights, state->weights);
  EXPECT_NE(other->weights, state->weights);
  EXPECT_EQ(other->moments, state->moments);
  fs::create_directory(folder_ / "empty");
  EXPECT_FALSE(newest_state(folder_ / "empty"));
}

TEST_F(CompareRuns, ARunWithoutACheckpointIsAnError) {
  const fs::path run = make("one", {});
  fs::create_directory(folder_ / "empty");
  EXPECT_NE(message_of<CheckpointError>([&] {
              first_difference(folder_ / "empty", run);
            }).find("holds no checkpoint"),
            std::string::npos);
}

}  // namespace
}  // namespace minibert
