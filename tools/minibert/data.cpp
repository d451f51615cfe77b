// data.cpp: `minibert data build` and `minibert data inspect`: flags in, tables or JSON out. The
// work is done in models/text/shard_build.h and shard_inspect.h. Try: minibert data build --help.
// Test: ctest -R shard_build.
#include <algorithm>
#include <cstdio>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/nearest_name.h"
#include "core/parallel.h"
#include "models/text/casing.h"
#include "models/text/corpus_lint.h"
#include "models/text/json_text.h"
#include "models/text/shard_build.h"
#include "models/text/shard_inspect.h"
#include "models/text/tokenizer_folder.h"
#include "tools/minibert/size_flag.h"
#include "tools/minibert/verbs.h"

namespace minibert {
namespace {

// ---- data build --------------------------------------------------------------------------------

double percent(int64_t part, int64_t whole) {
  return 100 * share_of(part, whole);
}

struct BuildFlags {
  BuildOptions options;
  std::string format = name_of(TextFormat::lines), masking = "static";
  bool no_nsp = false, json = false;
  int threads = 0;
  int32_t max_sentence_tokens = 0;
  CLI::Option* cut = nullptr;          // --max-sentence-tokens
  CLI::Option* predictions = nullptr;  // --max-predictions
};

/// What did not fit: text that was cut into pieces, and text that is in no example.
void print_lost_text(const Manifest& manifest) {
  const DataCounts& c = manifest.counts;
  const CorpusFacts& facts = *manifest.facts;
  if (facts.cut_sentences > 0) {
    fmt::print("  {} sentences were too long and were cut into pieces ({:.1f} % of the tokens)\n",
               facts.cut_sentences, percent(facts.cut_tokens, c.tokens));
  }
  if (facts.lost_tokens > 0) {
    const int64_t read = c.tokens * manifest.settings.duplicate_factor;
    fmt::print("  {} of {} tokens ({:.1f} %) are in no example: they were truncated\n",
               facts.lost_tokens, read, percent(facts.lost_tokens, read));
  }
}

void print_part(const char* title, const Manifest& manifest) {
  const DataCounts& c = manifest.counts;
  fmt::print("{}: {} documents, {} sentences, {} tokens ({} unknown)\n", title, c.documents,
             c.sentences, c.tokens, c.unknown_tokens);
  if (c.examples == 0) return;
  fmt::print("  {} examples", c.examples);
  if (!manifest.shards.empty()) fmt::print(" in {} shards", manifest.shards.size());
  fmt::print(", mean length {:.1f} tokens",
             static_cast<double>(c.example_tokens) / static_cast<double>(c.examples));
  if (manifest.settings.examples.nsp) {
    fmt::print(", true next sentence in {:.1f} %", percent(c.nsp_next, c.examples));
  }
  fmt::print("\n");
  print_lost_text(manifest);
}

void print_sources(const Manifest& manifest) {
  for (const SourceStats& source : manifest.sources) {
    fmt::print("{}: {} documents in {} lines", source.path, source.documents, source.lines);
    if (source.skipped_lines > 0)
      fmt::print(", {} lines of front matter skipped", source.skipped_lines);
    if (source.utf16) fmt::print(", converted from UTF-16");
    if (!source.seven_bit.empty()) fmt::print(", which are {}, read as ASCII", source.seven_bit);
    if (source.returns) fmt::print(", which end with carriage returns alone");
    if (source.invalid_bytes > 0) {
      fmt::print(", {} bytes are not UTF-8 and were replaced by U+FFFD (first in line {})",
                 source.invalid_bytes, source.first_invalid_line);
    }
    fmt::print("\n");
  }
}

constexpr size_t kShownFindings = 5;  // data inspect has all

/// The findings of both folders, those of the held-out one marked.
std::vector<CorpusFinding> findings_of(const BuildReport& report) {
  std::vector<CorpusFinding> findings = lint(report.data);
  if (!report.held_out) return findings;
  for (CorpusFinding& finding : lint(*report.held_out)) {
    finding.message = "held-out text: " + finding.message;
    findings.push_back(std::move(finding));
  }
  return findings;
}

void print_report(const BuildFlags& flags, const BuildReport& report) {
  if (flags.json) {
    nlohmann::json value = {{"output", flags.options.output.string()},
                            {"dry_run", flags.options.dry_run},
                            {"estimated_examples", report.data.counts.examples},
                            {"seconds", report.seconds},
                            {"data", to_json(report.data)},
                            {"findings", to_json(findings_of(report))}};
    if (report.held_out) value["held_out"] = to_json(*report.held_out);
    fmt::print("{}\n", json_text(value));
    return;
  }
  print_sources(report.data);
  print_part("training text", report.data);
  if (report.held_out) print_part("held-out text", *report.held_out);
  if (flags.options.dry_run) {
    fmt::print("dry run: nothing was written; a build would write {} examples\n",
               report.data.counts.examples);
  } else {
    fmt::print("wrote {} in {:.1f} s\n", flags.options.output.string(), report.seconds);
  }
  for (const std::string& line : describe(findings_of(report), kShownFindings))
    fmt::print("finding: {}\n", line);
}

void run_build(BuildFlags& flags) {
  DataSettings& settings = flags.options.settings;
  settings.documents.format = parse_text_format(flags.format);
  MB_CHECK(flags.masking == "static" || flags.masking == "dynamic",
           "--masking: '{}' is unknown, expected static (drawn once, stored) or dynamic (drawn by "
           "the loader in each epoch).{}",
           flags.masking, did_you_mean(flags.masking, {"static", "dynamic"}));
  settings.dynamic_masking = flags.masking == "dynamic";
  settings.examples.nsp = !flags.no_nsp;
  if (flags.predictions->count() == 0)  // the default is for sequences of 128
    settings.masking.max_predictions = std::max(
        1, std::min(settings.masking.max_predictions, settings.examples.sequence_length - 1));
  if (flags.cut->count() > 0) settings.examples.max_sentence_tokens = flags.max_sentence_tokens;
  std::string note;
  const auto& vocabulary = flags.options.vocabulary;
  set_options(settings, options_for(vocabulary, open_tokenizer_folder(vocabulary).tokenizer,
                                    settings.cased, note));
  if (!note.empty()) fmt::print(stderr, "note: {}\n", note);
  if (flags.threads != 0) set_num_threads(flags.threads);
  flags.options.progress = [](const std::string& what) { fmt::print(stderr, "{}\n", what); };
  print_report(flags, build_shards(flags.options));
}

void add_build(CLI::App& data) {
  auto flags = std::make_shared<BuildFlags>();
  BuildOptions& options = flags->options;
  DataSettings& settings = options.settings;
  CLI::App* build = data.add_subcommand("build", "Turn raw text into shards of MLM+NSP examples");
  build
      ->add_option(
          "FILES", options.files,
          "Text, plain, .gz or .zst: files, folders (all files in them), quoted patterns such "
          "as 'wiki/*.gz'; - is standard input")
      ->required();
  build
      ->add_option(
          "--vocab", options.vocabulary,
          "vocab.txt, as written by tokenizer train; or tokenizer.json, or a model's folder")
      ->required();
  build->add_option("--output", options.output, "Folder for the shards; new or empty");
  build->add_flag("--cased", settings.cased,
                  "Keep case and accents (default: what tokenizer_config.json beside --vocab says, "
                  "else lower case)");
  build->add_option("--format", flags->format, describe_text_formats())->capture_default_str();
  build
      ->add_option("--field", settings.documents.field,
                   "jsonl: the key of the text, or a path such as article.body")
      ->capture_default_str();
  build->add_option("--document-break", settings.documents.document_break,
                    fmt::format("A line of at most {} bytes that matches this ECMAScript regular "
                                "expression starts a new document and is not text itself",
                                kLongestHeading));
  build->add_flag("--keep-front-matter", settings.documents.keep_front_matter,
                  "Keep the text before a file's first --document-break as a document");
  build
      ->add_option("--sequence-length", settings.examples.sequence_length,
                   "Maximum length of an example, tokens")
      ->capture_default_str();
  flags->cut = build->add_option("--max-sentence-tokens", flags->max_sentence_tokens,
                                 "Sentences (lines) of more tokens are cut into pieces; 0: none, "
                                 "as in Google's script (default: what an example holds)");
  flags->cut->check(CLI::NonNegativeNumber);
  flags->predictions =
      build
          ->add_option(
              "--max-predictions", settings.masking.max_predictions,
              "Maximum number of masked tokens per example (default: less for sequences of "
              "fewer tokens)")
          ->capture_default_str();
  build->add_option("--masked-lm-prob", settings.masking.masked_lm_prob, "Share of tokens to mask")
      ->capture_default_str();
  build
      ->add_option("--short-sequence-prob", settings.examples.short_sequence_prob,
                   "Share of documents cut into shorter examples")
      ->capture_default_str();
  build
      ->add_option("--duplicate-factor", settings.duplicate_factor,
                   "Passes over the text, each with other cuts and masks")
      ->capture_default_str();
  build
      ->add_option("--masking", flags->masking,
                   "static: drawn once, stored; dynamic: drawn by the loader in each epoch")
      ->capture_default_str();
  build->add_flag("--no-nsp", flags->no_nsp, "One segment per example, no next-sentence pairs");
  build->add_flag("--whole-word-masking", settings.masking.whole_word,
                  "Mask all pieces of a word together");
  build->add_option("--seed", settings.seed, "Names every random draw")->capture_default_str();
  build
      ->add_option("--hold-out-every", settings.hold_out_every,
                   "Every K-th document goes to OUTPUT/held-out; 0: none")
      ->capture_default_str();
  build->add_option("--unigram-from", options.unigram_from,
                    "Training shards whose token counts eval mlm compares with (for held-out text "
                    "built on its own)");
  build
      ->add_option(
          "--shard-size", options.shard_bytes,
          "Size of a shard, such as 64MB (or MiB; a number alone is bytes, here and below)")
      ->transform(as_bytes("--shard-size"))
      ->default_str("256MiB");
  build->add_flag("--shuffle", settings.shuffle,
                  "Store the examples in a random order (the loader of train draws one anyway)");
  build
      ->add_option(
          "--memory", options.memory,
          "Memory to use, such as 4GB; the rest goes to files beside OUTPUT (the result does "
          "not depend on it)")
      ->transform(as_bytes("--memory"))
      ->default_str("1GB");
  build
      ->add_option(
          "--restart-size", options.restart_bytes,
          "Builds of more text than this keep their progress beside OUTPUT; the same command "
          "goes on after a kill")
      ->transform(as_bytes("--restart-size"))
      ->default_str("64MB");
  build->add_option("--threads", flags->threads,
                    "CPU threads (the result does not depend on them)");
  build->add_option("--record-draws", options.record_draws,
                    "Write documents and random draws to this file, for checking");
  build->add_flag("--force", options.force, "Replace an earlier build in OUTPUT");
  build->add_flag("--dry-run", options.dry_run, "Read and count, write nothing");
  build->add_flag("--json", flags->json, "Print the report as one JSON object");
  build->callback([flags] { run_build(*flags); });
}

// ---- data inspect ------------------------------------------------------------------------------

struct InspectFlags {
  std::filesystem::path folder;
  bool strict = false, json = false;
};

void add_inspect(CLI::App& data) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* inspect =
      data.add_subcommand("inspect", "Check a folder of shards and describe its contents");
  inspect->add_option("FOLDER", flags->folder, "Output of data build")->required();
  inspect->add_flag("--strict", flags->strict, "Exit with 3 if there are findings about the text");
  inspect->add_flag("--json", flags->json, "Print one JSON object");
  inspect->callback([flags] {
    const ShardInspection found = inspect_shards(flags->folder);
    fmt::print("{}\n", flags->json ? json_text(to_json(found)) : describe(found));
    MB_CHECK_AS(
        DataError, !flags->strict || found.findings.empty(),
        "{}: has {} findings, expected none (--strict). Mend the text as they say and build "
        "again, or leave out --strict.",
        flags->folder.string(), found.findings.size());
  });
}

}  // namespace

void add_data_verb(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Turn raw text into training data");
  data->require_subcommand(1);
  add_build(*data);
  add_inspect(*data);
}

}  // namespace minibert
