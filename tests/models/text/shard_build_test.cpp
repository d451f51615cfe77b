// shard_build_test.cpp: data build from files to folders, by library and by command line: counts,
// held-out documents, manifests, faults, threads, and what data inspect finds.
// Expected values: counted here from the text, or by hand.
#include "models/text/shard_build.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/parallel.h"
#include "models/text/shard_inspect.h"
#include "tests/models/text/build_fixture.h"

namespace minibert {
namespace {

using nlohmann::json;
using testing::read_bytes;
using testing::write_bytes;

using DataBuild = testing::BuildFixture;

TEST_F(DataBuild, CountsTheTextAndItsTokens) {
  const BuildReport report = build_shards(options_);
  const DataCounts& counts = report.data.counts;
  EXPECT_EQ(counts.documents, 12);
  EXPECT_EQ(counts.sentences, 120);
  EXPECT_EQ(counts.tokens, 12 * 10 * (1 + 1 + 1 + 3));  // "end" is e ##n ##d here
  EXPECT_EQ(counts.unknown_tokens, 0);
  const auto shards = ShardSet::open(options_.output);
  const auto unigrams = shards->unigram_counts();
  EXPECT_EQ(unigrams[static_cast<size_t>(id("the"))], 120u);
  EXPECT_EQ(unigrams[static_cast<size_t>(id("##n"))], 120u);
  EXPECT_EQ(unigrams[static_cast<size_t>(id("k"))], 10u);  // document k; sentences are a .. j
  EXPECT_EQ(unigrams[2], 0u);                              // [CLS]
  EXPECT_EQ(read_bytes(options_.output / "vocab.txt"), testing::small_vocabulary());
  ASSERT_EQ(report.data.sources.size(), 1u);
  EXPECT_EQ(report.data.sources[0].file_bytes,
            static_cast<int64_t>(read_bytes(folder_ / "lines.txt").size()));
  shards->verify();
}

TEST_F(DataBuild, HoldsOutEveryKthDocument) {
  options_.settings.hold_out_every = 5;  // documents 5 and 10: e and j
  const BuildReport report = build_shards(options_);
  EXPECT_EQ(report.data.counts.documents, 10);
  ASSERT_TRUE(report.held_out);
  EXPECT_EQ(report.held_out->counts.documents, 2);
  const auto training = ShardSet::open(options_.output),
             held = ShardSet::open(options_.output / "held-out");
  // Document letters k and l are only in training; the held-out text has only e and j before a
  // sentence letter. Both folders hold the training text's counts.
  EXPECT_EQ(training->unigram_counts(), held->unigram_counts());
  EXPECT_EQ(training->unigram_counts()[static_cast<size_t>(id("the"))], 100u);
  for (const auto& set : {training, held}) {
    int64_t e_tokens = 0;
    for (int64_t e = 0; e < set->examples(); ++e) {
      const StoredExample stored = set->read(e);
      e_tokens += std::count(stored.masked_labels.begin(), stored.masked_labels.end(), id("l"));
    }
    EXPECT_EQ(e_tokens > 0, set == training);
  }
}

TEST_F(DataBuild, HeldOutTextOnItsOwnTakesTheTrainingCounts) {
  build_shards(options_);
  BuildOptions other = options_;
  write_bytes(folder_ / "other.txt", "was was\nwas\n\nhad\n");
  other.files = {in("other.txt")};
  other.output = folder_ / "other";
  other.unigram_from = options_.output;
  build_shards(other);
  EXPECT_EQ(ShardSet::open(other.output)->unigram_counts(),
            ShardSet::open(options_.output)->unigram_counts());
  EXPECT_EQ(ShardSet::open(other.output)->manifest().unigram_source, options_.output.string());
}

TEST_F(DataBuild, ThreadsAndShardSizeChangeNoExample) {
  options_.files = {(testing::source_folder() / "data/austen/northangerabbey.txt.gz").string()};
  options_.settings.documents = {TextFormat::paragraphs, "^CHAPTER"};
  options_.settings.duplicate_factor = 2;
  const auto bytes_with = [&](int threads, const std::string& name) {
    const int before = num_threads();
    set_num_threads(threads);
    options_.output = folder_ / name;
    build_shards(options_);
    set_num_threads(before);
    return read_bytes(options_.output / "shard-00000.mbs") +
           read_bytes(options_.output / "manifest.json");
  };
  EXPECT_EQ(bytes_with(1, "one"), bytes_with(3, "three"));
  options_.shard_bytes = 100000;
  options_.output = folder_ / "small";
  const BuildReport small = build_shards(options_);
  EXPECT_GT(small.data.shards.size(), 3u);
  const auto one = ShardSet::open(folder_ / "one"), many = ShardSet::open(options_.output);
  ASSERT_EQ(one->examples(), many->examples());
  for (int64_t e = 0; e < one->examples(); ++e) {
    ASSERT_EQ(one->read(e).example.ids, many->read(e).example.ids) << e;
  }
}

// A build whose ids and examples all go to files: the same bytes.
TEST_F(DataBuild, MemoryChangesNoByte) {
  options_.files = {(testing::source_folder() / "data/austen/northangerabbey.txt.gz").string()};
  options_.settings.documents = {TextFormat::paragraphs, "^CHAPTER"};
  options_.settings.duplicate_factor = 2;
  options_.settings.hold_out_every = 7;
  options_.shard_bytes = 300000;
  for (const bool shuffle : {false, true}) {
    options_.settings.shuffle = shuffle;
    const auto bytes_with = [&](int64_t memory, const std::string& name) {
      options_.array_memory = memory;
      options_.output = folder_ / name;
      build_shards(options_);
      std::string bytes;
      for (const char* file : {"shard-00000.mbs", "shard-00001.mbs", "manifest.json",
                               "held-out/shard-00000.mbs", "held-out/manifest.json"})
        bytes += read_bytes(options_.output / file);
      for (const auto& entry : std::filesystem::recursive_directory_iterator(options_.output))
        EXPECT_NE(entry.path().extension(), ".spill");
      std::filesystem::remove_all(options_.output);
      return bytes;
    };
    const std::string roomy = bytes_with(/* memory= */ 0, "roomy");
    EXPECT_TRUE(roomy == bytes_with(100000, "narrow"));
  }
}

TEST_F(DataBuild, ShuffledExamplesAreThoseOfTheUnshuffledBuild) {
  const auto examples_of = [&](bool shuffle) {
    options_.settings.shuffle = shuffle;
    options_.output = folder_ / (shuffle ? "shuffled" : "plain");
    build_shards(options_);
    const auto set = ShardSet::open(options_.output);
    EXPECT_EQ(set->manifest().settings.shuffle, shuffle);
    std::vector<std::vector<int32_t>> ids;
    for (int64_t e = 0; e < set->examples(); ++e) ids.push_back(set->read(e).example.ids);
    return ids;
  };
  auto plain = examples_of(false), shuffled = examples_of(true);
  EXPECT_NE(plain, shuffled);
  std::sort(plain.begin(), plain.end());
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(plain, shuffled);
}

TEST_F(DataBuild, AnotherSeedGivesOtherExamples) {
  build_shards(options_);
  const std::string first = read_bytes(options_.output / "shard-00000.mbs");
  options_.force = true;
  build_shards(options_);
  EXPECT_EQ(read_bytes(options_.output / "shard-00000.mbs"), first);
  options_.settings.seed = 1;
  build_shards(options_);
  EXPECT_NE(read_bytes(options_.output / "shard-00000.mbs"), first);
}

TEST_F(DataBuild, TakesNamesThatAreNoUtf8) {
  options_.files = {in("caf\xE9.txt")};
  std::filesystem::rename(folder_ / "lines.txt", options_.files[0]);
  options_.settings.documents.document_break = "\xE9";
  options_.output = folder_ /
                    "donn\xE9"
                    "es";
  build_shards(options_);
  EXPECT_EQ(ShardSet::open(options_.output)->manifest().sources[0].path, in("caf\xEF\xBF\xBD.txt"));
}

TEST_F(DataBuild, ReadsItsVocabularyAsTheBuildDid) {
  write_bytes(options_.vocabulary, testing::small_vocabulary() + "\n\n");  // blank lines at the end
  options_.settings.dynamic_masking = true;
  options_.settings.masking.whole_word = true;
  build_shards(options_);
  EXPECT_EQ(inspect_shards(options_.output).manifest.tokens.vocab_size, id("mrs") + 2);  // and "he"
}

// Texts and builds that differ only in letters: the shards have the same size and index.
TEST_F(DataBuild, RefusesAShardOfAnotherBuild) {
  options_.settings.examples.nsp = false;
  options_.settings.examples.short_sequence_prob = 0;
  options_.settings.dynamic_masking = true;
  build_shards(options_);
  BuildOptions other = options_;
  other.output = folder_ / "other";
  std::string text = read_bytes(options_.files[0]);
  std::replace(text.begin(), text.end(), 'k', 'x');
  write_bytes(folder_ / "other.txt", text);
  other.files = {in("other.txt")};
  build_shards(other);
  const auto shard = options_.output / "shard-00000.mbs";
  ASSERT_EQ(std::filesystem::file_size(shard),
            std::filesystem::file_size(other.output / "shard-00000.mbs"));
  std::filesystem::copy_file(other.output / "shard-00000.mbs", shard,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THROW(ShardSet::open(options_.output), DataError);
  // Folders built by older versions have no identity.
  json manifest = json::parse(read_bytes(options_.output / "manifest.json"));
  manifest["shards"][0].erase("identity");
  write_bytes(options_.output / "manifest.json", manifest.dump());
  ShardSet::open(options_.output);
}

TEST_F(DataBuild, RejectsOptionsOutOfRange) {
  const auto rejects = [&](auto change) {
    BuildOptions changed = options_;
    change(changed);
    EXPECT_THROW(build_shards(changed), UsageError);
  };
  rejects([](BuildOptions& o) { o.files.clear(); });
  rejects([](BuildOptions& o) { o.output.clear(); });
  rejects([](BuildOptions& o) { o.settings.examples.sequence_length = 4; });
  rejects([](BuildOptions& o) { o.settings.examples.sequence_length = 65536; });
  rejects([](BuildOptions& o) { o.settings.masking.max_predictions = 0; });
  rejects([](BuildOptions& o) { o.settings.masking.max_predictions = 32; });
  rejects([](BuildOptions& o) { o.settings.masking.masked_lm_prob = 1.5; });
  rejects([](BuildOptions& o) { o.settings.masking.masked_lm_prob = NAN; });
  rejects([](BuildOptions& o) { o.settings.examples.short_sequence_prob = -0.1; });
  rejects([](BuildOptions& o) { o.settings.examples.max_sentence_tokens = -2; });
  rejects([](BuildOptions& o) { o.settings.duplicate_factor = 0; });
  rejects([](BuildOptions& o) { o.settings.hold_out_every = 1; });
  rejects([](BuildOptions& o) { o.settings.hold_out_every = -1; });
  rejects([](BuildOptions& o) { o.shard_bytes = 0; });
  rejects([](BuildOptions& o) { o.memory = 255'999'999; });
  options_.settings.hold_out_every = 13;  // there are twelve documents
  EXPECT_THROW(build_shards(options_), DataError);
}

TEST_F(DataBuild, ADryRunWritesNothing) {
  options_.dry_run = true;
  options_.record_draws = folder_ / "draws.jsonl";
  const BuildReport report = build_shards(options_);
  EXPECT_EQ(report.data.counts.documents, 12);
  EXPECT_FALSE(std::filesystem::exists(options_.output));
  EXPECT_FALSE(std::filesystem::exists(options_.record_draws));
  options_.dry_run = false;
  const DataCounts counts = build_shards(options_).data.counts;
  EXPECT_EQ(report.data.counts.examples, counts.examples);
  EXPECT_EQ(report.data.counts.nsp_next, counts.nsp_next);
  EXPECT_EQ(report.data.counts.length_histogram, counts.length_histogram);
}

// Twenty lines of 3,000 words, a document each: Google's script keeps 2 % of them.
TEST_F(DataBuild, KeepsTheTextOfLinesLongerThanASequence) {
  const std::vector<std::string> words = {"the", "to", "and", "of", "in", "was", "her", "it"};
  RandomStream random(1, StreamPurpose::user, 0);
  std::string text;
  for (int line = 0; line < 20; ++line) {
    for (int i = 0; i < 3000; ++i) text += words[static_cast<size_t>(random.integer(0, 7))] + " ";
    text += "\n\n";
  }
  write_bytes(folder_ / "long.txt", text);
  options_.files = {in("long.txt")};
  options_.force = true;
  for (const bool nsp : {true, false}) {
    options_.settings.examples = {128, 0.1, nsp};
    options_.settings.masking.max_predictions = 20;
    const Manifest cut = build_shards(options_).data;
    EXPECT_EQ(cut.counts.tokens, 60000);
    EXPECT_EQ(cut.facts->cut_sentences, 20);
    EXPECT_EQ(cut.facts->cut_tokens, 60000);
    EXPECT_GT(cut.counts.examples, 60000 / 126);
    EXPECT_LT(cut.facts->lost_tokens, 60000 / 50);
    EXPECT_EQ(read_manifest(options_.output).facts->lost_tokens, cut.facts->lost_tokens);
    options_.settings.examples.max_sentence_tokens = 0;
    const Manifest whole = build_shards(options_).data;
    EXPECT_EQ(whole.counts.examples, 20);
    EXPECT_EQ(whole.facts->cut_sentences, 0);
    EXPECT_GT(whole.facts->lost_tokens, 60000 - 20 * 127);
  }
  const auto said = minibert("data build --dry-run --max-sentence-tokens 0 --vocab " +
                             in("vocab.txt") + " " + in("long.txt"));
  EXPECT_EQ(said.status, 0);
  EXPECT_NE(said.output.find("would write 20 examples"), std::string::npos) << said.output;
  EXPECT_NE(said.output.find("of 60000 tokens (9"), std::string::npos) << said.output;
  const auto kept =
      minibert("data build --dry-run --vocab " + in("vocab.txt") + " " + in("long.txt"));
  EXPECT_NE(kept.output.find("20 sentences were too long and were cut"), std::string::npos)
      << kept.output;
}

TEST_F(DataBuild, InspectFindsTheSharesOfTheMasks) {
  options_.files = {(testing::source_folder() / "data/austen/northangerabbey.txt.gz").string()};
  options_.settings.documents = {TextFormat::paragraphs, "^CHAPTER"};
  for (const bool dynamic : {false, true}) {
    options_.settings.dynamic_masking = dynamic;
    options_.output = folder_ / (dynamic ? "dynamic" : "static");
    build_shards(options_);
    const ShardInspection found = inspect_shards(options_.output);
    const auto n = static_cast<double>(found.counts.masked_tokens);
    EXPECT_GT(n, 10000);
    const auto expect_share = [&](int64_t count, double p) {
      EXPECT_LT(std::abs(static_cast<double>(count) - n * p), 6 * std::sqrt(n * p * (1 - p)));
    };
    const double hit = 0.1 / found.manifest.tokens.vocab_size;  // a random id may be the token
    expect_share(found.shown_as_mask, 0.8 + hit);
    expect_share(found.shown_as_kept, 0.1 + hit);
    expect_share(found.shown_as_random, 0.1 - 2 * hit);
    EXPECT_EQ(found.empty_masks, 0);
    const auto at =
        static_cast<double>(found.counts.nsp_next) / static_cast<double>(found.counts.examples);
    EXPECT_LT(at, 0.5);  // chunks of one sentence have only a random B
    EXPECT_GT(at, 0.1);
    EXPECT_NE(describe(found).find("every checksum matches"), std::string::npos);
  }
}

TEST_F(DataBuild, InspectNoticesAChangedManifestAndAChangedShard) {
  build_shards(options_);
  const std::string manifest = read_bytes(options_.output / "manifest.json");
  json changed = json::parse(manifest);
  changed["counts"]["nsp_next"] = changed["counts"]["nsp_next"].get<int>() + 1;
  write_bytes(options_.output / "manifest.json", changed.dump());
  EXPECT_THROW(inspect_shards(options_.output), DataError);
  write_bytes(options_.output / "manifest.json", manifest);
  inspect_shards(options_.output);
  std::string shard = read_bytes(options_.output / "shard-00000.mbs");
  shard[shard.size() / 2] ^= 4;
  write_bytes(options_.output / "shard-00000.mbs", shard);
  EXPECT_THROW(inspect_shards(options_.output), DataError);
}

TEST_F(DataBuild, InspectNoticesAVocabularyOrCountsThatAreNotTheBuilds) {
  build_shards(options_);
  for (const char* name : {"vocab.txt", "unigram.bin"}) {
    const std::string good = read_bytes(options_.output / name);
    std::string damaged = good;
    damaged[damaged.size() / 2] ^= 1;
    for (const std::string& bytes : {damaged, good.substr(0, good.size() / 2), std::string()}) {
      write_bytes(options_.output / name, bytes);
      EXPECT_THROW(inspect_shards(options_.output), DataError) << name;
    }
    std::filesystem::remove(options_.output / name);
    EXPECT_THROW(inspect_shards(options_.output), DataError) << name;
    write_bytes(options_.output / name, good);
    inspect_shards(options_.output);
  }
}

// ---- The command line --------------------------------------------------------------------------

TEST_F(DataBuild, VerbBuildsAndInspects) {
  const auto built = minibert("data build --vocab " + in("vocab.txt") + " --sequence-length 32 " +
                              "--max-predictions 5 --hold-out-every 4 --json --output " +
                              in("shards") + " " + in("lines.txt"));
  ASSERT_EQ(built.status, 0) << built.output;
  const json report = json::parse(built.output.substr(built.output.find('{')));
  EXPECT_EQ(report["data"]["counts"]["documents"], 9);
  EXPECT_EQ(report["held_out"]["counts"]["documents"], 3);
  EXPECT_EQ(report["data"]["settings"]["sequence_length"], 32);
  const auto inspected = minibert("data inspect --json " + in("shards/held-out"));
  ASSERT_EQ(inspected.status, 0) << inspected.output;
  EXPECT_EQ(json::parse(inspected.output)["counts"], report["held_out"]["counts"]);
  const auto words = minibert("data inspect " + in("shards"));
  EXPECT_NE(words.output.find("9 documents, 90 sentences"), std::string::npos) << words.output;
}

TEST_F(DataBuild, VerbReadsStandardInput) {
  const auto built = testing::run_command(
      "cat " + in("lines.txt") + " | " + std::string(std::getenv("MINIBERT_BINARY")) +
      " data build --vocab " + in("vocab.txt") + " --output " + in("shards") + " -");
  ASSERT_EQ(built.status, 0) << built.output;
  EXPECT_EQ(ShardSet::open(folder_ / "shards")->manifest().counts.documents, 12);
}

// The same documents in every format, from files, a folder, a pattern and a pipe: the same shards.
TEST_F(DataBuild, VerbReadsEveryFormatAndPlace) {
  std::filesystem::create_directory(folder_ / "corpus");
  std::string lines, wiki, rows;
  for (char d = 'a'; d < 'm'; ++d) {
    std::string text;
    for (char s = 'a'; s < 'f'; ++s)
      text +=
          std::string(text.empty() ? "" : " ") + static_cast<char>(d - 32) + " " + s + " the end.";
    for (size_t at = 0; at < text.size(); at += 13) lines += text.substr(at, 12) + "\n";
    lines += "\n";
    wiki += "<doc id=\"1\" url=\"\" title=\"T\">\nT\n\n" + text + "\n</doc>\n";
    rows += json{{"body", text}}.dump() + "\n";
  }
  write_bytes(folder_ / "corpus/text.txt", lines);
  write_bytes(folder_ / "wiki", wiki);
  write_bytes(folder_ / "rows", rows);
  const auto shard = [&](const std::string& before, const std::string& arguments) {
    const auto built = testing::run_command(
        before + std::string(std::getenv("MINIBERT_BINARY")) +
        " data build --force --sequence-length 32 --max-predictions 5 --vocab " + in("vocab.txt") +
        " --output " + in("shards") + " " + arguments);
    EXPECT_EQ(built.status, 0) << built.output;
    return read_bytes(folder_ / "shards/shard-00000.mbs");
  };
  const std::string expected = shard("", in("corpus/text.txt"));
  EXPECT_TRUE(shard("", in("corpus")) == expected);
  EXPECT_TRUE(shard("", "'" + in("corpus/*.txt") + "'") == expected);
  EXPECT_TRUE(shard("", "--format wiki " + in("wiki")) == expected);
  EXPECT_TRUE(shard("gzip -c " + in("rows") + " | ", "--format jsonl --field body -") == expected);
}

TEST_F(DataBuild, VerbSaysHowManyBytesWereReplaced) {
  write_bytes(folder_ / "bad.txt",
              "ok\nb\xFF"
              "ad \xFE\n");
  const auto built = minibert("data build --vocab " + in("vocab.txt") + " --output " +
                              in("shards") + " " + in("bad.txt"));
  EXPECT_EQ(built.status, 0) << built.output;
  EXPECT_NE(built.output.find("2 bytes are not UTF-8"), std::string::npos) << built.output;
  EXPECT_NE(built.output.find("line 2"), std::string::npos) << built.output;
  const std::string advice = ": iconv -f LATIN1 -t UTF-8 < " + in("bad.txt");
  EXPECT_NE(built.output.find(advice), std::string::npos) << built.output;
  const auto encoded =
      minibert("tokenizer encode --vocab " + in("vocab.txt") + " " + in("bad.txt"));
  EXPECT_EQ(encoded.status, 0);
  EXPECT_NE(encoded.output.find(advice), std::string::npos) << encoded.output;
}

TEST_F(DataBuild, VerbHasTheDocumentedExitCodes) {
  const std::string build =
      "data build --vocab " + in("vocab.txt") + " --output " + in("out") + " ";
  write_bytes(folder_ / "binary", std::string("\x7F"
                                              "ELF\0\0",
                                              6));
  write_bytes(folder_ / "empty", "");
  for (const char* file : {"missing", "empty", "binary", "."}) {
    const auto result = minibert(build + in(file));
    EXPECT_EQ(result.status, 3) << result.output;
    EXPECT_NE(result.output.find(in(file)), std::string::npos) << result.output;
  }
  for (const std::string flags :
       {"--sequence-length 2", "--masked-lm-prob 2", "--format xml", "--masking sometimes",
        "--document-break '('", "--duplicate-factor 0", "--sequence-length many", "--no-such-flag",
        "--threads 0 --threads -3"}) {
    const auto result = minibert(build + flags + " " + in("lines.txt"));
    EXPECT_EQ(result.status, 2) << flags << "\n" << result.output;
  }
  EXPECT_EQ(minibert("data inspect " + folder_.path().string()).status, 3);
  EXPECT_EQ(minibert("data inspect " + in("missing")).status, 3);
  EXPECT_EQ(minibert("data").status, 2);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
}

}  // namespace
}  // namespace minibert
