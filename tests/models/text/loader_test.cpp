// loader_test.cpp: what a step holds is a pure function of seed and step; epochs cover the data;
// cutting into micro-batches changes nothing. Expected values: the fixture's examples themselves.
#include "models/text/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "models/text/loader_prefetch.h"
#include "tests/models/batch_fields.h"
#include "tests/models/text/shard_fixture.h"

namespace minibert {
namespace {

using testing::FixtureOptions;
using testing::TemporaryFolder;
using testing::values;

/// One sample as the model meets it, taken out of its packed batch.
struct Sample {
  std::vector<int32_t> ids, segment, position, masked, labels;
  int32_t nsp = -1;
  bool operator==(const Sample&) const = default;
};

/// The samples of a step by `sample`, checking the batch's own rules on the way.
std::map<int32_t, Sample> samples_of(const std::vector<PackedBatch>& batches) {
  std::map<int32_t, Sample> samples;
  for (const PackedBatch& batch : batches) {
    const auto ids = values(batch.ids), segment = values(batch.segment),
               position = values(batch.position), row_sample = values(batch.row_sample),
               begin = values(batch.cu_seqlens), row = testing::masked_rows(batch),
               label = values(batch.mlm_label), number = values(batch.sample),
               nsp = values(batch.nsp_label);
    EXPECT_TRUE(std::is_sorted(row.begin(), row.end()));
    EXPECT_EQ(begin.front(), 0);
    for (size_t b = 0; b < static_cast<size_t>(batch.sequences()); ++b) {
      Sample sample;
      for (int32_t i = begin[b]; i < begin[b + 1]; ++i) {
        const auto at = static_cast<size_t>(i);
        sample.ids.push_back(ids[at]);
        sample.segment.push_back(segment[at]);
        sample.position.push_back(position[at]);
        EXPECT_EQ(position[at], i - begin[b]);
        EXPECT_EQ(row_sample[at], number[b]);
      }
      for (size_t p = 0; p < row.size(); ++p) {
        if (row[p] < begin[b] || row[p] >= begin[b + 1]) continue;
        sample.masked.push_back(row[p] - begin[b]);
        sample.labels.push_back(label[p]);
      }
      if (!nsp.empty()) sample.nsp = nsp[b];
      EXPECT_TRUE(samples.emplace(number[b], sample).second) << "sample " << number[b] << " twice";
    }
  }
  return samples;
}

class LoaderTest : public ::testing::Test {
 protected:
  std::shared_ptr<const ShardSet> shards(const FixtureOptions& options = {}) {
    const auto folder = folder_ / std::to_string(made_++);
    std::filesystem::create_directory(folder);
    testing::write_fixture(folder, options);
    return ShardSet::open(folder);
  }
  TemporaryFolder folder_;
  int made_ = 0;
};

TEST(EpochOrder, IsAPermutationForEverySize) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 16, 17, 37, 100, 1023, 1024, 1025}) {
    for (uint32_t epoch : {0u, 1u, 5u}) {
      const EpochOrder order(99, epoch, n);
      std::set<int64_t> seen;
      for (int64_t i = 0; i < n; ++i) seen.insert(order(i));
      EXPECT_EQ(static_cast<int64_t>(seen.size()), n) << "n " << n << " epoch " << epoch;
      EXPECT_EQ(*seen.begin(), 0);
      EXPECT_EQ(*seen.rbegin(), n - 1);
    }
  }
}

// Each place shows each example about equally often over epochs: chi-square with 36 * 36 degrees of
// freedom, mean 1296 and standard deviation sqrt(2 * 1296) = 51; six of them allowed.
TEST(EpochOrder, ShowsEachExampleAtEachPlaceEquallyOften) {
  constexpr int kSize = 37, kEpochs = 3700;
  std::vector<int> counts(kSize * kSize);
  for (uint32_t epoch = 0; epoch < kEpochs; ++epoch) {
    const EpochOrder order(1, epoch, kSize);
    for (int64_t i = 0; i < kSize; ++i) ++counts[static_cast<size_t>(i * kSize + order(i))];
  }
  const double expected = static_cast<double>(kEpochs) / kSize;
  double chi_square = 0;
  for (const int count : counts) chi_square += (count - expected) * (count - expected) / expected;
  EXPECT_LT(std::abs(chi_square - 1296), 6 * 51);
}

// Neighbours in an epoch are not neighbours in the data: how often does place i + 1 show the
// example behind that of place i? 1 / n of the time in a random order; binomial, six standard
// deviations.
TEST(EpochOrder, SeparatesNeighbours) {
  constexpr int64_t kSize = 10007;
  int64_t followed = 0;
  for (uint32_t epoch = 0; epoch < 20; ++epoch) {
    const EpochOrder order(5, epoch, kSize);
    for (int64_t i = 0; i + 1 < kSize; ++i) followed += order(i + 1) == order(i) + 1;
  }
  EXPECT_LE(followed, 20 + 6 * 5);
}

TEST_F(LoaderTest, EachEpochCoversEachExampleOnce) {
  FixtureOptions fixture;  // 37 examples
  const auto set = shards(fixture);
  LoaderOptions options{.global_batch_size = 10, .micro_batch_size = 5};
  const Loader loader(set, options);
  std::vector<Sample> stream;
  for (int64_t step = 0; step < 12; ++step) {  // three epochs and a bit
    for (auto& [number, sample] : samples_of(loader.load(step).micro_batches)) {
      EXPECT_EQ(static_cast<int64_t>(stream.size()), step * 10 + number);
      stream.push_back(sample);
    }
  }
  std::vector<std::vector<int>> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<int> seen(37), order;
    for (int i = 0; i < 37; ++i) {
      const Sample& sample = stream[static_cast<size_t>(epoch * 37 + i)];
      for (int e = 0; e < 37; ++e) {
        const StoredExample expected = testing::fixture_stored(e, fixture);
        if (sample.ids != expected.example.ids || sample.labels != expected.masked_labels) continue;
        EXPECT_EQ(sample.masked, expected.masked_positions);
        EXPECT_EQ(sample.nsp, expected.example.nsp_label);
        EXPECT_EQ(std::count(sample.segment.begin(), sample.segment.end(), 0),
                  expected.example.first_segment);
        ++seen[static_cast<size_t>(e)];
        order.push_back(e);
      }
    }
    EXPECT_EQ(seen, std::vector<int>(37, 1)) << "epoch " << epoch;
    orders.push_back(order);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST_F(LoaderTest, CuttingIntoMicroBatchesChangesNoSample) {
  for (const bool dynamic : {false, true}) {
    const auto set = shards({.examples = 101, .dynamic = dynamic});
    const GlobalStep once =
        Loader(set, {.global_batch_size = 32, .micro_batch_size = 32}).load(/* data_step= */ 5);
    const auto expected = samples_of(once.micro_batches);
    EXPECT_EQ(expected.size(), 32u);
    EXPECT_EQ(once.micro_batches.size(), 1u);
    const GlobalStep four = Loader(set, {.global_batch_size = 32, .micro_batch_size = 8}).load(5);
    EXPECT_EQ(four.micro_batches.size(), 4u);
    const GlobalStep tight =
        Loader(set, {.global_batch_size = 32, .micro_batch_size = 8, .token_capacity = 24}).load(5);
    EXPECT_GT(tight.micro_batches.size(), 4u);
    for (const GlobalStep* step : {&four, &tight}) {
      EXPECT_EQ(samples_of(step->micro_batches), expected);
      EXPECT_EQ(step->masked_rows, once.masked_rows);
      EXPECT_EQ(step->tokens, once.tokens);
      EXPECT_EQ(step->sequences, 32);
    }
  }
}

TEST_F(LoaderTest, KeepsToBothLimitsAndCountsTheStep) {
  const auto set = shards({.examples = 200});
  const Loader loader(set, {.global_batch_size = 60, .micro_batch_size = 6, .token_capacity = 60});
  const GlobalStep step = loader.load(3);
  int64_t sequences = 0, tokens = 0, masked = 0;
  for (size_t i = 0; i < step.micro_batches.size(); ++i) {
    const PackedBatch& batch = step.micro_batches[i];
    EXPECT_LE(batch.tokens(), 60);
    EXPECT_LE(batch.sequences(), 6);
    EXPECT_GE(batch.sequences(), 1);
    EXPECT_EQ(batch.rows(), batch.tokens());
    if (i + 1 < step.micro_batches.size() && batch.sequences() < 6) {  // no room for the next one
      EXPECT_GT(batch.tokens() + step.micro_batches[i + 1].cu_seqlens.data<int32_t>()[1], 60);
    }
    sequences += batch.sequences();
    tokens += batch.tokens();
    masked += batch.masked_rows();
  }
  EXPECT_EQ(step.sequences, sequences);
  EXPECT_EQ(sequences, 60);
  EXPECT_EQ(step.tokens, tokens);
  EXPECT_EQ(step.masked_rows, masked);
}

// Room for the largest micro-batch in each, so that shapes never differ; the samples stay the same.
TEST_F(LoaderTest, FixedShapesAreThoseOfEveryMicroBatch) {
  for (const bool dynamic : {false, true}) {
    const auto set = shards({.examples = 200, .dynamic = dynamic});
    LoaderOptions options{.global_batch_size = 60, .micro_batch_size = 6, .token_capacity = 60};
    const GlobalStep expected = Loader(set, options).load(3);
    options.fixed_shapes = true;
    const Loader loader(set, options);
    for (int64_t number = 0; number < 5; ++number) {
      for (const PackedBatch& batch : loader.load(number).micro_batches) {
        EXPECT_EQ(batch.rows(), 60);
        EXPECT_EQ(batch.cu_seqlens.numel(), 7);
        EXPECT_EQ(batch.cu_seqlens.data<int32_t>()[6], batch.tokens());
        EXPECT_EQ(batch.mlm_label.numel(), 60 * 15 / 100 + 6);  // at most 15 % and one a sequence
        EXPECT_EQ(batch.head_row.numel(), batch.mlm_label.numel() + 6);
        EXPECT_EQ(batch.nsp_label.numel(), 6);
      }
    }
    const GlobalStep step = loader.load(3);
    EXPECT_EQ(samples_of(step.micro_batches), samples_of(expected.micro_batches));
    EXPECT_EQ(step.tokens, expected.tokens);
    EXPECT_EQ(step.masked_rows, expected.masked_rows);
  }
}

// A plan looks at no token, and what a rank reads are the very batches of a run with one rank.
TEST_F(LoaderTest, APlanSaysWhatTheStepHolds) {
  for (const bool dynamic : {false, true}) {
    const Loader loader(shards({.examples = 50, .dynamic = dynamic}),
                        {.global_batch_size = 24, .micro_batch_size = 6, .token_capacity = 60});
    for (int64_t number = 0; number < 5; ++number) {
      const StepPlan plan = loader.plan(number);
      const GlobalStep all = loader.load(number);
      int64_t tokens = 0, masked = 0, squares = 0, sequences = 0;
      ASSERT_EQ(plan.cuts.size(), all.micro_batches.size());
      ASSERT_GT(plan.cuts.size(), 4u);
      for (size_t i = 0; i < plan.cuts.size(); ++i) {
        const PackedBatch& batch = all.micro_batches[i];
        EXPECT_EQ(all.numbers[i], static_cast<int64_t>(i));
        EXPECT_EQ(plan.cuts[i].first, sequences);
        EXPECT_EQ(plan.cuts[i].sequences, batch.sequences());
        EXPECT_EQ(plan.cuts[i].tokens, batch.tokens());
        tokens += batch.tokens(), masked += batch.masked_rows(), sequences += batch.sequences();
        squares += batch.sizes.squared_lengths;
      }
      EXPECT_EQ(plan.first_sample, number * 24);
      EXPECT_EQ(plan.sequences, sequences);
      EXPECT_EQ(plan.tokens, tokens);
      EXPECT_EQ(plan.masked_rows, masked);
      EXPECT_EQ(plan.squared_lengths, squares);

      const GlobalStep some = loader.load(plan, {1, 3});
      ASSERT_EQ(some.micro_batches.size(), 2u);
      EXPECT_EQ(samples_of({some.micro_batches[0]}), samples_of({all.micro_batches[1]}));
      EXPECT_EQ(samples_of({some.micro_batches[1]}), samples_of({all.micro_batches[3]}));
      EXPECT_EQ(some.masked_rows, masked);
    }
  }
}

// How many whole words fit into a number of masks depends on the words.
TEST_F(LoaderTest, APlanCountsWholeWordMasks) {
  const Loader loader(shards({.examples = 50, .dynamic = true, .whole_word = true}),
                      {.global_batch_size = 24, .micro_batch_size = 6});
  bool fewer = false;
  for (int64_t number = 0; number < 5; ++number) {
    const GlobalStep step = loader.load(number);
    int64_t masked = 0, wanted = 0;
    for (const PackedBatch& batch : step.micro_batches) masked += batch.masked_rows();
    for (const auto& sample : step.samples)
      wanted += masked_count(loader.shards().length(sample.example),
                             loader.shards().manifest().settings.masking);
    EXPECT_EQ(step.masked_rows, masked);
    fewer = fewer || masked < wanted;
  }
  EXPECT_TRUE(fewer) << "no step in which the words matter";
}

TEST_F(LoaderTest, AStepDependsOnSeedAndNumberAlone) {
  const auto set = shards({.examples = 50, .dynamic = true});
  const LoaderOptions options{.global_batch_size = 16, .micro_batch_size = 4, .seed = 3};
  const Loader loader(set, options);
  const auto sixth = samples_of(loader.load(6).micro_batches);
  for (int64_t step = 0; step < 6; ++step) loader.load(step);
  EXPECT_EQ(samples_of(loader.load(6).micro_batches), sixth);
  EXPECT_EQ(samples_of(Loader(set, options).load(6).micro_batches), sixth);
  EXPECT_NE(samples_of(loader.load(7).micro_batches), sixth);
  LoaderOptions other = options;
  other.seed = 4;
  EXPECT_NE(samples_of(Loader(set, other).load(6).micro_batches), sixth);
}

TEST_F(LoaderTest, DynamicMasksDifferBetweenEpochs) {
  const auto set = shards({.examples = 8, .dynamic = true});
  const Loader loader(set, {.global_batch_size = 8, .micro_batch_size = 8});
  // Undo the masks: the same eight examples in each epoch, with other masked positions.
  const auto masks = [&](int64_t step) {
    std::map<std::vector<int32_t>, std::vector<int32_t>> found;
    for (auto& [number, sample] : samples_of(loader.load(step).micro_batches)) {
      for (size_t i = 0; i < sample.masked.size(); ++i) {
        sample.ids[static_cast<size_t>(sample.masked[i])] = sample.labels[i];
      }
      found[sample.ids] = sample.masked;
    }
    return found;
  };
  const auto first = masks(0), second = masks(1);
  EXPECT_EQ(first.size(), 8u);
  size_t same = 0;
  for (const auto& [ids, positions] : first) {
    ASSERT_TRUE(second.contains(ids));
    same += second.at(ids) == positions;
  }
  EXPECT_LT(same, 8u);
}

TEST_F(LoaderTest, ABatchLargerThanTheDataTakesSeveralEpochs) {
  const auto set = shards({.examples = 3});
  const Loader loader(set, {.global_batch_size = 8, .micro_batch_size = 4});
  EXPECT_EQ(samples_of(loader.load(0).micro_batches).size(), 8u);
  EXPECT_DOUBLE_EQ(loader.epoch_of(3), 8.0);
}

TEST_F(LoaderTest, WithoutNspThereAreNoLabels) {
  const auto set = shards({.nsp = false});
  const GlobalStep step =
      Loader(set, {.global_batch_size = 4, .micro_batch_size = 4, .nsp = false}).load(0);
  EXPECT_FALSE(step.micro_batches[0].nsp_label.defined());
}

TEST_F(LoaderTest, RejectsSizesThatDontFit) {
  const auto set = shards();
  EXPECT_THROW(Loader(set, {.global_batch_size = 0}), UsageError);
  EXPECT_THROW(Loader(set, {.global_batch_size = 32, .micro_batch_size = 5}), UsageError);
  EXPECT_THROW(Loader(set, {.global_batch_size = 32, .micro_batch_size = 0}), UsageError);
  EXPECT_THROW(Loader(set, {.global_batch_size = 32, .micro_batch_size = 8, .token_capacity = 23}),
               UsageError);
  EXPECT_NO_THROW(
      Loader(set, {.global_batch_size = 32, .micro_batch_size = 8, .token_capacity = 24}));
  EXPECT_THROW(Loader(shards({.nsp = false}), {.global_batch_size = 8, .micro_batch_size = 8}),
               UsageError);
}

TEST_F(LoaderTest, EvaluationReadsEachExampleOnceInOrder) {
  FixtureOptions fixture{.examples = 37, .dynamic = true};
  const auto set = shards(fixture);
  EvaluationReader reader(set, /* micro_batch_size= */ 8, /* nsp= */ true);
  const auto pass = [&] {
    std::vector<PackedBatch> batches;
    while (auto batch = reader.next()) batches.push_back(*batch);
    return samples_of(batches);
  };
  const auto first = pass();
  EXPECT_EQ(first.size(), 37u);
  EXPECT_EQ(first.begin()->first, 0);
  EXPECT_FALSE(reader.next().has_value());
  reader.rewind();
  EXPECT_EQ(pass(), first);
  EvaluationReader tight(set, 8, true, /* token_capacity= */ 30);
  std::vector<PackedBatch> batches;
  while (auto batch = tight.next()) batches.push_back(*batch);
  EXPECT_GT(batches.size(), 5u);
  EXPECT_EQ(samples_of(batches), first);
}

// ---- Prefetcher --------------------------------------------------------------------------------

class PrefetcherTest : public LoaderTest {};

std::function<GlobalStep(int64_t)> loads_of(std::shared_ptr<const Loader> loader) {
  return [loader = std::move(loader)](int64_t step) { return loader->load(step); };
}

TEST_F(PrefetcherTest, HandsOverTheLoadersStepsInOrder) {
  const auto loader =
      std::make_shared<const Loader>(shards({.examples = 50, .dynamic = true}),
                                     LoaderOptions{.global_batch_size = 16, .micro_batch_size = 4});
  for (const int threads : {1, 3}) {
    for (const int depth : {1, 2, 5}) {
      Prefetcher prefetcher(loads_of(loader), /* first_step= */ 4, depth, threads);
      for (int64_t step = 4; step < 14; ++step) {
        const GlobalStep got = prefetcher.next();
        EXPECT_EQ(got.data_step, step);
        EXPECT_EQ(samples_of(got.micro_batches), samples_of(loader->load(step).micro_batches));
      }
    }
  }
}

TEST_F(PrefetcherTest, LoadsDepthStepsAheadAndNoMore) {
  using std::chrono::milliseconds;
  for (const int threads : {1, 3}) {
    for (const int depth : {1, 2, 5}) {
      std::atomic<int> loads = 0;
      Prefetcher prefetcher(
          [&loads](int64_t step) {
            ++loads;
            GlobalStep loaded;
            loaded.data_step = step;
            return loaded;
          },
          0, depth, threads);
      for (int taken = 0; taken < 3; ++taken) {
        for (int tries = 0; loads < taken + depth && tries < 10'000; ++tries)
          std::this_thread::sleep_for(milliseconds(1));
        std::this_thread::sleep_for(milliseconds(20));  // time for a step too many
        EXPECT_EQ(loads, taken + depth) << threads << " threads";
        EXPECT_EQ(prefetcher.next().data_step, taken);
      }
    }
  }
}

TEST_F(PrefetcherTest, StopsCleanlyAtAnyMoment) {
  const auto loader = std::make_shared<const Loader>(
      shards({.examples = 500}), LoaderOptions{.global_batch_size = 64, .micro_batch_size = 8});
  for (int taken = 0; taken < 20; ++taken) {
    Prefetcher prefetcher(loads_of(loader), 0, /* depth= */ 3, /* threads= */ 2);
    for (int i = 0; i < taken % 4; ++i) prefetcher.next();
  }
}

TEST_F(PrefetcherTest, ThrowsTheLoadersErrorAtItsStep) {
  const auto folder = folder_ / "damaged";
  std::filesystem::create_directory(folder);
  testing::write_fixture(folder, {.examples = 10, .examples_per_shard = 10});
  const auto shard = folder / "shard-0.mbs";
  std::string bytes = testing::read_bytes(shard);
  bytes[64 + 12] ^= 1;  // first id of example 0
  testing::write_bytes(shard, bytes);
  const auto loader = std::make_shared<const Loader>(
      ShardSet::open(folder), LoaderOptions{.global_batch_size = 10, .micro_batch_size = 10});
  Prefetcher prefetcher(loads_of(loader), 0);
  EXPECT_THROW(prefetcher.next(), DataError);
  EXPECT_THROW(prefetcher.next(), DataError);
}

TEST_F(PrefetcherTest, RejectsNoThreadsAndNoDepth) {
  const auto load = [](int64_t) { return GlobalStep{}; };
  EXPECT_THROW(Prefetcher(load, 0, 0, 1), UsageError);
  EXPECT_THROW(Prefetcher(load, 0, 1, 0), UsageError);
}

}  // namespace
}  // namespace minibert
