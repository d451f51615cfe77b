// checkpoint_test.cpp: what a checkpoint holds comes back bit for bit; what is not finite is never
// written; the writer's thread gives its errors back.
#include "models/training/checkpoint.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/error.h"
#include "models/training/checkpoint_writer.h"
#include "tests/models/training/messages.h"
#include "tests/models/training/tiny_data.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::has, testing::message_of, testing::TemporaryFolder, testing::read_bytes,
    testing::write_bytes;

BertConfig tiny_shape(int64_t hidden = 32) {
  BertConfig config = BertConfig::named("bert-tiny");
  config.vocab_size = 45, config.hidden_size = hidden, config.num_hidden_layers = 1;
  config.num_attention_heads = 2, config.intermediate_size = 64;
  config.max_position_embeddings = 32;
  return config;
}

/// A model after two optimizer steps on made-up gradients.
struct Trained {
  explicit Trained(uint64_t seed, int64_t hidden = 32)
      : model(tiny_shape(hidden)),
        optimizer(model.arena(), {},
                  Schedule({.name = "constant", .learning_rate = 0.01f, .total_steps = 2})) {
    model.initialize(seed);
    DeviceValue<StepState> step_state;
    RandomStream random(seed, StreamPurpose::user, 1);
    for (int step = 0; step < 2; ++step) {
      for (const ParameterSlice& slice : model.arena().table().slices()) {
        float* gradient = model.arena().gradients().data<float>() + slice.offset;
        for (int64_t i = 0; i < slice.used(); ++i)
          gradient[i] = static_cast<float>(random.normal());
      }
      optimizer.step(step_state.get());
    }
    state.data_steps = 3, state.applied_steps = 2, state.seed = seed, state.optimizer = "lamb";
    state.global_batch_size = 8, state.data_fingerprint = "00ff";
    state.environment = current_environment();
  }
  BertForPreTraining model;
  Optimizer optimizer;
  TrainerState state;
};

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : store_(scratch_.path(), files_) {
    write_bytes(scratch_ / "vocab.txt", testing::tiny_vocabulary());
    tokenizer_ = {scratch_ / "vocab.txt", {}};
  }
  std::shared_ptr<Snapshot> snapshot(const Trained& t) {
    return std::make_shared<Snapshot>(t.model, t.optimizer, t.state, tokenizer_);
  }
  TemporaryFolder scratch_;
  FileSystem files_;
  CheckpointStore store_;
  TokenizerFiles tokenizer_;
};

std::vector<float> values(const Tensor& tensor) {
  return {tensor.span<float>().begin(), tensor.span<float>().end()};
}

TEST_F(CheckpointTest, ComesBackBitForBit) {
  Trained before(1), after(2);
  before.state.best = {2, 1.0 / 3};
  before.state.pending_record = StepRecord{.step = 3, .loss = 0.1, .mlm_loss = NAN, .tokens = 7};
  store_.save(3, Snapshot::files(snapshot(before)));
  const TrainerState state =
      load_checkpoint(scratch_ / "checkpoint-3", after.model, after.optimizer);
  EXPECT_EQ(to_json(state), to_json(before.state));
  EXPECT_EQ(state.best->value, 1.0 / 3);
  EXPECT_EQ(state.pending_record->step, 3);
  EXPECT_EQ(state.pending_record->loss, 0.1);
  EXPECT_EQ(state.applied_steps, 2);
  EXPECT_EQ(values(after.model.arena().masters()), values(before.model.arena().masters()));
  const auto moments = after.optimizer.state(), expected = before.optimizer.state();
  for (size_t i = 0; i < moments.size(); ++i)
    EXPECT_EQ(values(moments[i].second), values(expected[i].second)) << moments[i].first;
}

TEST_F(CheckpointTest, SnapshotDoesNotFollowTheTraining) {
  Trained trained(1);
  const auto files = Snapshot::files(snapshot(trained));
  const std::vector<float> before = values(trained.model.arena().masters());
  trained.model.arena().masters().fill_zero();
  store_.save(3, files);
  load_checkpoint(scratch_ / "checkpoint-3", trained.model, trained.optimizer);
  EXPECT_EQ(values(trained.model.arena().masters()), before);
}

TEST_F(CheckpointTest, NonFiniteStateIsRefusedByName) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    Trained trained(1);
    const int number = trained.model.arena().table().count() - 1;
    const std::string name = trained.model.arena().table()[number].name;
    trained.model.arena().weight(number).data<float>()[0] = bad;
    EXPECT_TRUE(has(message_of<NumericError>([&] { snapshot(trained); }), "step 3: " + name));
  }
  Trained trained(1);
  const auto moments = trained.optimizer.state();
  const auto& [name, values] = moments[3];
  values.data<float>()[values.numel() - 1] = NAN;
  trained.optimizer.load_state(moments);
  EXPECT_TRUE(has(message_of<NumericError>([&] { snapshot(trained); }), name));
  Trained large(1);
  large.model.arena().weight(0).data<float>()[0] = 3e38f;
  EXPECT_EQ(message_of<NumericError>([&] { snapshot(large); }), "") << "large is finite";
}

TEST_F(CheckpointTest, OtherShapesNameFileTensorFoundAndExpected) {
  Trained small(1), large(1, 64);
  store_.save(3, Snapshot::files(snapshot(small)));
  const std::string message = message_of<CheckpointError>(
      [&] { load_checkpoint(scratch_ / "checkpoint-3", large.model, large.optimizer); });
  EXPECT_TRUE(has(message, "checkpoint-3/model.safetensors")) << message;
  EXPECT_TRUE(has(message, "32]") && has(message, "64]")) << message;
}

TEST_F(CheckpointTest, StateOfANewerVersionOrWithoutAFieldIsRefused) {
  EXPECT_TRUE(has(
      message_of<CheckpointError>([] { parse_trainer_state("{\"format_version\": 4}", "s.json"); }),
      "s.json: format_version is 4, expected 1 to 3"));
  EXPECT_TRUE(has(
      message_of<CheckpointError>([] { parse_trainer_state("{\"format_version\": 1}", "s.json"); }),
      "s.json: field \"data_steps\" is missing"));
  Trained waiting(1);
  waiting.state.pending_record = StepRecord{.step = 3};
  std::string cut = to_json(waiting.state);
  cut.replace(cut.find("grad_norm"), 4, "GRAD");
  EXPECT_TRUE(has(message_of<CheckpointError>([&] { parse_trainer_state(cut, "s.json"); }),
                  "s.json: field \"pending_record\": "));
  EXPECT_TRUE(has(message_of<CheckpointError>([] { parse_trainer_state("[", "s.json"); }),
                  "s.json: is damaged"));
  // A step of 1e300, or a format of 2^32 + 3, would become some other number.
  const std::string good = to_json(waiting.state);
  const auto with = [&](const char* field, const std::string& value) {
    std::string bad = good;
    const size_t begin = bad.find(field) + std::string_view(field).size();
    bad.replace(begin, bad.find(',', begin) - begin, value);
    return message_of<CheckpointError>([&] { parse_trainer_state(bad, "s.json"); });
  };
  EXPECT_TRUE(
      has(with("\"data_steps\": ", "1e300"), "field \"data_steps\" is 1e+300, expected a whole"));
  EXPECT_TRUE(has(with("\"format_version\": ", "4294967299"), "expected a whole number"));
  EXPECT_TRUE(has(with("\"seed\": ", "-1"), "field \"seed\" is -1, expected a whole number"));
}

// A file that version 0.1.0 at commit 40cb539 wrote.
TEST_F(CheckpointTest, StateOfTheFormerFormatLoads) {
  const TrainerState state = parse_trainer_state(R"json({
 "format_version": 1,
 "data_steps": 20,
 "applied_steps": 20,
 "best": {"step": 20, "mlm_loss": 5.25},
 "pending_record": "",
 "seed": 12345,
 "global_batch_size": 8,
 "optimizer": "lamb",
 "data_fingerprint": "55aa55aa",
 "environment": {"version": "0.1.0", "git_commit": "40cb539", "compiler": "GCC 12.2.0",
                 "libraries": "OpenMP 4.5", "instruction_set": "v3", "gemm": "built-in (v3)",
                 "threads": 2}
})json",
                                                 "s.json");
  EXPECT_EQ(state.data_steps, 20);
  EXPECT_EQ(state.applied_steps, 20);
  EXPECT_EQ(state.best->value, 5.25);
  EXPECT_EQ(state.precision, "fp32");
  EXPECT_FALSE(state.scaler);
  EXPECT_EQ(state.bucket.megabytes, 0);
  EXPECT_EQ(state.phase_starts, std::vector<PhaseStart>{{}}) << "it is in its only phase";
}

TEST_F(CheckpointTest, PhasesAreReadBack) {
  TrainerState state;
  state.phase_starts = {{}, {12, 10}, {40, 36}};
  EXPECT_EQ(parse_trainer_state(to_json(state), "s.json").phase_starts, state.phase_starts);
  std::string other = to_json(state);
  other.replace(other.find("\"first_data_step\": 0"), 20, "\"first_data_step\": 5");
  EXPECT_TRUE(has(message_of<CheckpointError>([&] { parse_trainer_state(other, "s.json"); }),
                  "field \"phases\" does not begin at step 0"));
}

TEST_F(CheckpointTest, PrecisionAndScalerAreReadBack) {
  TrainerState state;
  state.precision = "fp16";
  state.scaler = ScalerState{0x1p40, 17, 3, 2, true};
  const TrainerState again = parse_trainer_state(to_json(state), "s.json");
  EXPECT_EQ(again.precision, "fp16");
  EXPECT_EQ(again.scaler, state.scaler);
  EXPECT_EQ(again.bucket.megabytes, 0);
}

TEST_F(CheckpointTest, TheProbesBucketIsReadBack) {
  TrainerState state;
  state.bucket = {4, 3};
  const TrainerState again = parse_trainer_state(to_json(state), "s.json");
  EXPECT_EQ(again.bucket.megabytes, 4);
  EXPECT_EQ(again.bucket.ranks, 3);
}

TEST_F(CheckpointTest, WriterKeepsTheBestAndReportsErrors) {
  Trained trained(1);
  {
    CheckpointWriter writer(store_, 1);
    for (const int64_t step : {1, 2, 3}) {
      trained.state.data_steps = step;
      trained.state.best = {1, 0.5};
      writer.start(snapshot(trained));
      EXPECT_TRUE(writer.busy());
      EXPECT_EQ(writer.finish(), std::nullopt);
      EXPECT_FALSE(writer.busy());
    }
    EXPECT_EQ(writer.finish(), std::nullopt) << "nothing is under way";
  }
  EXPECT_EQ(fs::read_symlink(scratch_ / "best"), "checkpoint-1");
  EXPECT_EQ(fs::read_symlink(scratch_ / "latest"), "checkpoint-3");
  EXPECT_FALSE(fs::exists(scratch_ / "checkpoint-2"));
  CheckpointStore nowhere(scratch_ / "no/such/folder", files_);
  CheckpointWriter writer(nowhere, 1);
  writer.start(snapshot(trained));
  const auto error = writer.finish();
  ASSERT_TRUE(error);
  EXPECT_TRUE(has(*error, "not saved")) << *error;
}

}  // namespace
}  // namespace minibert
