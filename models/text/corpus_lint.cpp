// corpus_lint.cpp: one function a finding, in groups; the thresholds come first. See corpus_lint.h.
#include "models/text/corpus_lint.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/shell_word.h"
#include "models/text/data_faults.h"
#include "models/text/masking.h"
#include "models/text/wordpiece.h"

namespace minibert {
namespace {

// Shares from which on something is a finding. The novels of data/austen stay below each.
constexpr double kRepeatedTokens = 0.05;
constexpr double kRepeatedDocuments = 0.005;
constexpr double kOneLine = 0.01;  // of all sentences, one sentence
constexpr int64_t kOneLineTimes = 20;
constexpr double kOneSentence = 0.2;  // of the documents
constexpr double kEmptyDocuments = 0.01;
constexpr double kGiant = 0.5;        // of the tokens, one document
constexpr double kUnknown = 0.01;     // of the tokens
constexpr double kLost = 0.2;         // of the tokens
constexpr double kCut = 0.5;          // of the tokens
constexpr double kEmptyMasks = 0.01;  // of the examples
constexpr double kFewMasks = 0.7;     // of the wanted share
constexpr double kScript = 0.02;      // of the letters; and of the vocabulary's tokens below
constexpr double kVocabularyScript = 0.005;
constexpr double kUpperVocabulary = 0.02;  // of the vocabulary
constexpr double kMarkup = 0.01;           // of the sentences
constexpr double kJson = 0.1;
constexpr double kTwiceEncoded = 0.002;
constexpr double kSpecialTokens = 0.002;
constexpr double kBrokenOff = 0.2;
constexpr int64_t kWrappedTokens = 40;  // a wrapped line has fewer
constexpr double kWithoutLetters = 0.1;
constexpr double kShort = 0.5;  // of the examples

/// The files of a text as a command takes them: by name if they are few.
std::string files_of(const std::vector<SourceStats>& sources) {
  constexpr size_t kNamed = 3;
  if (sources.empty() || sources.size() > kNamed) return "FILES";
  std::string text;
  for (const SourceStats& source : sources)
    text += (text.empty() ? "" : " ") + (source.path == "-" ? "FILES" : shell_word(source.path));
  return text;
}

/// A command that sends a text through a program which reads standard input, to clean.txt.
std::string filter_command(const std::vector<SourceStats>& sources, const std::string& program) {
  const auto all_end_with = [&](const char* ending) {
    return std::all_of(sources.begin(), sources.end(),
                       [&](const SourceStats& source) { return source.path.ends_with(ending); });
  };
  const std::string files = files_of(sources);
  std::string reader = sources.size() == 1 ? "" : "cat";
  if (all_end_with(".gz")) reader = "zcat";
  if (all_end_with(".zst")) reader = "zstdcat";
  return reader.empty() ? fmt::format("{} < {} > clean.txt", program, files)
                        : fmt::format("{} {} | {} > clean.txt", reader, files, program);
}

/// A program that replaces words, which stand between blanks here, by blanks.
std::string without_words(const std::string& words) {
  std::string expression;
  for (const char c : words) {
    constexpr std::string_view kMeant = "\\.[](){}*+?^$|/";
    if (kMeant.find(c) != std::string_view::npos) expression += '\\';
    expression += c == ' ' ? '|' : c;
  }
  return "sed -E " + shell_word("s/" + expression + "/ /g");
}

class Linter {
 public:
  Linter(const Manifest& manifest, std::optional<int64_t> empty_masks)
      : manifest_(manifest),
        settings_(manifest.settings),
        counts_(manifest.counts),
        facts_(manifest.facts.value_or(CorpusFacts{})),
        empty_masks_(empty_masks.value_or(facts_.empty_masks)) {}

  std::vector<CorpusFinding> run() {
    documents();
    repeats();
    sources();
    format();
    characters();
    unknown();
    scripts();
    lengths();
    masks();
    std::stable_sort(
        findings_.begin(), findings_.end(),
        [](const CorpusFinding& a, const CorpusFinding& b) { return a.share > b.share; });
    return std::move(findings_);
  }

 private:
  template <typename... Args>
  void found(const char* name, double share, fmt::format_string<Args...> format, Args&&... args) {
    findings_.push_back({name, share, fmt::format(format, std::forward<Args>(args)...)});
  }
  double of_sentences(int64_t count) const { return share_of(count, counts_.sentences); }
  /// What to do to the text: a command where its lines are the file's, else in words.
  std::string by_command(const char* deed, const std::string& program) const {
    const TextFormat format = settings_.documents.format;
    const bool of_file = format == TextFormat::lines || format == TextFormat::paragraphs;
    return of_file ? fmt::format("{}: {}", deed, filter_command(manifest_.sources, program))
                   : fmt::format("{} where the text is made.", deed);
  }
  /// Flags with which tokenizer train reads this text as data build did.
  std::string text_flags() const {
    std::string flags = settings_.cased ? " --cased" : "";
    const TextFormat format = settings_.documents.format;
    if (format == TextFormat::wiki || format == TextFormat::jsonl)
      flags += fmt::format(" --format {}", name_of(format));
    if (format == TextFormat::jsonl) flags += " --field " + shell_word(settings_.documents.field);
    return flags;
  }
  bool lines() const { return settings_.documents.format == TextFormat::lines; }

  // ---- Documents -------------------------------------------------------------------------------

  void documents() {
    const int64_t documents = counts_.documents;
    if (settings_.examples.nsp && documents == 1) {
      found("single_document", 1.0,
            "the text is one document, so \"random\" next sentences come from the document itself. "
            "Say where documents begin: --document-break REGEX{}. Or build without pairs: "
            "--no-nsp.",
            lines() ? ", or blank lines between them" : "");
    }
    const double giant = share_of(facts_.largest_document_tokens, counts_.tokens);
    if (settings_.examples.nsp && documents > 1 && giant > kGiant) {
      found(
          "giant_document", giant,
          "one of {} documents holds {} of {} tokens. Say where documents begin: --document-break "
          "REGEX. Or build without pairs: --no-nsp.",
          documents, facts_.largest_document_tokens, counts_.tokens);
    }
    const double single = share_of(facts_.one_sentence_documents, documents);
    if (settings_.examples.nsp && documents > 1 && single > kOneSentence) {
      found(
          "one_sentence_documents", single,
          "{} of {} documents are one sentence, which has no next one: all their pairs are random. "
          "{}. Or build without pairs: --no-nsp.",
          facts_.one_sentence_documents, documents,
          lines() ? "Remove the blank lines inside documents, or find sentences in the lines: "
                    "--format paragraphs --document-break REGEX"
          : settings_.documents.format == TextFormat::paragraphs
              ? "Check --document-break"
              : "Give texts of several sentences, with their marks and capitals");
    }
    int64_t empty = facts_.empty_documents;
    for (const SourceStats& source : manifest_.sources) empty += source.empty_documents;
    if (share_of(empty, documents + empty) > kEmptyDocuments) {
      found("empty_documents", share_of(empty, documents + empty),
            "{} of {} documents hold no token and were left out. Check the source{}, or remove "
            "them.",
            empty, documents + empty,
            settings_.documents.format == TextFormat::jsonl ? " and --field" : "");
    }
    if (facts_.documents_in_both_parts > 0) {
      found(
          "held_out_copies", share_of(facts_.documents_in_both_parts, documents),
          "{} documents are in the training text and held out as well, so held-out figures are too "
          "good. {}",
          facts_.documents_in_both_parts, remove_documents());
    }
  }

  // ---- Repeated text ---------------------------------------------------------------------------

  std::string remove_documents() const {
    if (!lines() || !settings_.documents.document_break.empty())
      return "Remove the copies from " + files_of(manifest_.sources) + ".";
    return by_command("Remove the copies", "awk -v RS= -v ORS='\\n\\n' '!seen[$0]++'");
  }

  void repeats() {
    const double documents = share_of(facts_.repeated_documents, counts_.documents);
    if (documents > kRepeatedDocuments) {
      found("repeated_documents", documents, "{} of {} documents equal an earlier one. {}",
            facts_.repeated_documents, counts_.documents, remove_documents());
    }
    const double tokens = share_of(facts_.repeated_tokens, counts_.tokens);
    const std::string clean = lines() ? by_command("Remove them", "awk '!NF || !seen[$0]++'")
                                      : "Remove them from " + files_of(manifest_.sources) + ".";
    if (tokens > kRepeatedTokens) {
      found("repeated_lines", tokens, "{} of {} tokens are in sentences that were there before. {}",
            facts_.repeated_tokens, counts_.tokens, clean);
    }
    if (facts_.most_repeated >= kOneLineTimes && of_sentences(facts_.most_repeated) > kOneLine) {
      found("frequent_line", of_sentences(facts_.most_repeated),
            "\"{}\" is there {} times, among {} sentences. {}", facts_.most_repeated_text,
            facts_.most_repeated, counts_.sentences, clean);
    }
  }

  // ---- Files -----------------------------------------------------------------------------------

  void sources() {
    std::set<std::pair<int64_t, uint32_t>> seen;
    int64_t invalid = 0, hidden = 0, bytes = 0;
    const SourceStats *first = nullptr, *misread = nullptr, *seven_bit = nullptr;
    std::vector<std::string> without_text;
    for (const SourceStats& source : manifest_.sources) {
      if (source.documents == 0) {
        without_text.push_back(source.path);
        continue;
      }
      if (!seen.insert({source.file_bytes, source.crc32}).second) {
        found("repeated_files", 1.0 / static_cast<double>(manifest_.sources.size()),
              "{} has the same bytes as another file. Leave it out.", source.path);
      }
      bytes += source.text_bytes;
      invalid += source.invalid_bytes;
      if (source.invalid_bytes > 0 && first == nullptr) first = &source;
      if (source.looks_misread() && misread == nullptr) misread = &source;
      if (source.seven_bit.empty()) continue;
      hidden += source.text_bytes;
      if (seven_bit == nullptr) seven_bit = &source;
    }
    if (!without_text.empty()) {
      found("files_without_text", share_of(std::ssize(without_text), std::ssize(manifest_.sources)),
            "{} of {} files hold no text: {}. Check that they are whole, or leave them out.",
            without_text.size(), manifest_.sources.size(), first_of(without_text, 3));
    }
    if (seven_bit != nullptr) {
      found("seven_bit", share_of(hidden, bytes),
            "{} was read as ASCII, which loses its other letters.{}", seven_bit->path,
            conversion_hint(*seven_bit));
    }
    if (first == nullptr) return;
    const SourceStats& worst = misread != nullptr ? *misread : *first;
    found("not_utf8", share_of(invalid, bytes),
          "{} bytes are {} and became U+FFFD, which the tokenizer drops (see {}, line {}).{}",
          invalid, worst.zero_bytes == invalid ? "zero" : "not UTF-8", worst.path,
          worst.first_invalid_line, conversion_hint(worst));
  }

  // ---- A format that was not given -------------------------------------------------------------

  void format() {
    const double json = of_sentences(facts_.json_lines);
    if (lines() && json > kJson) {
      found("json_lines", json, "{} of {} lines are JSON objects. Read them: --format jsonl.",
            facts_.json_lines, counts_.sentences);
      return;  // what follows is only its consequence
    }
    if (facts_.document_tags > 0) {
      found("document_tags", of_sentences(facts_.document_tags),
            "{} lines are <doc ...> or </doc>, as WikiExtractor writes them. Read them: --format "
            "wiki.",
            facts_.document_tags);
    }
    const double tags = of_sentences(facts_.with_tags - facts_.document_tags);
    if (tags > kMarkup) {
      found("tags", tags, "{} of {} sentences hold tags, such as <p> or </a>. {}", facts_.with_tags,
            counts_.sentences, by_command("Remove them", "sed -E 's/<[^>]*>//g'"));
    }
    const double entities = of_sentences(facts_.with_entities);
    if (entities > kMarkup) {
      found("entities", entities, "{} of {} sentences hold entities, such as &amp;. {}",
            facts_.with_entities, counts_.sentences,
            by_command("Decode them",
                       "python3 -c 'import html,sys; "
                       "sys.stdout.write(html.unescape(sys.stdin.read()))'"));
    }
    const double broken = of_sentences(facts_.broken_off);
    const bool short_lines = counts_.tokens < kWrappedTokens * counts_.sentences;
    if (lines() && short_lines && broken > kBrokenOff) {
      found("wrapped_lines", broken,
            "{} of {} lines break off and go on in the next with a small letter: this is wrapped "
            "prose. Read it: --format paragraphs.",
            facts_.broken_off, counts_.sentences);
    }
  }

  // ---- Characters ------------------------------------------------------------------------------

  void characters() {
    const double twice = of_sentences(facts_.twice_encoded);
    if (twice > kTwiceEncoded) {
      found(
          "twice_encoded", twice,
          "{} of {} sentences hold UTF-8 that was read as Windows-1252 and encoded once more, such "
          "as \u00C3\u00A9 for \u00E9. Undo it: {}",
          facts_.twice_encoded, counts_.sentences,
          filter_command(manifest_.sources, "iconv -f UTF-8 -t CP1252"));
    }
    int64_t invalid = 0;
    for (const SourceStats& source : manifest_.sources) invalid += source.invalid_bytes;
    const double replaced = of_sentences(facts_.with_replacements);
    if (invalid == 0 && replaced > kTwiceEncoded) {
      found("replacement_characters", replaced,
            "{} of {} sentences hold U+FFFD: characters were lost when the file was made. Make it "
            "again from its source, read in the right encoding.",
            facts_.with_replacements, counts_.sentences);
    }
    const double special = of_sentences(facts_.with_special_tokens);
    if (special > kSpecialTokens) {
      found("special_tokens", special,
            "{} of {} sentences hold {} as text, which training reads as characters: it places the "
            "tokens itself. {}",
            facts_.with_special_tokens, counts_.sentences, facts_.special_tokens,
            by_command("Remove them", without_words(facts_.special_tokens)));
    }
    const double bare = of_sentences(facts_.without_letters);
    if (bare > kWithoutLetters) {
      found("without_letters", bare,
            "{} of {} sentences have no letter: tables, numbers or rules. {}",
            facts_.without_letters, counts_.sentences,
            by_command("Remove them", "grep -v '^[^[:alpha:]]\\{1,\\}$'"));
    }
  }

  // ---- [UNK] -----------------------------------------------------------------------------------

  void unknown() {
    const double unknown = share_of(counts_.unknown_tokens, counts_.tokens);
    if (unknown <= kUnknown) return;
    const int64_t half = facts_.unknown_words / 2;
    std::string fix;
    if (facts_.unknown_words > 0 && facts_.unknown_upper_words > half) {
      fix =
          "Most have capitals that the vocabulary lacks. Leave out --cased, or give a cased "
          "vocabulary.";
    } else if (facts_.unknown_words > 0 && facts_.unknown_long_words > half) {
      const int32_t longest = TokenizerOptions{}.max_characters_per_word;
      fix = fmt::format(
          "Most are longer than {} characters, such as encoded data. {}", longest,
          by_command("Remove them", fmt::format("sed -E 's/[^[:space:]]{{{},}}//g'", longest + 1)));
    } else {
      fix = train_vocabulary();
    }
    found("unknown_tokens", unknown, "{} of {} tokens are [UNK]. {}", counts_.unknown_tokens,
          counts_.tokens, fix);
  }

  /// The command that makes a vocabulary with the characters that are missing.
  std::string train_vocabulary() const {
    const int64_t alphabet = facts_.alphabet + facts_.missing_characters;
    const int64_t least = 2 * alphabet + 5;  // each character alone and after ##, special tokens
    const std::string lacks =
        facts_.missing_characters > 0
            ? fmt::format("{} characters of the text, such as {}", facts_.missing_characters,
                          facts_.missing_character_sample)
            : "the pieces of these words";
    return fmt::format(
        "The vocabulary lacks {}. Train one on it: minibert tokenizer train --limit-alphabet {} "
        "--vocab-size {} --output NEW.txt{} {}",
        lacks, alphabet, std::max<int64_t>(least, manifest_.tokens.vocab_size), text_flags(),
        files_of(manifest_.sources));
  }

  // ---- Languages -------------------------------------------------------------------------------

  void scripts() {
    int64_t letters = 0, pieces = 0;
    for (const auto& [name, count] : facts_.letters) letters += count;
    for (const auto& [name, count] : facts_.vocabulary_letters) pieces += count;
    for (const auto& [name, count] : facts_.letters) {
      const auto known = facts_.vocabulary_letters.find(name);
      const double covered =
          share_of(known == facts_.vocabulary_letters.end() ? 0 : known->second, pieces);
      if (share_of(count, letters) <= kScript || covered >= kVocabularyScript) continue;
      found("foreign_script", share_of(count, letters),
            "{:.1f} % of the letters are {}, and {:.1f} % of the vocabulary's pieces: the text is "
            "[UNK] or spelled letter by letter. Leave this text out, or train a vocabulary on it: "
            "minibert tokenizer train --vocab-size {} --output NEW.txt{} {}",
            100 * share_of(count, letters), name, 100 * covered, manifest_.tokens.vocab_size,
            text_flags(), files_of(manifest_.sources));
    }
    const double upper = share_of(facts_.vocabulary_upper, manifest_.tokens.vocab_size);
    if (!settings_.cased && upper > kUpperVocabulary) {
      found(
          "cased_vocabulary", upper,
          "{} of {} tokens of the vocabulary have capitals, which the text loses without --cased. "
          "Build with --cased.",
          facts_.vocabulary_upper, manifest_.tokens.vocab_size);
    }
  }

  // ---- Lengths ---------------------------------------------------------------------------------

  void lengths() {
    const int64_t read = counts_.tokens * settings_.duplicate_factor;
    const double lost = share_of(facts_.lost_tokens, read);
    const int sequence = settings_.examples.sequence_length;
    if (lost > kLost) {
      found("truncated_text", lost,
            "{} of {} tokens are in no example: sentences are nearly as long as a sequence, or "
            "longer. Cut them into pieces: --max-sentence-tokens {}.",
            facts_.lost_tokens, read, std::max(1, sequence / 8));
    }
    const double cut = share_of(facts_.cut_tokens, counts_.tokens);
    if (cut > kCut && settings_.examples.max_sentence_tokens == ExampleOptions::kWhatFits) {
      found("long_lines", cut,
            "{} of {} tokens are in sentences that an example cannot hold; they were cut into "
            "pieces anywhere. {}--sequence-length above {}.",
            facts_.cut_tokens, counts_.tokens,
            lines() ? "Find sentences in the lines: --format paragraphs, or give " : "Give ",
            sequence);
    }
    int64_t brief = 0;
    for (int length = 0;
         length <= sequence / 4 && static_cast<size_t>(length) < counts_.length_histogram.size();
         ++length)
      brief += counts_.length_histogram[static_cast<size_t>(length)];
    if (share_of(brief, counts_.examples) > kShort) {
      found("short_examples", share_of(brief, counts_.examples),
            "{} of {} examples have at most {} tokens, a quarter of --sequence-length. {} a "
            "lower --sequence-length.",
            brief, counts_.examples, sequence / 4,
            lines() ? "Remove the blank lines inside documents, or give" : "Give");
    }
  }

  // ---- Masks -----------------------------------------------------------------------------------

  void masks() {
    const double empty = share_of(empty_masks_, counts_.examples);
    if (empty > kEmptyMasks) {
      found(
          "empty_masks", empty,
          "{} of {} examples have no masked token: each of their words has more pieces than are to "
          "be masked. Leave out --whole-word-masking, or raise --masked-lm-prob{}.",
          empty_masks_, counts_.examples,
          settings_.masking.max_predictions < 5 ? " and --max-predictions" : "");
    }
    double wanted = 0, limited = 0;
    for (size_t length = 1; length < counts_.length_histogram.size(); ++length) {
      const auto examples = static_cast<double>(counts_.length_histogram[length]);
      wanted += examples * static_cast<double>(length) * settings_.masking.masked_lm_prob;
      limited += examples * masked_count(static_cast<int64_t>(length), settings_.masking);
    }
    if (wanted > 0 && limited < kFewMasks * wanted) {
      const double full = settings_.examples.sequence_length * settings_.masking.masked_lm_prob;
      found("few_masks", 1 - limited / wanted,
            "--max-predictions {} masks {:.1f} % of the tokens instead of {:.1f} %. Raise it: "
            "--max-predictions {}.",
            settings_.masking.max_predictions,
            100 * settings_.masking.masked_lm_prob * limited / wanted,
            100 * settings_.masking.masked_lm_prob, static_cast<int>(std::ceil(full)));
    }
  }

  const Manifest& manifest_;
  const DataSettings& settings_;
  const DataCounts& counts_;
  const CorpusFacts facts_;
  const int64_t empty_masks_;
  std::vector<CorpusFinding> findings_;
};

}  // namespace

std::vector<CorpusFinding> lint(const Manifest& manifest, std::optional<int64_t> empty_masks) {
  return Linter(manifest, empty_masks).run();
}

std::vector<std::string> describe(const std::vector<CorpusFinding>& findings, size_t most) {
  std::vector<std::string> lines;
  for (const CorpusFinding& finding : findings) {
    if (lines.size() == most) {
      lines.push_back(fmt::format("and {} more: minibert data inspect", findings.size() - most));
      break;
    }
    lines.push_back(
        fmt::format("{} ({:.1f} %): {}", finding.name, 100 * finding.share, finding.message));
  }
  return lines;
}

nlohmann::json to_json(const std::vector<CorpusFinding>& findings) {
  nlohmann::json values = nlohmann::json::array();
  for (const CorpusFinding& finding : findings) {
    values.push_back(
        {{"name", finding.name}, {"share", finding.share}, {"message", finding.message}});
  }
  return values;
}

}  // namespace minibert
