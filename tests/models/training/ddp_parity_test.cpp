// ddp_parity_test.cpp: two ranks train as PyTorch's DistributedDataParallel does, with the same weights
// and batches: the first step's gradients and the losses of 16 steps with AdamW. tools/goldens/ddp.py
// made the golden. A step has three micro-batches of different numbers of masked tokens, two of them on
// rank 0. The bounds (tests/tolerance.h): gradients as in models_bert_parity_test; losses within 1e-5,
// or twice PyTorch-float32's own error. Ranks are threads, which talk over the ring in memory.
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "core/parallel.h"
#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "models/training/agreement.h"
#include "models/training/train_step.h"
#include "tests/dist/ranks.h"
#include "tests/models/bert_golden.h"

namespace minibert {
namespace {

using testing::Tolerance;

constexpr int kWorld = 2;

struct Golden {
  const SafetensorsFile file{std::string(std::getenv("MINIBERT_SOURCE_DIR")) +
                             "/tests/goldens/ddp.safetensors"};
  const BertConfig config = BertConfig::from_json(file.metadata().at("config"), "golden");
  /// The rank of each micro-batch.
  const std::vector<int> owner = nlohmann::json::parse(file.metadata().at("owner"));
  const int64_t steps = file.find("losses")->shape[0];

  float number(const char* name) const { return std::stof(file.metadata().at(name)); }

  /// What the loader would give that rank.
  GlobalStep step(int64_t number, int rank) const {
    GlobalStep step;
    step.data_step = number;
    for (size_t i = 0; i < owner.size(); ++i) {
      PackedBatch batch = testing::read_golden_batch(
          file, fmt::format("{}/{}/", number, i),
          {config.vocab_size, config.max_position_embeddings, config.type_vocab_size});
      step.cuts.push_back({step.sequences, batch.sequences(), batch.tokens()});
      step.masked_rows += batch.masked_rows();
      step.sequences += batch.sequences();
      step.tokens += batch.tokens();
      step.squared_lengths += batch.sizes.squared_lengths;
      if (owner[i] != rank) continue;
      step.numbers.push_back(static_cast<int64_t>(i));
      step.micro_batches.push_back(std::move(batch));
    }
    return step;
  }
};

const Golden& golden() {
  static const Golden golden;
  return golden;
}

/// Mean loss of masked tokens and of sequences, a step each, of all ranks. `look` sees the model
/// when the first step's gradients are there.
std::vector<float> train(ProcessGroup& group, bool sharded,
                         const std::function<void(const BertForPreTraining&)>& look) {
  BertForPreTraining model(golden().config, ModelUse::training);
  testing::read_golden_weights(golden().file, model);
  const Schedule schedule({.name = "constant",
                           .learning_rate = golden().number("learning_rate"),
                           .total_steps = golden().steps});
  OptimizerOptions options;
  options.name = "adamw";
  options.weight_decay = golden().number("weight_decay");
  options.max_grad_norm = 0;  // off
  Optimizer optimizer(model.arena(), options, schedule);
  TrainStep step(model, optimizer, {.bucket_bytes = 1, .shard_optimizer = sharded}, &group);
  EXPECT_GE(step.buckets(), 3);
  std::vector<float> losses;
  for (int64_t i = 0; i < golden().steps; ++i) {
    const GlobalStep mine = golden().step(i, group.rank());
    EXPECT_TRUE(step.gradients(mine, i));
    if (i == 0) look(model);
    step.update();
    step.share_weights();
    const StepState state = step.read();
    EXPECT_NE(2 * state.mlm.rows, mine.masked_rows) << "each rank has half of the masked tokens";
    const Agreement all = agree(group, {.mlm = state.mlm, .nsp = state.nsp});
    for (const LossCounts& counts : {all.mlm, all.nsp})
      losses.push_back(static_cast<float>(counts.loss_sum / static_cast<double>(counts.rows)));
  }
  return losses;
}

/// The losses as each rank knows them.
std::vector<std::vector<float>> train_ranks(
    bool sharded, const std::function<void(const BertForPreTraining&)>& look) {
  set_num_threads(1);  // ranks are threads here
  std::vector<std::vector<float>> losses(kWorld);
  auto transports = memory_transports(kWorld, /* timeout= */ 60);
  const auto errors = testing::run_ranks(kWorld, [&](int rank) {
    RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
    losses[static_cast<size_t>(rank)] = train(group, sharded, look);
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
  return losses;
}

void expect_golden_losses(const std::vector<float>& losses) {
  std::vector<float> expected(losses.size()), pytorch_error(losses.size());
  golden().file.read_f32("losses", expected);
  golden().file.read_f32("fp32_loss_error", pytorch_error);
  double worst = 0;
  for (size_t i = 0; i < losses.size(); ++i) {
    const double allowed = std::max(2.0 * pytorch_error[i], Tolerance::model) * expected[i];
    EXPECT_NEAR(losses[i], expected[i], allowed)
        << "step " << i / 2 + 1 << (i % 2 ? " nsp" : " mlm");
    worst = std::max(worst, std::abs(losses[i] - expected[i]) / allowed);
  }
  fmt::print("losses: largest share of tolerance {:.2f}\n", worst);
}

TEST(DdpParity, GradientsEqualPyTorchs) {
  train_ranks(/* sharded= */ false, [](const BertForPreTraining& model) {
    testing::expect_golden_gradients(golden().file, "", model);
  });
}

TEST(DdpParity, LossCurveEqualsPyTorchs) {
  for (const bool sharded : {false, true}) {
    SCOPED_TRACE(sharded ? "sharded optimizer" : "whole optimizer");
    for (const auto& losses : train_ranks(sharded, [](const BertForPreTraining&) {}))
      expect_golden_losses(losses);
  }
}

}  // namespace
}  // namespace minibert
