// train_step_ranks_test.cpp: a step on several ranks is the step of one rank: bit for bit where it is
// deterministic, else but for the order of sums. Ranks are threads, which talk over the ring in memory.
#include <algorithm>
#include <atomic>
#include <limits>
#include <span>
#include <thread>

#include "autograd/tape.h"
#include "core/parallel.h"
#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "models/training/agreement.h"
#include "models/training/dealing.h"
#include "models/training/evaluation.h"
#include "models/training/train_step.h"
#include "tests/dist/ranks.h"
#include "tests/models/training/tiny_data.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;
using testing::build_tiny_data;
using testing::run_ranks;
using testing::Tolerance;

constexpr double kTimeout = 60;

BertConfig small_config() {
  BertConfig config = BertConfig::named("bert-tiny");
  config.vocab_size = 5 + testing::kTinyWords;
  config.hidden_size = 64;
  config.num_attention_heads = 2;
  config.intermediate_size =
      300;  // a matrix of 19,200 elements, more than a chunk of the optimizer
  config.max_position_embeddings = 24;
  return config;  // dropout 0.1 everywhere
}

struct RankRun {
  int world = 1;
  bool deterministic = false;
  DType dtype = DType::f32;
  float loss_scale = 0;  // 0: off
  int64_t steps = 10;
  int64_t micro_batch_size = 4;
  const char* optimizer = "lamb";
  bool sharded = false;
  Recompute recompute = Recompute::none;
};

/// What a run leaves on one rank.
struct Trained {
  std::vector<float> weights, working, first_moment, second_moment, ratios;
  int64_t state_elements = 0;
  std::vector<double> losses;  // of all ranks' samples, a step each
  int64_t skipped = 0;
};

class TrainStepRanks : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    set_num_threads(1);  // ranks are threads here
    folder_ = new fs::path(fs::path(::testing::TempDir()) / "minibert_train_step_ranks");
    fs::remove_all(*folder_);
    data_ = new std::shared_ptr<const ShardSet>(ShardSet::open(build_tiny_data(*folder_)));
  }
  static void TearDownTestSuite() {
    fs::remove_all(*folder_);
    delete folder_;
    delete data_;
  }

  static Trained train(const RankRun& run, ProcessGroup& group) {
    BertForPreTraining model(small_config(), ModelUse::training, {}, {.dtype = run.dtype});
    model.initialize(11);
    OptimizerOptions options;
    options.name = run.optimizer;
    const Schedule schedule(
        {.name = "linear", .learning_rate = 1e-2f, .warmup = 2, .total_steps = 60});
    const LossScaling scaling{.enabled = run.loss_scale > 0, .initial = run.loss_scale};
    Optimizer optimizer(model.arena(), options, schedule, scaling);
    TrainStep step(model, optimizer,
                   {.seed = 5,
                    .recompute = run.recompute,
                    .deterministic = run.deterministic,
                    .bucket_bytes = 1,  // the smallest buckets that there are
                    .shard_optimizer = run.sharded},
                   &group);
    const Loader loader(
        *data_, {.global_batch_size = 20, .micro_batch_size = run.micro_batch_size, .seed = 3});
    Trained trained;
    for (int64_t i = 0; i < run.steps; ++i) {
      StepPlan plan = loader.plan(i);
      Deal deal = deal_of(plan, group.world(), run.deterministic);
      const GlobalStep mine =
          loader.load(std::move(plan), std::move(deal[static_cast<size_t>(group.rank())]));
      step.run(mine, i);
      const StepState state = step.read();
      const Agreement all = agree(group, {.mlm = state.mlm, .nsp = state.nsp});
      EXPECT_EQ(all.mlm.rows, mine.masked_rows);
      EXPECT_EQ(all.nsp.rows, mine.sequences);
      trained.losses.push_back(all.mlm.loss_sum / static_cast<double>(all.mlm.rows) +
                               all.nsp.loss_sum / static_cast<double>(all.nsp.rows));
      trained.skipped = state.skipped_steps;
    }
    const auto floats = [](const Tensor& t) {
      return std::vector<float>(t.span<float>().begin(), t.span<float>().end());
    };
    step.gather_masters();
    trained.weights = floats(model.arena().masters());
    trained.working = floats(model.arena().working().to(DType::f32));
    for (const auto& [name, moment] : optimizer.state()) {
      std::vector<float>& to =
          name.ends_with(".exp_avg") ? trained.first_moment : trained.second_moment;
      to.insert(to.end(), moment.span<float>().begin(), moment.span<float>().end());
    }
    trained.state_elements = optimizer.moment_buffers()[0].numel();
    for (const TensorNorms& norm : optimizer.norms()) trained.ratios.push_back(norm.trust_ratio);
    return trained;
  }

  /// Of each rank.
  static std::vector<Trained> train(const RankRun& run) {
    std::vector<Trained> trained(static_cast<size_t>(run.world));
    auto transports = memory_transports(run.world, kTimeout);
    const auto errors = run_ranks(run.world, [&](int rank) {
      RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
      trained[static_cast<size_t>(rank)] = train(run, group);
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
    return trained;
  }

  static fs::path* folder_;
  static std::shared_ptr<const ShardSet>* data_;
};
fs::path* TrainStepRanks::folder_ = nullptr;
std::shared_ptr<const ShardSet>* TrainStepRanks::data_ = nullptr;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(std::as_bytes(std::span(a)), std::as_bytes(std::span(b)));
}

bool same_bits(const Trained& a, const Trained& b) {
  return same_bits(a.weights, b.weights) && same_bits(a.working, b.working) &&
         same_bits(a.first_moment, b.first_moment) && same_bits(a.second_moment, b.second_moment) &&
         same_bits(a.ratios, b.ratios);
}

// 1 x 20, 5 x 4 (uneven on every world) and 10 x 2 sequences; fp16 from a scale that overflows.
TEST_F(TrainStepRanks, DeterministicRunsHaveTheSameBits) {
  const RankRun runs[] = {
      {.dtype = DType::f32, .steps = 50, .micro_batch_size = 4},
      {.dtype = DType::f32, .steps = 10, .micro_batch_size = 20},
      {.dtype = DType::f32, .steps = 10, .micro_batch_size = 2, .optimizer = "adamw"},
      {.dtype = DType::bf16, .steps = 10, .micro_batch_size = 4},
      {.dtype = DType::f16, .loss_scale = 0x1p30f, .steps = 20, .micro_batch_size = 4}};
  for (RankRun run : runs) {
    run.deterministic = true;
    const Trained alone = train(run)[0];
    for (const int world : {2, 4}) {
      run.world = world;
      SCOPED_TRACE(fmt::format("{}, micro-batches of {}, {} ranks", name_of(run.dtype),
                               run.micro_batch_size, world));
      for (const Trained& rank : train(run)) {
        EXPECT_TRUE(same_bits(rank, alone));
        EXPECT_EQ(rank.skipped, alone.skipped);
        for (size_t i = 0; i < alone.losses.size(); ++i)
          EXPECT_NEAR(rank.losses[i], alone.losses[i], 1e-12) << i;  // sums in double
      }
    }
    if (run.loss_scale > 0) {
      EXPECT_GT(alone.skipped, 3);
      EXPECT_LT(alone.skipped, 15);
    }
  }
}

// In the order that ranks come to. Four ranks have three micro-batches: one of them has none.
TEST_F(TrainStepRanks, OthersDifferByTheOrderOfSumsAlone) {
  for (const int64_t micro_batch_size : {2, 5, 10}) {
    RankRun run{.steps = 5, .micro_batch_size = micro_batch_size};
    const Trained alone = train(run)[0];
    for (const int world : {2, 3, 4}) {
      SCOPED_TRACE(fmt::format("micro-batches of {}, {} ranks", micro_batch_size, world));
      run.world = world;
      const std::vector<Trained> ranks = train(run);
      for (const Trained& rank : ranks) {
        EXPECT_TRUE(same_bits(rank, ranks[0])) << "ranks have drifted apart";
        EXPECT_LT(testing::relative_error(rank.weights, alone.weights), Tolerance::optimizer * 10);
        for (size_t i = 0; i < alone.losses.size(); ++i)
          EXPECT_NEAR(rank.losses[i], alone.losses[i], Tolerance::model * alone.losses[i]) << i;
      }
    }
  }
}

// The ring sums both in the same order, so bits must be equal on 3 ranks too. Borders of shards lie
// within tensors: some are larger than a chunk.
TEST_F(TrainStepRanks, ShardedIsUnsharded) {
  const RankRun runs[] = {{.steps = 5},
                          {.steps = 5, .optimizer = "adamw"},
                          {.deterministic = true, .steps = 5},
                          {.dtype = DType::bf16, .steps = 5, .recompute = Recompute::layer},
                          {.dtype = DType::f16, .loss_scale = 0x1p30f, .steps = 12}};
  for (RankRun run : runs) {
    for (const int world : {2, 3, 4}) {
      if (world == 4 && run.dtype != DType::f32) continue;  // seconds
      if (run.deterministic && world == 3) continue;
      SCOPED_TRACE(fmt::format("{} {}, {} ranks", name_of(run.dtype), run.optimizer, world));
      run.world = world, run.sharded = false;
      const Trained whole = train(run)[0];
      run.sharded = true;
      int64_t elements = 0;
      for (const Trained& rank : train(run)) {
        EXPECT_TRUE(same_bits(rank, whole));
        EXPECT_EQ(rank.skipped, whole.skipped);
        EXPECT_LT(rank.state_elements, whole.state_elements);
        elements += rank.state_elements;
      }
      EXPECT_EQ(elements, whole.state_elements);
    }
  }
}

// Norms of gradients by tensor (lans), of weights before the moments (lars-mlperf), one moment: what
// the others have not.
TEST_F(TrainStepRanks, ShardedIsUnshardedForEachKindOfRatio) {
  for (const char* optimizer : {"lans", "lars", "lars-mlperf", "sgd"}) {
    SCOPED_TRACE(optimizer);
    RankRun run{.world = 3, .steps = 3, .optimizer = optimizer};
    const Trained whole = train(run)[0];
    EXPECT_EQ(whole.second_moment.empty(), std::string(optimizer) != "lans");
    run.sharded = true;
    for (const Trained& rank : train(run)) EXPECT_TRUE(same_bits(rank, whole));
  }
}

// ---- Weights on their way while forward runs ---------------------------------------------------

/// Holds one collective back until it is let go; what comes behind it waits, too.
struct Gate {
  std::atomic<uint64_t> held = std::numeric_limits<uint64_t>::max();  // its number
  std::atomic<bool> open = true;
};

class GatedTransport : public Transport {
 public:
  GatedTransport(std::unique_ptr<Transport> inner, Gate& gate)
      : inner_(std::move(inner)), gate_(gate) {}
  int rank() const override { return inner_->rank(); }
  int world() const override { return inner_->world(); }
  void send(int to, std::span<const std::byte> bytes, uint64_t tag) override {
    inner_->send(to, bytes, tag_ = tag);
  }
  void receive(int from, std::span<std::byte> bytes, uint64_t tag) override {
    inner_->receive(from, bytes, tag_ = tag);
  }
  void finish() override {
    const double start = seconds_now();
    while (tag_ >= gate_.held && !gate_.open) {
      MB_CHECK_AS(CommError, seconds_now() - start < kTimeout / 4, "the gate stayed shut");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    inner_->finish();
  }

 private:
  const std::unique_ptr<Transport> inner_;
  Gate& gate_;
  uint64_t tag_ = 0;
};

/// One rank of two that trains with shards, in the hands of a test.
class Sharded {
 public:
  Sharded(ProcessGroup& group, const std::shared_ptr<const ShardSet>& data, DType dtype)
      : group_(group),
        model(small_config(), ModelUse::training, {}, {.dtype = dtype}),
        optimizer_(model.arena(), {},
                   Schedule({.name = "constant", .learning_rate = 1e-2f, .total_steps = 60})),
        step(model, optimizer_,
             {.seed = 5, .bucket_bytes = 1, .shard_optimizer = group.world() > 1}, &group),
        loader_(data, {.global_batch_size = 20, .micro_batch_size = 10, .seed = 3}) {
    model.initialize(11);
  }
  GlobalStep batch(int64_t number) const {
    StepPlan plan = loader_.plan(number);
    Deal deal = deal_of(plan, group_.world(), /* in_order= */ false);
    return loader_.load(std::move(plan), std::move(deal[static_cast<size_t>(group_.rank())]));
  }
  void compute(int64_t number) {
    EXPECT_TRUE(step.gradients(batch(number), number));
    step.update();
  }
  /// Begins to share the weights; the last part of them stays behind the gate.
  void share_but_the_last(Gate& gate) {
    gate.open = false;
    gate.held = 0;
    step.share_weights();
    gate.held = static_cast<uint64_t>(group_.sequence());
  }

 private:
  ProcessGroup& group_;

 public:
  BertForPreTraining model;

 private:
  Optimizer optimizer_;

 public:
  TrainStep step;

 private:
  Loader loader_;
};

/// body(group, gate) on each of two ranks, whose transport has a gate. Returns their errors.
std::vector<std::string> run_gated(const std::function<void(ProcessGroup&, Gate&)>& body) {
  auto transports = memory_transports(2, kTimeout);
  Gate gates[2];
  return run_ranks(2, [&](int rank) {
    RingGroup group(std::make_unique<GatedTransport>(
        std::move(transports[static_cast<size_t>(rank)]), gates[rank]));
    body(group, gates[rank]);
  });
}

std::vector<float> floats_of(const Tensor& values) {
  const Tensor wide = values.to(DType::f32);
  return {wide.span<float>().begin(), wide.span<float>().end()};
}

// A rank's gate opens when its next step has computed the embeddings. Were all weights waited for
// before, it would stay shut.
TEST_F(TrainStepRanks, ForwardBeginsWhileWeightsAreOnTheirWay) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    std::vector<float> weights[2];
    const auto errors = run_gated([&](ProcessGroup& group, Gate& gate) {
      Sharded rank(group, *data_, dtype);
      int64_t early = 0;  // results of ops before the last weights came
      for (int64_t i = 0; i < 3; ++i) {
        {
          const ObserverScope scope([&](const char* op, const char* what, const Tensor&) {
            if (gate.open) return;
            EXPECT_STREQ(what, "result") << op;
            ++early;
            gate.open = std::string(op) == "layer_norm";  // of the embeddings
          });
          rank.compute(i);
        }
        EXPECT_EQ(early, 2 * i) << "embedding and layer_norm";
        rank.share_but_the_last(gate);
      }
      gate.open = true;
      rank.step.gather_masters();
      weights[group.rank()] = floats_of(rank.model.arena().masters());
      EXPECT_GT(rank.step.communication().exposed_seconds, 0);
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
    const auto group = self_group();
    EXPECT_TRUE(same_bits(weights[0], weights[1]));
    Sharded whole(*group, *data_, dtype);
    for (int64_t i = 0; i < 3; ++i) whole.compute(i);
    EXPECT_LT(testing::relative_error(weights[0], floats_of(whole.model.arena().masters())),
              Tolerance::optimizer * 10);
  }
}

// Whatever reads weights before they are all there: an evaluation, a checkpoint, who has a leaf.
TEST_F(TrainStepRanks, WhoReadsEarlyGetsWholeWeights) {
  const auto held_out = ShardSet::open(*folder_ / "data/held-out");
  const EvaluationOptions options{.micro_batch_size = 8, .max_batches = 2};
  using Read = std::function<std::vector<float>(Sharded&)>;
  const std::vector<std::pair<const char*, Read>> readers = {
      {"evaluation",
       [&](Sharded& rank) {
         const auto result = evaluate(rank.model, held_out, options);
         return std::vector{static_cast<float>(result->mlm_loss),
                            static_cast<float>(*result->nsp_loss)};
       }},
      {"checkpoint",
       [](Sharded& rank) {
         rank.step.gather_masters();
         return floats_of(rank.model.arena().masters());
       }},
      {"leaf", [](Sharded& rank) { return floats_of(rank.model.leaves().back().value()); }}};
  for (const auto& [name, read] : readers) {
    SCOPED_TRACE(name);
    std::vector<float> early[2], late[2];
    const auto errors = run_gated([&](ProcessGroup& group, Gate& gate) {
      Sharded rank(group, *data_, DType::bf16);
      rank.compute(0);
      rank.share_but_the_last(gate);
      std::thread opener([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        gate.open = true;
      });
      early[group.rank()] = read(rank);
      EXPECT_TRUE(gate.open);
      opener.join();
      rank.step.gather_masters();
      late[group.rank()] = read(rank);
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
    for (int rank = 0; rank < 2; ++rank) EXPECT_TRUE(same_bits(early[rank], late[rank])) << rank;
    EXPECT_TRUE(same_bits(early[0], early[1]));
  }
}

TEST_F(TrainStepRanks, WhoReadsHearsOfALostRank) {
  const auto errors = run_gated([&](ProcessGroup& group, Gate&) {
    Sharded rank(group, *data_, DType::f32);
    rank.compute(0);
    if (group.rank() == 1) throw std::runtime_error("lost");
    rank.step.share_weights();
    rank.compute(1);
  });
  EXPECT_EQ(errors[1], "lost");
  EXPECT_NE(errors[0].find("all_gather #"), std::string::npos) << errors[0];
  EXPECT_NE(errors[0].find("rank 1 is gone"), std::string::npos) << errors[0];
}

// The gradients of a step are those of one rank, whatever lay in the buffers before.
TEST_F(TrainStepRanks, ARankWithoutAMicroBatchAddsNothing) {
  RankRun run{.world = 4, .steps = 3, .micro_batch_size = 20};  // one micro-batch
  const std::vector<Trained> ranks = train(run);
  run.world = 1;
  EXPECT_TRUE(same_bits(ranks[3], train(run)[0]));
}

}  // namespace
}  // namespace minibert
