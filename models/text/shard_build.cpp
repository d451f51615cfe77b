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

constexpr int64_t kLeastMemory = 256'000'000;
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
           options.memory, kLeastMemory / 1'000'000);
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

// ---- 2. What the stages need -------------------------------------------------------------------

void say(const BuildOptions& options, const std::string& what) {
  if (options.progress && !what.empty()) options.progress(what);
}

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

/// Less than text_bytes() of what is compressed. 0 for pipes.
int64_t file_bytes(const std::vector<std::string>& files) {
  int64_t bytes = 0;
  std::error_code error;
  for (const std::string& file : files) {
    const auto size = std::filesystem::file_size(file, error);
    if (!error) bytes += static_cast<int64_t>(size);
  }
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

/// That of the model's folder, but reading words as the settings say.
WordPieceTokenizer tokenizer_for(const BuildOptions& options) {
  const FolderTokenizer found = open_tokenizer_folder(options.vocabulary);
  for (const std::string& note : found.notes) say(options, "note: " + note);
  TokenizerOptions words = options_of(options.settings);
  words.recognise_special_tokens = false;  // `[MASK]` in the text is characters
  words.clean_text = found.tokenizer.options().clean_text;
  words.max_characters_per_word = found.tokenizer.options().max_characters_per_word;
  return {found.tokenizer.vocab(), words, found.tokenizer.added()};
}

/// Counts of --unigram-from; empty without it.
std::vector<uint64_t> given_unigrams(const BuildOptions& options, const Vocab& vocabulary) {
  if (options.unigram_from.empty()) return {};
  check_unigram_source(options, vocabulary);
  return read_unigram_counts(options.unigram_from, vocabulary.size());
}

/// All that is known before the text is read.
Manifest manifest_for(const BuildOptions& options, const Vocab& vocabulary,
                      const TokenTable& table) {
  Manifest manifest;
  manifest.settings = options.settings;
  manifest.vocabulary_hash = fmt::format("{:016x}", vocabulary.hash());
  manifest.tokens = table;
  manifest.unigram_source =
      options.unigram_from.empty() ? "this folder" : options.unigram_from.string();
  return manifest;
}

void finish_folder(const std::filesystem::path& folder, const BuildOptions& options,
                   const std::vector<uint64_t>& unigrams, const Manifest& manifest) {
  for (const auto& [name, text] : files_for_shards(options.vocabulary))
    write_file_atomically(folder / name, text);
  write_unigram_counts(folder, unigrams);
  write_manifest(folder, manifest);
}

// ---- 3. The stages -----------------------------------------------------------------------------

/// One build: text, held-out examples, examples, the output's name.
class Build {
 public:
  explicit Build(const BuildOptions& options)
      : options_(options),
        tokenizer_(tokenizer_for(options)),
        table_(token_table(tokenizer_.vocab())),
        unigrams_(given_unigrams(options, tokenizer_.vocab())),
        manifest_(manifest_for(options, tokenizer_.vocab(), table_)),
        files_(expand_sources(options.files)),
        identity_(identity_of(options, files_, manifest_)),
        memory_(options.array_memory > 0 ? options.array_memory : options.memory - kFixedMemory) {
    if (!options.dry_run)
      folder_.emplace(resolved_output(options.output), options.force, identity_);
    if (folder_) path_ = folder_->path();
    journal_.emplace(path_, identity_);
  }

  BuildReport run() {
    read_text();
    check_text();
    keeps_ = folder_ && BuildJournal::is_of(path_, identity_);
    BuildReport report;
    if (options_.settings.hold_out_every > 0) report.held_out = build_held_out();
    say_unless_dry("creating the examples");
    DrawRecorder recorder(options_.dry_run ? std::filesystem::path{} : options_.record_draws);
    report.data = build_part(path_, text_->training(), /* held_out= */ false, recorder);
    if (keeps_) journal_->remove();
    if (folder_) folder_->publish();
    return report;
  }

 private:
  /// Token ids of all documents: those of an earlier call that was killed, or of the files.
  void read_text() {
    begin_text();
    if (journal_->load_text(manifest_, text_->training(), text_->held_out())) {
      say(options_, "the text was read before this command was stopped: going on after it");
      return journal_->tidy();
    }
    if (folder_) journal_->remove();
    manifest_.sources.clear();
    begin_text();
    for (const std::string& file : files_) {
      say(options_, fmt::format("reading {}", file));
      manifest_.sources.push_back(read_documents(
          file, options_.settings.documents,
          [&](Document&& document) { text_->add(std::move(document)); },
          without_text_among(files_.size())));
    }
    text_->finish();
    if (journal_->on() && text_bytes(manifest_) > options_.restart_bytes)
      journal_->save_text(manifest_, text_->training(), text_->held_out());
  }

  void begin_text() {
    const bool to_store = journal_->on() && file_bytes(files_) > options_.restart_bytes;
    text_.emplace(tokenizer_, table_, options_.settings, folder_ ? path_ : scratch_.path(),
                  memory_ / 2, to_store);
  }

  void check_text() {
    const int64_t documents = text_->training().counts.documents;
    const int64_t hold_out_every = options_.settings.hold_out_every;
    MB_CHECK_AS(DataError, documents > 0,
                "data build: {} files hold no document of at least one token, expected some. Check "
                "--format and the files.",
                files_.size());
    MB_CHECK_AS(
        DataError, hold_out_every == 0 || text_->held_out().counts.documents > 0,
        "data build: {} documents are too few for --hold-out-every {}, expected at least as "
        "many. Check --document-break, or lower --hold-out-every.",
        documents, hold_out_every);
  }

  Manifest build_held_out() {
    say_unless_dry("creating the held-out examples");
    const std::filesystem::path path = path_ / "held-out";
    if (folder_) std::filesystem::create_directory(path);
    if (keeps_ && holds_manifest(path)) return read_manifest(path);  // from before a kill
    DrawRecorder no_recorder({});
    return build_part(path, text_->held_out(), /* held_out= */ true, no_recorder);
  }

  /// The examples of a part of the text, in their folder.
  Manifest build_part(const std::filesystem::path& path, TextPart& part, bool held_out,
                      DrawRecorder& recorder) {
    Manifest result = manifest_;
    result.held_out = held_out;
    if (held_out && options_.unigram_from.empty())
      result.unigram_source = "the training folder this was held out of";
    const ExampleStageOptions stage{options_.shard_bytes, memory_ / 4, options_.dry_run, held_out,
                                    keeps_ ? &*journal_ : nullptr};
    result.shards = ExampleStage(path, options_.settings, stage, table_, part, recorder).run();
    result.counts = part.counts;
    result.facts = part.facts;
    const auto& unigrams = unigrams_.empty() ? text_->training().unigrams : unigrams_;
    if (!options_.dry_run) finish_folder(path, options_, unigrams, result);
    part.documents = {};  // removes its files
    return result;
  }

  void say_unless_dry(const std::string& what) const {
    if (!options_.dry_run) say(options_, what);
  }

  const BuildOptions& options_;
  const WordPieceTokenizer tokenizer_;
  const TokenTable table_;
  const std::vector<uint64_t> unigrams_;  // [V], or empty: those of the text
  Manifest manifest_;
  const std::vector<std::string> files_;
  const std::string identity_;
  const int64_t memory_;  // bytes of the arrays that grow with the text
  std::optional<PartialFolder> folder_;
  std::filesystem::path path_;  // empty in a dry run
  const ScratchFolder scratch_;
  std::optional<BuildJournal> journal_;
  bool keeps_ = false;  // closed shards are noted in the journal
  std::optional<TextStage> text_;
};

}  // namespace

BuildReport build_shards(const BuildOptions& options) {
  const double start = seconds_now();
  check_options(options);
  BuildReport report = Build(options).run();
  report.seconds = seconds_now() - start;
  return report;
}

}  // namespace minibert
