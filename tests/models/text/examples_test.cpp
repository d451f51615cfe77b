// examples_test.cpp: pairs and their labels, by properties and by an independent Python version
// that replays the recorded draws (tools/goldens/examples_reference.py, which needs only python3).
#include "models/text/examples.h"

#include <algorithm>
#include <cmath>

#include "models/text/document_set.h"
#include "models/text/shard_build.h"
#include "tests/models/text/text_fixture.h"

namespace minibert {
namespace {

using testing::TemporaryFolder;

constexpr int32_t kCls = 2, kSep = 3;

/// Documents of one-token-distinct sentences: token = 10 + document * 1000 + running number.
DocumentSet documents(const std::vector<std::vector<int>>& sentence_lengths) {
  DocumentSet set;
  for (size_t d = 0; d < sentence_lengths.size(); ++d) {
    set.begin_document();
    int32_t token = 10 + static_cast<int32_t>(d) * 1000;
    for (const int length : sentence_lengths[d]) {
      std::vector<int32_t> sentence(static_cast<size_t>(length));
      for (int32_t& id : sentence) id = token++;
      set.add_sentence(sentence);
    }
  }
  return set;
}

std::vector<Example> examples_of(const DocumentSet& set, int64_t document,
                                 const ExampleOptions& options, uint64_t seed = 1) {
  DrawSource draws(RandomStream(seed, StreamPurpose::examples, static_cast<uint64_t>(document)));
  return create_examples(set, document, {100000, kCls, kSep, 4, 1, {}}, options, draws);
}

int document_of(int32_t token) {
  return (token - 10) / 1000;
}

TEST(Examples, DocumentSetKeepsBorders) {
  const DocumentSet set = documents({{2, 1}, {3}});
  EXPECT_EQ(set.documents(), 2);
  EXPECT_EQ(set.sentences(), 3);
  EXPECT_EQ(set.tokens(), 6);
  EXPECT_EQ(set.sentences_of(0), 2);
  EXPECT_EQ(set.sentences_of(1), 1);
  EXPECT_EQ(set.read(0)[1][0], 12);
  EXPECT_EQ(set.read(1)[0].size(), 3u);
  EXPECT_EQ(set.read(1)[0][0], 1010);
}

// Whatever the lengths: [CLS] A [SEP] B [SEP], A from this document, runs of neighbours, B as its
// label says, never longer than requested.
TEST(Examples, ArePairsWithTrueLabels) {
  std::vector<std::vector<int>> lengths;
  RandomStream random(3, StreamPurpose::user, 0);
  for (int d = 0; d < 20; ++d) {
    lengths.emplace_back(static_cast<size_t>(random.integer(1, 30)));
    for (int& length : lengths.back()) length = static_cast<int>(random.integer(1, 25));
  }
  const DocumentSet set = documents(lengths);
  for (const int sequence_length : {5, 16, 64}) {
    for (int64_t d = 0; d < set.documents(); ++d) {
      for (const Example& example : examples_of(set, d, {sequence_length, 0.5, true})) {
        const auto& ids = example.ids;
        const auto first = static_cast<size_t>(example.first_segment);
        ASSERT_LE(ids.size(), static_cast<size_t>(sequence_length));
        ASSERT_GE(first, 3u);
        ASSERT_GE(ids.size(), first + 2);
        EXPECT_EQ(ids[0], kCls);
        EXPECT_EQ(ids[first - 1], kSep);
        EXPECT_EQ(ids.back(), kSep);
        for (size_t i = 2; i + 1 < ids.size(); ++i) {
          if (i != first && i != first - 1) {
            EXPECT_EQ(ids[i], ids[i - 1] + 1) << "a gap";
          }
        }
        EXPECT_EQ(document_of(ids[1]), d);
        if (example.nsp_label == kNspNext) {
          EXPECT_EQ(document_of(ids[first]), d);
          EXPECT_GT(ids[first], ids[first - 2]);
        } else {
          EXPECT_EQ(example.nsp_label, kNspRandom);
          EXPECT_NE(document_of(ids[first]), d);  // 20 documents: ten misses have a chance of 1e-13
        }
      }
    }
  }
}

// Without truncation (chunks end on the target exactly) each sentence is in A or a true B exactly
// once: those after a random B were put back.
TEST(Examples, PutUnusedSentencesBack) {
  const DocumentSet set = documents({std::vector<int>(50, 2), {2, 2, 2, 2, 2, 2}});
  const auto examples = examples_of(set, 0, {/* sequence_length= */ 15, 0.0, true});
  std::vector<int> seen(100);
  int random = 0;
  for (const Example& example : examples) {
    for (size_t i = 0; i < example.ids.size(); ++i) {
      const bool in_b = static_cast<int32_t>(i) >= example.first_segment;
      if (example.ids[i] < 10 || (in_b && example.nsp_label == kNspRandom)) continue;
      ++seen[static_cast<size_t>(example.ids[i] - 10)];
    }
    random += example.nsp_label == kNspRandom;
  }
  EXPECT_EQ(seen, std::vector<int>(100, 1));
  EXPECT_GT(random, 0);
  EXPECT_LT(random, static_cast<int>(examples.size()));
}

TEST(Examples, ASingleDocumentAndASingleTokenWork) {
  const DocumentSet set = documents({{1}});
  const auto pair = examples_of(set, 0, {128, 0.0, true});
  ASSERT_EQ(pair.size(), 1u);
  EXPECT_EQ(pair[0].ids, (std::vector<int32_t>{kCls, 10, kSep, 10, kSep}));
  EXPECT_EQ(pair[0].nsp_label, kNspRandom);
  const auto single = examples_of(set, 0, {128, 0.0, false});
  ASSERT_EQ(single.size(), 1u);
  EXPECT_EQ(single[0].ids, (std::vector<int32_t>{kCls, 10, kSep}));
  EXPECT_EQ(single[0].first_segment, 3);
}

// A tenth of the passes has a target drawn from 2 .. budget; without pairs the first example of
// one-token sentences is exactly as long as the target.
TEST(Examples, ShortTargetsHaveTheirShareAndAreEven) {
  const DocumentSet set = documents({std::vector<int>(200, 1)});
  constexpr int kRuns = 20000, kBudget = 62;
  std::vector<int> lengths(65);
  for (int run = 0; run < kRuns; ++run) {
    const auto examples = examples_of(set, 0, {64, 0.1, false}, static_cast<uint64_t>(run));
    ++lengths[examples.front().ids.size()];
  }
  const auto expect_share = [&](int count, double p) {
    EXPECT_LT(std::abs(count - kRuns * p), 6 * std::sqrt(kRuns * p * (1 - p)));
  };
  expect_share(lengths[64], 0.9 + 0.1 / (kBudget - 1));
  for (int length = 4; length < 64; ++length) {
    expect_share(lengths[static_cast<size_t>(length)], 0.1 / (kBudget - 1));
  }
}

// ---- Long sentences ----------------------------------------------------------------------------

std::vector<size_t> piece_sizes(const std::vector<int32_t>& ids, const ExampleOptions& options) {
  TokenTable table{100000, kCls, kSep, 4, 1, std::vector<uint8_t>(100000)};
  for (size_t id = 50000; id < 100000; ++id) table.continues_word[id] = 1;
  std::vector<std::span<const int32_t>> pieces;
  cut_sentence(ids, table, options, pieces);
  std::vector<size_t> sizes;
  std::vector<int32_t> joined;
  for (const auto piece : pieces) {
    sizes.push_back(piece.size());
    joined.insert(joined.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(joined, ids);
  return sizes;
}

TEST(Examples, SentencesThatDoNotFitAreCut) {
  using Sizes = std::vector<size_t>;
  const auto words = [](size_t n) { return std::vector<int32_t>(n, 10); };
  const ExampleOptions pairs{/* sequence_length= */ 23, 0.0, true};     // 20 tokens of text
  const ExampleOptions singles{/* sequence_length= */ 22, 0.0, false};  // 20, too
  EXPECT_EQ(piece_sizes(words(20), pairs), Sizes{20});
  EXPECT_EQ(piece_sizes(words(21), pairs), (Sizes{10, 10, 1}));
  EXPECT_EQ(piece_sizes(words(20), singles), Sizes{20});
  EXPECT_EQ(piece_sizes(words(41), singles), (Sizes{20, 20, 1}));
  ExampleOptions shorter = singles;
  shorter.max_sentence_tokens = 7;
  EXPECT_EQ(piece_sizes(words(7), shorter), Sizes{7});
  EXPECT_EQ(piece_sizes(words(15), shorter), (Sizes{7, 7, 1}));
  shorter.max_sentence_tokens = 0;
  EXPECT_EQ(piece_sizes(words(1000), shorter), Sizes{1000});
  // A word of three pieces across the border stays whole; one of fifty does not.
  std::vector<int32_t> text = words(30);
  text[20] = text[21] = 50000;
  EXPECT_EQ(piece_sizes(text, singles), (Sizes{22, 8}));
  std::fill(text.begin() + 1, text.end(), 50000);
  EXPECT_EQ(piece_sizes(text, singles), (Sizes{20, 10}));
}

TEST(Examples, CountWhatTheyLose) {
  // Chunks of 15 + 15 tokens for 20: without pairs a third of each is cut off.
  const DocumentSet set = documents({std::vector<int>(40, 15), {5}});
  int64_t lost = 0, kept = 0;
  for (const Example& example : examples_of(set, 0, {22, 0.0, false})) {
    lost += example.lost_tokens;
    kept += static_cast<int64_t>(example.ids.size()) - 2;
  }
  EXPECT_EQ(lost, 20 * 10);
  EXPECT_EQ(kept, 20 * 20);
  // With pairs: every token is in A or in a true B, or counted.
  lost = kept = 0;
  for (const Example& example : examples_of(set, 0, {23, 0.3, true})) {
    lost += example.lost_tokens;
    kept += example.first_segment - 2;
    if (example.nsp_label == kNspNext)
      kept += static_cast<int64_t>(example.ids.size()) - example.first_segment - 1;
  }
  EXPECT_GT(lost, 0);
  EXPECT_EQ(lost + kept, 40 * 15);
}

// ---- The independent version -------------------------------------------------------------------

std::string python() {
  const char* given = std::getenv("MINIBERT_PYTHON");
  for (const std::string& name : {std::string(given ? given : "python3"), std::string("python3")}) {
    if (testing::run_command(name + " --version").status == 0) return name;
  }
  return "";
}

/// The first lines of a novel.
std::string first_lines(const std::string& novel, int count) {
  LineReader reader((testing::source_folder() / "data/austen" / novel).string());
  std::string text;
  for (std::string line; count > 0 && reader.next(line); --count) text += line + "\n";
  return text;
}

class ExamplesReference : public ::testing::TestWithParam<const char*> {};

TEST_P(ExamplesReference, EqualsPythonOnRecordedDraws) {
  const std::string interpreter = python();
  if (interpreter.empty()) GTEST_SKIP() << "needs python3";
  TemporaryFolder folder;
  const std::string name = GetParam();
  testing::write_bytes(folder / "vocab.txt", testing::small_vocabulary());
  BuildOptions options;
  options.vocabulary = folder / "vocab.txt";
  options.files = {(folder / "text").string()};
  testing::write_bytes(folder / "text", first_lines("northangerabbey.txt.gz", 2500));
  options.output = folder / "shards";
  options.record_draws = folder / "draws.jsonl";
  DataSettings& settings = options.settings;
  settings.documents = {TextFormat::paragraphs, "^CHAPTER [0-9]+"};
  settings.examples.nsp = name != "no_nsp";
  settings.dynamic_masking = name == "dynamic";
  settings.masking.whole_word = name == "whole_word";
  if (name == "whole_word") settings.duplicate_factor = 2;
  if (name == "short") settings.examples = {32, 0.8, true};
  if (name == "short") settings.masking.max_predictions = 3;
  if (name == "one_document") settings.documents.document_break = "";
  const BuildReport report = build_shards(options);
  EXPECT_GT(report.data.counts.examples, 300);

  const auto script = testing::source_folder() / "tools/goldens/examples_reference.py";
  const std::string command = interpreter + " " + script.string() + " " +
                              (folder / "draws.jsonl").string() + " " +
                              (folder / "shards").string();
  const auto result = testing::run_command(command);
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_NE(result.output.find("examples are identical"), std::string::npos) << result.output;
  if (name != "default") return;

  // And it notices a difference: the last draw is missing.
  std::string draws = testing::read_bytes(folder / "draws.jsonl");
  const size_t end = draws.rfind(']'), comma = draws.rfind(',', end);
  testing::write_bytes(folder / "draws.jsonl", draws.erase(comma, end - comma));
  EXPECT_NE(testing::run_command(command).status, 0);
}

INSTANTIATE_TEST_SUITE_P(, ExamplesReference,
                         ::testing::Values("default", "no_nsp", "dynamic", "whole_word", "short",
                                           "one_document"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace minibert
