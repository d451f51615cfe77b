// tokenizer.cpp: `minibert tokenizer train` trains a vocabulary on text, `minibert tokenizer
// encode` prints ids. Called by main.cpp; the work is done in models/text. Standard output has only
// results; remarks go to standard error. Test: ctest -R tokenizer_verb.
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/parallel.h"
#include "models/text/casing.h"
#include "models/text/json_text.h"
#include "models/text/text_reader.h"
#include "models/text/text_sources.h"
#include "models/text/tokenizer_folder.h"
#include "models/text/wordpiece.h"
#include "models/text/wordpiece_trainer.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

constexpr size_t kBatchBytes = size_t{4} << 20;  // text that the threads encode at once
constexpr int64_t kLinesAtOnce = 256;            // of it, what a thread takes

void report_encoding(const SourceStats& stats) {
  if (const std::string note = encoding_note(stats); !note.empty())
    fmt::print(stderr, "warning: {}: {}\n", stats.path, note);
}

// ---- train -------------------------------------------------------------------------------------

struct TrainFlags {
  WordPieceTrainerOptions options;
  std::vector<std::string> files;
  std::string output;
  std::string format = name_of(TextFormat::lines);
  DocumentOptions documents;
  int64_t hold_out_every = 0;
  bool cased = false, force = false, dry_run = false, json = false;
};

TokenizerOptions tokenizer_options(bool cased) {
  return cased ? TokenizerOptions::cased() : TokenizerOptions{};
}

/// What data build names among its findings.
void report(const SourceStats& stats, bool holds_text) {
  if (!holds_text) fmt::print(stderr, "warning: {}: holds no text\n", stats.path);
  report_encoding(stats);
}

void count_file(const std::string& path, LineReader::Empty without_text, WordCounter& counter) {
  LineReader reader(path, without_text);
  std::vector<std::string> lines(1);
  size_t bytes = 0;
  while (reader.next(lines.back())) {
    bytes += lines.back().size();
    lines.emplace_back();
    if (bytes < kBatchBytes) continue;
    counter.add(lines);
    lines.assign(1, {});
    bytes = 0;
  }
  counter.add(lines);
  report(reader.stats(), reader.stats().text_bytes > 0);
}

// Counts the words of the documents that data build would train on with the same flags.
void count_training_documents(const TrainFlags& flags, WordCounter& counter) {
  int64_t number = 0;
  for (const std::string& file : flags.files) {
    const SourceStats stats = read_documents(
        file, flags.documents,
        [&](Document&& document) {
          if (!is_held_out(++number, flags.hold_out_every)) counter.add(document);
        },
        without_text_among(flags.files.size()));
    report(stats, stats.documents > 0);
  }
}

void count_words(const TrainFlags& flags, WordCounter& counter) {
  const TextFormat format = flags.documents.format;
  const bool lines_are_text = format == TextFormat::lines || format == TextFormat::paragraphs;
  if (flags.hold_out_every > 0 || !lines_are_text) return count_training_documents(flags, counter);
  const auto without_text = without_text_among(flags.files.size());
  for (const std::string& file : flags.files) count_file(file, without_text, counter);
}

void check_output(const TrainFlags& flags) {
  std::error_code ignored;
  MB_CHECK(!std::filesystem::is_directory(flags.output, ignored),
           "tokenizer train: --output {} is a folder, expected a file. Give {}/vocab.txt.",
           flags.output, flags.output);
  MB_CHECK(
      !std::filesystem::is_other(flags.output, ignored),
      "tokenizer train: --output {} is a device or a pipe, expected a file or a new name. Give the "
      "name of a file.",
      flags.output);
  MB_CHECK(flags.force || !std::filesystem::exists(flags.output, ignored),
           "tokenizer train: --output {} exists, expected a new file (it may be the vocabulary of "
           "another model). Choose another name or add --force.",
           flags.output);
  const auto folder = std::filesystem::path(flags.output).parent_path();
  MB_CHECK(folder.empty() || std::filesystem::is_directory(folder, ignored),
           "tokenizer train: folder {} of --output does not exist. Create it: mkdir -p {}",
           folder.string(), folder.string());
}

void print_plan(const TrainFlags& flags) {
  const auto without_text = without_text_among(flags.files.size());
  for (const std::string& file : flags.files) {
    // Opens the file and reads its start, to report faults now.
    if (file != "-") LineReader{file, without_text};
  }
  fmt::print(
      "would train {} tokens ({}, min frequency {}, at most {} characters) on {} into {}; nothing "
      "was written\n",
      flags.options.vocab_size, flags.cased ? "cased" : "uncased", flags.options.min_frequency,
      flags.options.limit_alphabet, fmt::join(flags.files, " "), flags.output);
}

void print_training(const TrainFlags& flags, const WordPieceTraining& training,
                    const std::vector<WordCount>& words) {
  int64_t occurrences = 0;
  for (const WordCount& entry : words) occurrences += entry.count;
  if (flags.json) {
    nlohmann::ordered_json facts;
    facts["output"] = flags.output;
    facts["vocab_size"] = training.vocab.size();
    facts["vocab_hash"] = fmt::format("{:016x}", training.vocab.hash());
    facts["words"] = occurrences;
    facts["distinct_words"] = words.size();
    facts["merges"] = training.merges;
    facts["last_merge_count"] = training.last_merge_count;
    facts["characters_dropped"] = training.characters_dropped;
    fmt::print("{}\n", json_text(facts));
    return;
  }
  fmt::print("{}: {} tokens from {} words ({} distinct); the last merged pair was seen {} times\n",
             flags.output, training.vocab.size(), occurrences, words.size(),
             training.last_merge_count);
}

void print_warnings(const TrainFlags& flags, const WordPieceTraining& training) {
  const WordPieceTrainerOptions& options = flags.options;
  const int64_t size = training.vocab.size();
  if (training.characters_dropped > 0) {
    fmt::print(stderr,
               "{}: the {} rarest characters are not in the alphabet, and words with them are "
               "[UNK].{} To keep them: --limit-alphabet {}.\n",
               size < options.vocab_size ? "warning" : "note", training.characters_dropped,
               size < options.vocab_size ? fmt::format(" There is room: {} tokens instead of {}.",
                                                       size, options.vocab_size)
                                         : "",
               options.limit_alphabet + training.characters_dropped);
  } else if (size < options.vocab_size) {
    fmt::print(
        stderr,
        "warning: {} tokens instead of {}: no other pair is seen {} times. Give more text{}.\n",
        size, options.vocab_size, options.min_frequency,
        options.min_frequency > 1 ? ", or lower --min-frequency" : "");
  }
}

void train(TrainFlags flags) {
  if (flags.files.empty()) flags.files = {"-"};
  flags.documents.format = parse_text_format(flags.format);
  check_document_options(flags.documents);
  flags.files = expand_sources(flags.files);
  check_output(flags);
  if (flags.dry_run) return print_plan(flags);
  WordCounter counter(tokenizer_options(flags.cased));
  count_words(flags, counter);
  const std::vector<WordCount> words = counter.sorted();
  const WordPieceTraining training = train_wordpiece(words, flags.options);
  print_warnings(flags, training);
  training.vocab.save(flags.output);
  print_training(flags, training, words);
}

void add_train(CLI::App& parent) {
  auto flags = std::make_shared<TrainFlags>();
  auto* sub = parent.add_subcommand("train", "a WordPiece vocabulary (vocab.txt) from text");
  sub->add_option("--vocab-size", flags->options.vocab_size,
                  "tokens, the five special ones included")
      ->required()
      ->check(CLI::Range(6, 10'000'000));
  sub->add_option("--output", flags->output, "vocabulary file to write, e.g. vocab.txt")
      ->required();
  sub->add_flag("--cased", flags->cased,
                "keep case and accents (default: lower case, accents stripped)");
  sub->add_option("--min-frequency", flags->options.min_frequency,
                  "pieces seen less often together are not merged")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  sub->add_option("--limit-alphabet", flags->options.limit_alphabet,
                  "characters kept, the most frequent ones")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000'000));
  sub->add_option(
         "--hold-out-every", flags->hold_out_every,
         "skip every K-th document, the same ones as data build with the same --format and "
         "--document-break")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  sub->add_option("--format", flags->format, describe_text_formats() + " (as in data build)")
      ->capture_default_str();
  sub->add_option("--field", flags->documents.field, "as in data build")->capture_default_str();
  sub->add_option("--document-break", flags->documents.document_break, "as in data build");
  sub->add_flag("--force", flags->force, "replace --output if it exists");
  sub->add_flag("--dry-run", flags->dry_run, "check flags and files, write nothing");
  sub->add_flag("--json", flags->json, "print the result as one JSON object");
  sub->add_option(
      "FILES", flags->files,
      "text, plain or .gz or .zst: files, folders, quoted patterns; none or - is standard input");
  sub->callback([flags] { train(*flags); });
}

// ---- encode ------------------------------------------------------------------------------------

struct EncodeFlags {
  std::string vocab, file = "-";
  bool cased = false, no_special_tokens = false, json = false;
};

void append_ids(const std::vector<int32_t>& ids, char separator, std::string& out) {
  std::array<char, 12> digits;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += separator;
    out.append(digits.data(), std::to_chars(digits.begin(), digits.end(), ids[i]).ptr);
  }
}

/// Written as it goes: a tree of a long line's tokens would take sixty times its bytes.
void append_json(const WordPieceTokenizer& tokenizer, const std::string& text,
                 const std::vector<int32_t>& ids, std::string& out) {
  out += "{\"text\":" + json_text(nlohmann::json(text)) + ",\"ids\":[";
  append_ids(ids, ',', out);
  out += "],\"tokens\":[";
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += ',';
    out += json_text(nlohmann::json(tokenizer.vocab().token(ids[i])));
  }
  out += "]}";
}

/// All of it, and at once: whoever writes to a live pipe sees what became of a line.
void print_all(const std::string& out) {
  const bool good = std::fwrite(out.data(), 1, out.size(), stdout) == out.size();
  MB_CHECK_AS(
      DataError, good && std::fflush(stdout) == 0,
      "tokenizer encode: standard output can't be written (disk full, or its reader has ended).");
}

/// That of a model's folder, or BERT's with a vocabulary alone.
WordPieceTokenizer open_tokenizer(const EncodeFlags& flags) {
  FolderTokenizer found = open_tokenizer_folder(flags.vocab);
  std::string note;
  const TokenizerOptions options = options_for(flags.vocab, found.tokenizer, flags.cased, note);
  if (!note.empty()) found.notes.push_back(note);
  for (const std::string& line : found.notes) fmt::print(stderr, "note: {}\n", line);
  if (same_words(found.tokenizer.options(), options)) return std::move(found.tokenizer);
  return {found.tokenizer.vocab(), options};
}

/// Prints what becomes of lines, in their order; the threads share them.
void encode_lines(const EncodeFlags& flags, const WordPieceTokenizer& tokenizer,
                  const std::vector<std::string>& lines) {
  const auto size = static_cast<int64_t>(lines.size());
  std::vector<std::string> printed(static_cast<size_t>((size + kLinesAtOnce - 1) / kLinesAtOnce));
  parallel_for(size, kLinesAtOnce, [&](int64_t begin, int64_t end) {
    std::string out;  // not in `printed`, where other threads' strings lie in the same cache line
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      const auto ids = flags.no_special_tokens ? tokenizer.encode(lines[i])
                                               : tokenizer.encode_with_special_tokens(lines[i]);
      flags.json ? append_json(tokenizer, lines[i], ids, out) : append_ids(ids, ' ', out);
      out += '\n';
    }
    printed[static_cast<size_t>(begin / kLinesAtOnce)] = std::move(out);
  });
  for (const std::string& out : printed) print_all(out);
}

void encode(const EncodeFlags& flags) {
  const WordPieceTokenizer tokenizer = open_tokenizer(flags);
  LineReader reader(flags.file);
  std::vector<std::string> lines(1);
  size_t bytes = 0;
  while (reader.next(lines.back())) {
    bytes += lines.back().size() + sizeof(std::string);
    lines.emplace_back();
    if (bytes < kBatchBytes && reader.ready()) continue;
    lines.pop_back();
    encode_lines(flags, tokenizer, lines);
    lines.assign(1, {});
    bytes = 0;
  }
  lines.pop_back();
  encode_lines(flags, tokenizer, lines);
  report_encoding(reader.stats());
}

void add_encode(CLI::App& parent) {
  auto flags = std::make_shared<EncodeFlags>();
  auto* sub =
      parent.add_subcommand("encode", "one line of ids per line of text, equal to BertTokenizer's");
  sub->add_option(
         "--vocab", flags->vocab,
         "vocab.txt or tokenizer.json of the model, or its folder; what the files beside it "
         "say counts, too")
      ->required();
  sub->add_flag("--cased", flags->cased,
                "the vocabulary is cased: keep case and accents (default: what "
                "tokenizer_config.json beside --vocab says, else lower case)");
  sub->add_flag("--no-special-tokens", flags->no_special_tokens, "leave out [CLS] and [SEP]");
  sub->add_flag("--json", flags->json, "one JSON object per line: text, ids, tokens");
  sub->add_option("FILE", flags->file, "text, plain or .gz or .zst; none or - is standard input");
  sub->callback([flags] { encode(*flags); });
}

}  // namespace

void add_tokenizer_verb(CLI::App& app) {
  auto* sub = app.add_subcommand("tokenizer", "WordPiece vocabularies and ids");
  sub->require_subcommand(1);
  add_train(*sub);
  add_encode(*sub);
}

}  // namespace minibert
