// agreement_test.cpp: what one rank knows, all know.
#include "models/training/agreement.h"

#include <cmath>
#include <cstring>

#include "dist/memory_transport.h"
#include "dist/ring_group.h"
#include "tests/dist/ranks.h"

namespace minibert {
namespace {

void on_ranks(int world, const std::function<void(ProcessGroup&)>& body) {
  auto transports = memory_transports(world, /* timeout= */ 30);
  const auto errors = testing::run_ranks(world, [&](int rank) {
    RingGroup group(std::move(transports[static_cast<size_t>(rank)]));
    body(group);
  });
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

TEST(Agreement, SumsCountsAndHearsEveryRank) {
  on_ranks(3, [](ProcessGroup& ranks) {
    const int64_t r = ranks.rank();
    const Agreement all = agree(ranks, {.mlm = {0.5 + static_cast<double>(r), 10 + r, r},
                                        .nsp = {0.25, 4, 1},
                                        .stop = r == 2,
                                        .save = false});
    EXPECT_EQ(all.mlm.loss_sum, 4.5);
    EXPECT_EQ(all.mlm.rows, 33);
    EXPECT_EQ(all.mlm.correct, 3);
    EXPECT_EQ(all.nsp.loss_sum, 0.75);
    EXPECT_EQ(all.nsp.rows, 12);
    EXPECT_EQ(all.nsp.correct, 3);
    EXPECT_TRUE(all.stop);
    EXPECT_FALSE(all.save);
    EXPECT_TRUE(agree(ranks, {.save = r == 0}).save);
  });
}

TEST(Agreement, OneRankThatSaysSoIsEnough) {
  for (const int one : {0, 1, 2})
    on_ranks(3, [&](ProcessGroup& ranks) { EXPECT_TRUE(any_rank(ranks, ranks.rank() == one)); });
  on_ranks(3, [](ProcessGroup& ranks) { EXPECT_FALSE(any_rank(ranks, false)); });
}

// A NaN on one rank is everybody's.
TEST(Agreement, KeepsNaN) {
  on_ranks(2, [](ProcessGroup& ranks) {
    const double loss = ranks.rank() == 1 ? std::nan("") : 1;
    EXPECT_TRUE(std::isnan(agree(ranks, {.mlm = {loss, 1, 0}}).mlm.loss_sum));
  });
}

TEST(Agreement, SharesTextOfAnyLength) {
  on_ranks(2, [](ProcessGroup& ranks) {
    for (const size_t size : {0u, 1u, 7u, 8u, 9u, 1000u}) {
      const std::string expected(size, 'x');
      std::string text = ranks.rank() == 0 ? expected : "something else";
      share_text(ranks, text);
      EXPECT_EQ(text, expected);
    }
  });
}

TEST(Agreement, SharesTheStateThatRankZeroGoesOnFrom) {
  on_ranks(3, [](ProcessGroup& ranks) {
    BertConfig config = BertConfig::named("bert-tiny");
    config.vocab_size = 64, config.hidden_size = 16, config.num_attention_heads = 2;
    config.intermediate_size = 16, config.max_position_embeddings = 8;
    BertForPreTraining model(config, ModelUse::training, {}, {.dtype = DType::bf16});
    Optimizer optimizer(model.arena(), {}, Schedule({.total_steps = 10}));
    model.initialize(static_cast<uint64_t>(ranks.rank()));
    TrainerState state;
    const auto moments = optimizer.moment_buffers();
    if (ranks.rank() == 0) {
      state.data_steps = 7, state.applied_steps = 5, state.best = {4, 2.5};
      for (size_t i = 0; i < moments[0].span<float>().size(); ++i)
        moments[0].span<float>()[i] = static_cast<float>(i), moments[1].span<float>()[i] = 2;
    }
    share_start(ranks, state, model, optimizer);
    EXPECT_EQ(state.data_steps, 7);
    EXPECT_EQ(state.applied_steps, 5);
    ASSERT_TRUE(state.best);
    EXPECT_EQ(state.best->value, 2.5);
    EXPECT_EQ(moments[0].span<float>()[3], 3);
    EXPECT_EQ(moments[1].span<float>()[3], 2);

    BertForPreTraining first(config, ModelUse::training, {}, {.dtype = DType::bf16});
    first.initialize(0);
    for (const auto part : {&Arena::masters, &Arena::working}) {
      const Tensor& got = (model.arena().*part)();
      const Tensor& expected = (first.arena().*part)();
      EXPECT_EQ(std::memcmp(got.raw(), expected.raw(), static_cast<size_t>(got.bytes())), 0);
    }
  });
}

}  // namespace
}  // namespace minibert
