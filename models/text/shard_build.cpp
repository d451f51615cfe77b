// shard_build.cpp: the stages of `data build`, one class or function per stage. See shard_build.h.
#include "models/text/shard_build.h"

#include <algorithm>
#include <fstream>

#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "core/error.h"
#include "core/parallel.h"
#include "models/text/atomic_file.h"
#include "models/text/partial_folder.h"
#include "models/text/shard.h"
#include "models/text/text_sources.h"
#include "models/text/text_stage.h"
#include "models/text/wordpiece.h"

namespace minibert {
namespace {

constexpr int64_t kPassDocuments = 256;  // documents whose examples are in memory at once

// ---- 1. Options --------------------------------------------------------------------------------

void check_share(const char* flag, double value) {
  MB_CHECK(value >= 0.0 && value <= 1.0, "{}: is {}, expected 0 to 1.", flag, value);
}

void check_options(const BuildOptions& options) {
  const DataSettings& s = options.settings;
  MB_CHECK(!options.files.empty(),
           "data build: no files were given, expected at least one (- is standard input).");
  MB_CHECK(options.dry_run || !options.output.empty(),
           "--output: is missing, expected a folder for the shards.");
  MB_CHECK(s.examples.sequence_length >= 5 && s.examples.sequence_length <= 65535,
           "--sequence-length: is {}, expected 5 to 65535 tokens.", s.examples.sequence_length);
  MB_CHECK(s.masking.max_predictions >= 1 && s.masking.max_predictions < s.examples.sequence_length,
           "--max-predictions: is {}, expected 1 to {} (below the sequence length).",
           s.masking.max_predictions, s.examples.sequence_length - 1);
  check_document_options(s.documents);
  check_share("--masked-lm-prob", s.masking.masked_lm_prob);
  check_share("--short-sequence-prob", s.examples.short_sequence_prob);
  MB_CHECK(s.examples.max_sentence_tokens >= 0 ||
               s.examples.max_sentence_tokens == ExampleOptions::kWhatFits,
           "--max-sentence-tokens: is {}, expected at least 1, or 0 (sentences are not cut).",
           s.examples.max_sentence_tokens);
  MB_CHECK(s.duplicate_factor >= 1 && s.duplicate_factor <= 10000,
           "--duplicate-factor: is {}, expected 1 to 10000.", s.duplicate_factor);
  MB_CHECK(s.hold_out_every == 0 || s.hold_out_every >= 2,
           "--hold-out-every: is {}, expected 0 (none) or at least 2 (documents).",
           s.hold_out_every);
  MB_CHECK(options.shard_bytes >= 1 << 10, "--shard-size: is {} bytes, expected at least 1024.",
           options.shard_bytes);
}

// ---- 2. The recording hook ---------------------------------------------------------------------

/// One JSON object per line: {"document", "sentences"}, then {"document", "duplicate", "draws"} for
/// each pass over a document and {"example", "draws"} for each static mask, in the order of the
/// draws.
class Recorder {
 public:
  explicit Recorder(const std::filesystem::path& path) {
    if (path.empty()) return;
    out_.open(path);
    MB_CHECK_AS(DataError, out_.good(), "{}: cannot be written. Check the path of --record-draws.",
                path.string());
  }
  bool on() const { return out_.is_open(); }

  void documents(const DocumentSet& documents) {
    if (!on()) return;
    for (int64_t d = 0; d < documents.documents(); ++d) {
      nlohmann::json sentences = nlohmann::json::array();
      for (int64_t s = 0; s < documents.sentences_of(d); ++s) {
        const auto ids = documents.sentence(d, s);
        sentences.push_back(std::vector<int32_t>(ids.begin(), ids.end()));
      }
      out_ << nlohmann::json{{"document", d}, {"sentences", sentences}} << '\n';
    }
  }
  void pass(int64_t document, int duplicate, const std::vector<Draw>& draws) {
    if (on())
      out_ << nlohmann::json{{"document", document},
                             {"duplicate", duplicate},
                             {"draws", to_json(draws)}}
           << '\n';
  }
  void mask(int64_t example, const std::vector<Draw>& draws) {
    if (on()) out_ << nlohmann::json{{"example", example}, {"draws", to_json(draws)}} << '\n';
  }

 private:
  static nlohmann::json to_json(const std::vector<Draw>& draws) {
    nlohmann::json values = nlohmann::json::array();
    for (const Draw& draw : draws) {
      if (draw.is_integer) {
        values.push_back(static_cast<int64_t>(draw.value));
      } else {
        values.push_back(draw.value);
      }
    }
    return values;
  }
  std::ofstream out_;
};

// ---- 3. Ids to shards --------------------------------------------------------------------------

/// Creates the examples of one part, some documents at a time, and writes them to one folder.
class ShardStage {
 public:
  ShardStage(const std::filesystem::path& folder, const BuildOptions& options,
             const TokenTable& table, TextPart& part, Recorder& recorder)
      : folder_(folder),
        options_(options),
        settings_(options.settings),
        table_(table),
        part_(part),
        recorder_(recorder) {
    part_.counts.length_histogram.resize(static_cast<size_t>(settings_.examples.sequence_length) +
                                         1);
  }

  std::vector<ShardEntry> run() {
    recorder_.documents(part_.documents);
    const int64_t documents = part_.documents.documents();
    for (int duplicate = 0; duplicate < settings_.duplicate_factor; ++duplicate) {
      for (int64_t first = 0; first < documents; first += kPassDocuments) {
        write_pass(first, std::min(kPassDocuments, documents - first), duplicate);
      }
    }
    close_shard();
    return std::move(entries_);
  }

 private:
  void write_pass(int64_t first, int64_t count, int duplicate) {
    std::vector<std::vector<Example>> passes(static_cast<size_t>(count));
    std::vector<std::vector<Draw>> draws(static_cast<size_t>(count));
    parallel_blocks(count, [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      DrawSource source(
          RandomStream(settings_.seed, StreamPurpose::examples, static_cast<uint64_t>(first + i),
                       static_cast<uint32_t>(duplicate)),
          recorder_.on() ? &draws[at] : nullptr);
      passes[at] = create_examples(part_.documents, first + i, table_, settings_.examples, source);
    });
    std::vector<StoredExample> examples;
    for (size_t i = 0; i < passes.size(); ++i) {
      recorder_.pass(first + static_cast<int64_t>(i), duplicate, draws[i]);
      for (Example& example : passes[i]) examples.push_back({std::move(example), {}, {}});
    }
    if (!settings_.dynamic_masking) mask(examples, duplicate);
    for (const StoredExample& example : examples) {
      tally(example);
      if (!options_.dry_run) write(example);
    }
  }

  void mask(std::vector<StoredExample>& examples, int duplicate) {
    std::vector<std::vector<Draw>> draws(examples.size());
    const auto first = static_cast<uint64_t>(part_.counts.examples);
    parallel_for(static_cast<int64_t>(examples.size()), 64, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        DrawSource source(RandomStream(settings_.seed, StreamPurpose::masking, first + i,
                                       static_cast<uint32_t>(duplicate)),
                          recorder_.on() ? &draws[i] : nullptr);
        MaskedTokens masked =
            mask_tokens(examples[i].example.ids, table_, settings_.masking, source);
        examples[i].example.ids = std::move(masked.ids);
        examples[i].masked_positions = std::move(masked.positions);
        examples[i].masked_labels = std::move(masked.labels);
      }
    });
    for (size_t i = 0; i < examples.size(); ++i)
      recorder_.mask(static_cast<int64_t>(first + i), draws[i]);
  }

  void write(const StoredExample& stored) {
    if (!writer_) {
      name_ = fmt::format("shard-{:05}.mbs", entries_.size());
      writer_ = std::make_unique<ShardWriter>(
          folder_ / name_, ShardTraits{table_.vocab_size, settings_.examples.sequence_length,
                                       !settings_.dynamic_masking, settings_.examples.nsp});
    }
    writer_->add(stored);
    if (writer_->bytes() >= options_.shard_bytes) close_shard();
  }

  void tally(const StoredExample& stored) {
    DataCounts& counts = part_.counts;
    ++counts.examples;
    counts.example_tokens += static_cast<int64_t>(stored.example.ids.size());
    counts.masked_tokens += static_cast<int64_t>(stored.masked_positions.size());
    counts.nsp_next += stored.example.nsp_label == kNspNext;
    counts.nsp_random += stored.example.nsp_label == kNspRandom;
    ++counts.length_histogram[stored.example.ids.size()];
    part_.facts.lost_tokens += stored.example.lost_tokens;
    part_.facts.empty_masks += !settings_.dynamic_masking && stored.masked_positions.empty();
  }

  void close_shard() {
    if (!writer_) return;
    const int64_t examples = writer_->examples();
    const ShardWriter::Result result = writer_->finish();
    const uint32_t identity = ShardReader(folder_ / name_).identity();
    entries_.push_back({name_, examples, result.bytes, result.crc32, identity});
    writer_.reset();
  }

  const std::filesystem::path& folder_;
  const BuildOptions& options_;
  const DataSettings& settings_;
  const TokenTable& table_;
  TextPart& part_;
  Recorder& recorder_;
  std::unique_ptr<ShardWriter> writer_;
  std::string name_;
  std::vector<ShardEntry> entries_;
};

// ---- 4. All of it ------------------------------------------------------------------------------

void finish_folder(const std::filesystem::path& folder, const BuildOptions& options,
                   const std::vector<uint64_t>& unigrams, const Manifest& manifest) {
  write_file_atomically(folder / "vocab.txt",
                        read_whole_file(options.vocabulary, "Give vocab.txt with --vocab."));
  write_unigram_counts(folder, unigrams);
  write_manifest(folder, manifest);
}

void say(const BuildOptions& options, const std::string& what) {
  if (options.progress && !what.empty()) options.progress(what);
}

}  // namespace

BuildReport build_shards(const BuildOptions& options) {
  const double start = seconds_now();
  check_options(options);
  std::optional<PartialFolder> folder;
  if (!options.dry_run) folder.emplace(resolved_output(options.output), options.force);
  const DataSettings& settings = options.settings;

  TokenizerOptions tokenizer_options =
      settings.cased ? TokenizerOptions::cased() : TokenizerOptions{};
  tokenizer_options.recognise_special_tokens = false;  // `[MASK]` in the text is characters
  const WordPieceTokenizer tokenizer(Vocab::load(options.vocabulary), tokenizer_options);
  const TokenTable table = token_table(tokenizer.vocab());
  std::vector<uint64_t> given_unigrams;
  if (!options.unigram_from.empty())
    given_unigrams = read_unigram_counts(options.unigram_from, table.vocab_size);

  Manifest manifest;
  manifest.settings = settings;
  manifest.vocabulary_hash = fmt::format("{:016x}", tokenizer.vocab().hash());
  manifest.tokens = table;
  manifest.unigram_source =
      options.unigram_from.empty() ? "this folder" : options.unigram_from.string();
  TextStage text(tokenizer, table, settings);
  const std::vector<std::string> files = expand_sources(options.files);
  for (const std::string& file : files) {
    say(options, fmt::format("reading {}", file));
    manifest.sources.push_back(read_documents(
        file, settings.documents, [&](Document&& document) { text.add(std::move(document)); }));
  }
  text.finish();
  TextPart& training = text.training();
  MB_CHECK_AS(DataError, training.counts.documents > 0,
              "data build: {} files hold no document of at least one token, expected some. Check "
              "--format and the files.",
              files.size());
  MB_CHECK_AS(DataError, settings.hold_out_every == 0 || text.held_out().counts.documents > 0,
              "data build: {} documents are too few for --hold-out-every {}, expected at least as "
              "many. Check --document-break, or lower --hold-out-every.",
              training.counts.documents, settings.hold_out_every);

  BuildReport report;
  const auto finish = [&](const std::filesystem::path& folder, TextPart& part, bool held_out,
                          Recorder& recorder) {
    Manifest result = manifest;
    result.held_out = held_out;
    if (held_out && options.unigram_from.empty())
      result.unigram_source = "the training folder this was held out of";
    result.shards = ShardStage(folder, options, table, part, recorder).run();
    result.counts = part.counts;
    result.facts = part.facts;
    const auto& unigrams = given_unigrams.empty() ? training.unigrams : given_unigrams;
    if (!options.dry_run) finish_folder(folder, options, unigrams, result);
    return result;
  };
  const std::filesystem::path path = folder ? folder->path() : std::filesystem::path{};
  Recorder recorder(options.dry_run ? std::filesystem::path{} : options.record_draws),
      no_recorder({});
  if (settings.hold_out_every > 0) {
    say(options, options.dry_run ? "" : "creating the held-out examples");
    if (folder) std::filesystem::create_directory(path / "held-out");
    report.held_out = finish(path / "held-out", text.held_out(), /* held_out= */ true, no_recorder);
  }
  say(options, options.dry_run ? "" : "creating the examples");
  report.data = finish(path, training, /* held_out= */ false, recorder);
  if (folder) folder->publish();
  report.seconds = seconds_now() - start;
  return report;
}

}  // namespace minibert
