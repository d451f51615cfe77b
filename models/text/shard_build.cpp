// shard_build.cpp: the stages of `data build`, one class or function per stage. See shard_build.h.
#include "models/text/shard_build.h"

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "core/clock.h"
#include "core/error.h"
#include "core/version.h"
#include "models/text/atomic_file.h"
#include "models/text/build_journal.h"
#include "models/text/casing.h"
#include "models/text/example_stage.h"
#include "models/text/json_text.h"
#include "models/text/partial_folder.h"
#include "models/text/text_sources.h"
#include "models/text/text_stage.h"
#include "models/text/tokenizer_folder.h"
#include "models/text/wordpiece.h"

namespace minibert {
namespace {

constexpr int64_t kLeastMemory = 256 << 20;
constexpr int64_t kFixedMemory = 160 << 20;  // batches of text, hashes of sentences, buffers

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
  MB_CHECK(options.memory >= kLeastMemory, "--memory: is {} bytes, expected at least {}MB.",
           options.memory, kLeastMemory >> 20);
  MB_CHECK(options.shard_bytes >= 1 << 10, "--shard-size: is {} bytes, expected at least 1024.",
           options.shard_bytes);
}

/// Counts by id mean nothing for another vocabulary, or for text that was read in another way.
void check_unigram_source(const BuildOptions& options, const Vocab& vocabulary) {
  const Manifest source = read_manifest(options.unigram_from);
  const std::string hash = fmt::format("{:016x}", vocabulary.hash());
  const TokenizerOptions ours = options_of(options.settings), theirs = options_of(source.settings);
  MB_CHECK(source.vocabulary_hash == hash && same_words(ours, theirs),
           "--unigram-from: {} was built with another vocabulary (hash {}, {}) than this build "
           "(hash {}, {}), expected the same. Use --vocab {}.",
           options.unigram_from.string(), source.vocabulary_hash, describe(theirs), hash,
           describe(ours), (options.unigram_from / "vocab.txt").string());
}

// ---- 2. All of it ------------------------------------------------------------------------------

/// The same for the same build only; "" for one that cannot be repeated (standard input).
std::string identity_of(const BuildOptions& options, const std::vector<std::string>& files,
                        const Manifest& manifest) {
  nlohmann::json sources = nlohmann::json::array();
  for (const std::string& file : files) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(file, error);  // fails for pipes, too
    if (file == "-" || error) return "";
    const auto time = std::filesystem::last_write_time(file, error).time_since_epoch().count();
    sources.push_back({file, bytes, time});
  }
  if (options.dry_run || !options.record_draws.empty()) return "";
  return json_text(nlohmann::json{{"program", fmt::format("{} {}", version(), git_commit())},
                                  {"settings", to_json(manifest.settings)},
                                  {"vocabulary", manifest.vocabulary_hash},
                                  {"unigrams", options.unigram_from.string()},
                                  {"shard_bytes", options.shard_bytes},
                                  {"sources", sources}});
}

int64_t text_bytes(const Manifest& manifest) {
  int64_t bytes = 0;
  for (const SourceStats& source : manifest.sources) bytes += source.text_bytes;
  return bytes;
}

/// Where a dry run keeps what memory should not hold; made at its first use.
class ScratchFolder {
 public:
  ScratchFolder()
      : path_(std::filesystem::temp_directory_path() / fmt::format("minibert-{}", ::getpid())) {}
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void finish_folder(const std::filesystem::path& folder, const BuildOptions& options,
                   const std::vector<uint64_t>& unigrams, const Manifest& manifest) {
  for (const auto& [name, text] : files_for_shards(options.vocabulary))
    write_file_atomically(folder / name, text);
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
  const DataSettings& settings = options.settings;

  TokenizerOptions tokenizer_options = options_of(settings);
  tokenizer_options.recognise_special_tokens = false;  // `[MASK]` in the text is characters
  const FolderTokenizer vocabulary = open_tokenizer_folder(options.vocabulary);
  for (const std::string& note : vocabulary.notes) say(options, "note: " + note);
  tokenizer_options.clean_text = vocabulary.tokenizer.options().clean_text;
  tokenizer_options.max_characters_per_word =
      vocabulary.tokenizer.options().max_characters_per_word;
  const WordPieceTokenizer tokenizer(vocabulary.tokenizer.vocab(), tokenizer_options,
                                     vocabulary.tokenizer.added());
  const TokenTable table = token_table(tokenizer.vocab());
  std::vector<uint64_t> given_unigrams;
  if (!options.unigram_from.empty()) {
    check_unigram_source(options, tokenizer.vocab());
    given_unigrams = read_unigram_counts(options.unigram_from, table.vocab_size);
  }

  Manifest manifest;
  manifest.settings = settings;
  manifest.vocabulary_hash = fmt::format("{:016x}", tokenizer.vocab().hash());
  manifest.tokens = table;
  manifest.unigram_source =
      options.unigram_from.empty() ? "this folder" : options.unigram_from.string();
  const std::vector<std::string> files = expand_sources(options.files);
  const std::string identity = identity_of(options, files, manifest);
  std::optional<PartialFolder> folder;
  if (!options.dry_run) folder.emplace(resolved_output(options.output), options.force, identity);
  const ScratchFolder scratch;
  const std::filesystem::path path = folder ? folder->path() : std::filesystem::path{};
  const int64_t memory =
      options.array_memory > 0 ? options.array_memory : options.memory - kFixedMemory;
  BuildJournal journal(path, identity);
  std::optional<TextStage> stage;
  const auto begin_text = [&]() -> TextStage& {
    return stage.emplace(tokenizer, table, settings, folder ? path : scratch.path(), memory / 2);
  };
  begin_text();
  if (journal.load_text(manifest, stage->training(), stage->held_out())) {
    say(options, "the text was read before this command was stopped: going on after it");
    journal.tidy();
  } else {
    if (folder) journal.remove();
    manifest.sources.clear();
    TextStage& reading = begin_text();
    for (const std::string& file : files) {
      say(options, fmt::format("reading {}", file));
      manifest.sources.push_back(read_documents(file, settings.documents, [&](Document&& document) {
        reading.add(std::move(document));
      }));
    }
    reading.finish();
    if (journal.on() && text_bytes(manifest) > options.restart_bytes)
      journal.save_text(manifest, reading.training(), reading.held_out());
  }
  const bool keeps = folder && BuildJournal::is_of(path, identity);
  TextStage& text = *stage;
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
                          DrawRecorder& recorder) {
    Manifest result = manifest;
    result.held_out = held_out;
    if (held_out && options.unigram_from.empty())
      result.unigram_source = "the training folder this was held out of";
    const ExampleStageOptions stage_options{options.shard_bytes, memory / 4, options.dry_run,
                                            held_out, keeps ? &journal : nullptr};
    result.shards = ExampleStage(folder, settings, stage_options, table, part, recorder).run();
    result.counts = part.counts;
    result.facts = part.facts;
    const auto& unigrams = given_unigrams.empty() ? training.unigrams : given_unigrams;
    if (!options.dry_run) finish_folder(folder, options, unigrams, result);
    part.documents = {};  // removes its files
    return result;
  };
  DrawRecorder recorder(options.dry_run ? std::filesystem::path{} : options.record_draws),
      no_recorder({});
  if (settings.hold_out_every > 0) {
    say(options, options.dry_run ? "" : "creating the held-out examples");
    if (folder) std::filesystem::create_directory(path / "held-out");
    const bool done = keeps && holds_manifest(path / "held-out");  // before a kill
    report.held_out =
        done ? read_manifest(path / "held-out")
             : finish(path / "held-out", text.held_out(), /* held_out= */ true, no_recorder);
  }
  say(options, options.dry_run ? "" : "creating the examples");
  report.data = finish(path, training, /* held_out= */ false, recorder);
  if (keeps) journal.remove();
  if (folder) folder->publish();
  report.seconds = seconds_now() - start;
  return report;
}

}  // namespace minibert
