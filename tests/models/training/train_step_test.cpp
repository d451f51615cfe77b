// train_step_test.cpp: a step needs no answer from the host, asks the system for no memory once it
// has met its sizes, and leaves no trace where it is dropped or skipped. A process of its own, since
// the host guard is for all of it.
#include "models/training/train_step.h"

#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "core/allocator.h"
#include "core/host_guard.h"
#include "core/parallel.h"
#include "models/training/non_finite.h"
#include "tests/models/training/tiny_data.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::build_tiny_data;

class TrainStepTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    HostGuard::enable();
    folder_ = new fs::path(fs::path(::testing::TempDir()) / "minibert_train_step");
    fs::remove_all(*folder_);
    data_ = new std::shared_ptr<const ShardSet>(ShardSet::open(build_tiny_data(*folder_)));
  }
  static void TearDownTestSuite() {
    fs::remove_all(*folder_);
    delete folder_;
    delete data_;
  }
  void TearDown() override { HostGuard::open(); }

  static GlobalStep batch(int64_t number, bool fixed_shapes = false, int64_t micro = 4) {
    const Loader loader(*data_, {.global_batch_size = 8,
                                 .micro_batch_size = micro,
                                 .seed = 3,
                                 .fixed_shapes = fixed_shapes});
    return loader.load(number);
  }
  static fs::path* folder_;
  static std::shared_ptr<const ShardSet>* data_;
};
fs::path* TrainStepTest::folder_ = nullptr;
std::shared_ptr<const ShardSet>* TrainStepTest::data_ = nullptr;

BertConfig small_config() {
  BertConfig config = BertConfig::named("bert-tiny");
  config.vocab_size = 5 + testing::kTinyWords;
  config.hidden_size = 32;
  config.num_attention_heads = 2;
  config.intermediate_size = 48;
  config.max_position_embeddings = 24;
  return config;  // dropout 0.1 everywhere
}

/// A model and all that trains it.
struct Trained {
  BertForPreTraining model;
  Optimizer optimizer;
  TrainStep step;

  explicit Trained(DType dtype = DType::f32, const char* optimizer_name = "lamb",
                   LossScaling scaling = {}, Recompute recompute = Recompute::none)
      : model(small_config(), ModelUse::training, {}, {.dtype = dtype}),
        optimizer(model.arena(), options(optimizer_name), schedule(), scaling),
        step(model, optimizer, {.seed = 5, .nsp = true, .recompute = recompute}) {
    model.initialize(11);
  }
  static OptimizerOptions options(const char* name) {
    OptimizerOptions o;
    o.name = name;
    return o;
  }
  static Schedule schedule() {
    return Schedule({.name = "linear", .learning_rate = 1e-2f, .warmup = 2, .total_steps = 10});
  }
};

std::vector<char> bytes_of(const Tensor& t) {
  std::vector<char> bytes(static_cast<size_t>(t.bytes()));
  std::memcpy(bytes.data(), t.raw(), bytes.size());
  return bytes;
}

struct Variant {
  DType dtype;
  const char* optimizer;
  bool fixed_shapes;
  Recompute recompute;
};

TEST_F(TrainStepTest, NeedsNoAnswerFromTheHost) {
  const Variant variants[] = {{DType::f32, "lamb", false, Recompute::none},
                              {DType::f32, "adamw", true, Recompute::none},
                              {DType::bf16, "lamb", false, Recompute::layer},
                              {DType::bf16, "lamb", true, Recompute::none},
                              {DType::f16, "adamw-google", false, Recompute::none}};
  for (const Variant& v : variants) {
    SCOPED_TRACE(fmt::format("{} {} {}", name_of(v.dtype), v.optimizer, v.fixed_shapes));
    const LossScaling scaling{.enabled = v.dtype == DType::f16, .initial = 1024};
    Trained open(v.dtype, v.optimizer, scaling, v.recompute),
        guarded(v.dtype, v.optimizer, scaling, v.recompute);
    for (int64_t i = 0; i < 3; ++i) {
      const GlobalStep samples = batch(i, v.fixed_shapes);
      open.step.run(samples, i);
      HostGuard::close();
      guarded.step.run(samples, i);  // a read of a tensor on the host would be a fault here
      HostGuard::open();
    }
    EXPECT_EQ(guarded.step.read().applied_steps, 3);
    EXPECT_GT(guarded.step.read().mlm.rows, 0);
    EXPECT_EQ(bytes_of(guarded.model.arena().masters()), bytes_of(open.model.arena().masters()));
  }
}

TEST_F(TrainStepTest, AsksTheSystemForNoMemoryAfterTheSecondStep) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Trained run(dtype);
    std::vector<GlobalStep> steps;
    for (int64_t i = 0; i < 8; ++i) steps.push_back(batch(i, /* fixed_shapes= */ true));
    run.step.run(steps[0], 0);
    run.step.run(steps[1], 1);
    const int64_t before = Allocator::instance().system_allocations();
    for (int64_t i = 2; i < 8; ++i) run.step.run(steps[static_cast<size_t>(i)], i);
    EXPECT_EQ(Allocator::instance().system_allocations(), before) << name_of(dtype);
  }
}

TEST_F(TrainStepTest, RecomputeChangesNoBit) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Trained plain(dtype), again(dtype, "lamb", {}, Recompute::layer);
    for (int64_t i = 0; i < 2; ++i) {
      plain.step.run(batch(i), i);
      again.step.run(batch(i), i);
    }
    EXPECT_EQ(bytes_of(plain.model.arena().masters()), bytes_of(again.model.arena().masters()));
  }
}

TEST_F(TrainStepTest, ADroppedStepLeavesNoTrace) {
  Trained run, undisturbed;
  run.step.run(batch(0), 0);
  EXPECT_FALSE(run.step.accumulate(batch(1), 1, [](size_t i) { return i == 1; }));
  EXPECT_EQ(run.step.read().applied_steps, 1);
  run.step.run(batch(1), 1);
  undisturbed.step.run(batch(0), 0);
  undisturbed.step.run(batch(1), 1);
  EXPECT_EQ(bytes_of(run.model.arena().masters()), bytes_of(undisturbed.model.arena().masters()));
}

TEST_F(TrainStepTest, AnOverflowSkipsTheStepAndHalvesTheScale) {
  LossScaling scaling{.enabled = true, .initial = 0x1p60f};
  Trained run(DType::f16, "lamb", scaling);
  const std::vector<char> masters = bytes_of(run.model.arena().masters()),
                          working = bytes_of(run.model.arena().working());
  run.step.run(batch(0), 0);
  StepState state = run.step.read();
  EXPECT_EQ(state.applied, 0u);
  EXPECT_EQ(state.applied_steps, 0);
  EXPECT_EQ(state.skipped_steps, 1);
  EXPECT_EQ(state.loss_scale, 0x1p59f);
  EXPECT_FALSE(run.optimizer.report(state).bad_gradient.empty());
  EXPECT_EQ(bytes_of(run.model.arena().masters()), masters);
  EXPECT_EQ(bytes_of(run.model.arena().working()), working);
  int64_t i = 1;
  for (; i < 60 && state.applied_steps == 0; ++i) {
    run.step.run(batch(i), i);
    state = run.step.read();
  }
  EXPECT_EQ(state.applied_steps, 1);
  EXPECT_EQ(state.skipped_steps, i - 1);
  EXPECT_NE(bytes_of(run.model.arena().masters()), masters);
  EXPECT_EQ(state.learning_rate, Trained::schedule().learning_rate(0))
      << "skips advanced the schedule";
}

TEST_F(TrainStepTest, StepsBeyondDropoutsCounterAreRefused) {
  Trained run;
  EXPECT_THROW(run.step.accumulate(batch(0), int64_t{kMaxDataStep} + 1), UsageError);
}

TEST_F(TrainStepTest, TheSearchNamesOpAndSampleOfTheFirstNaN) {
  Trained run(DType::bf16);
  EXPECT_EQ(find_non_finite(run.step, batch(0), 0), "");
  // The embedding of a word that one of the step's sequences holds.
  const GlobalStep samples = batch(7);
  const PackedBatch& second = samples.micro_batches[1];
  const int32_t row = 2;
  const int32_t id = second.ids.data<int32_t>()[row];
  Arena& arena = run.model.arena();
  const int words = arena.table().find("bert.embeddings.word_embeddings.weight");
  std::vector<float> weights(static_cast<size_t>(arena.table()[words].used()));
  arena.read(words, weights);
  weights[static_cast<size_t>(id) * 32 + 5] = std::numeric_limits<float>::quiet_NaN();
  arena.write(words, weights);
  arena.refresh();
  const std::string found = find_non_finite(run.step, samples, 7);
  EXPECT_EQ(found.rfind("op embedding, its result", 0), 0u) << found;
  // The first sample that holds the word, in the order of the step.
  int64_t expected = -1;
  for (const PackedBatch& micro_batch : samples.micro_batches) {
    for (int64_t t = 0; t < micro_batch.tokens() && expected < 0; ++t) {
      if (micro_batch.ids.data<int32_t>()[t] == id)
        expected = 7 * 8 + micro_batch.row_sample.data<int32_t>()[t];
    }
  }
  EXPECT_NE(found.find(fmt::format("sample {} ", expected)), std::string::npos) << found;
  EXPECT_EQ(run.optimizer.first_non_finite_weight(), "bert.embeddings.word_embeddings.weight");
}

}  // namespace
}  // namespace minibert
