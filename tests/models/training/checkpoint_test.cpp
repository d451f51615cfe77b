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
      : model(tiny_shape(hidden)), optimizer(model.arena(), {}) {
    model.initialize(seed);
    RandomStream random(seed, StreamPurpose::user, 1);
    for (int step = 0; step < 2; ++step) {
      for (const ParameterSlice& slice : model.arena().table().slices()) {
        float* gradient = model.arena().gradients().data<float>() + slice.offset;
        for (int64_t i = 0; i < slice.used(); ++i)
          gradient[i] = static_cast<float>(random.normal());
      }
      optimizer.step(0.01f);
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
  before.state.pending_record = "{\"step\": 3}";
  store_.save(3, Snapshot::files(snapshot(before)));
  const TrainerState state =
      load_checkpoint(scratch_ / "checkpoint-3", after.model, after.optimizer);
  EXPECT_EQ(to_json(state), to_json(before.state));
  EXPECT_EQ(state.best->mlm_loss, 1.0 / 3);
  EXPECT_EQ(after.optimizer.applied_steps(), 2);
  EXPECT_EQ(values(after.model.arena().weights()), values(before.model.arena().weights()));
  const auto moments = after.optimizer.state(), expected = before.optimizer.state();
  for (size_t i = 0; i < moments.size(); ++i)
    EXPECT_EQ(values(moments[i].second), values(expected[i].second)) << moments[i].first;
}

TEST_F(CheckpointTest, SnapshotDoesNotFollowTheTraining) {
  Trained trained(1);
  const auto files = Snapshot::files(snapshot(trained));
  const std::vector<float> before = values(trained.model.arena().weights());
  trained.model.arena().weights().fill_zero();
  store_.save(3, files);
  load_checkpoint(scratch_ / "checkpoint-3", trained.model, trained.optimizer);
  EXPECT_EQ(values(trained.model.arena().weights()), before);
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
  const auto moment = trained.optimizer.state()[3];
  moment.second.data<float>()[moment.second.numel() - 1] = NAN;
  EXPECT_TRUE(has(message_of<NumericError>([&] { snapshot(trained); }), moment.first));
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
      message_of<CheckpointError>([] { parse_trainer_state("{\"format_version\": 2}", "s.json"); }),
      "s.json: format_version is 2, expected 1 to 1"));
  EXPECT_TRUE(has(
      message_of<CheckpointError>([] { parse_trainer_state("{\"format_version\": 1}", "s.json"); }),
      "s.json: field \"data_steps\" is missing"));
  EXPECT_TRUE(has(message_of<CheckpointError>([] { parse_trainer_state("[", "s.json"); }),
                  "s.json: is damaged"));
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
