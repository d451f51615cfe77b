// casing.cpp: reading, comparing and saying how text becomes words.
#include "models/text/casing.h"

#include <algorithm>

#include "core/error.h"
#include "core/shell_word.h"
#include "models/text/tokenizer_folder.h"

namespace minibert {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kFewCapitals = 100;  // one token in so many: a stray capital says nothing

/// Flags of `data build` for the settings that are not its defaults.
std::string flags_of(const DataSettings& s) {
  const DataSettings defaults;
  std::string flags = fmt::format(" --sequence-length {} --max-predictions {}",
                                  s.examples.sequence_length, s.masking.max_predictions);
  const auto add = [&](const char* flag, const auto& value, const auto& usual) {
    if (value != usual) flags += fmt::format(" {} {}", flag, shell_word(fmt::format("{}", value)));
  };
  add("--format", std::string(name_of(s.documents.format)),
      std::string(name_of(defaults.documents.format)));
  add("--document-break", s.documents.document_break, defaults.documents.document_break);
  add("--field", s.documents.field, defaults.documents.field);
  add("--max-sentence-tokens", s.examples.max_sentence_tokens,
      defaults.examples.max_sentence_tokens);
  add("--masked-lm-prob", s.masking.masked_lm_prob, defaults.masking.masked_lm_prob);
  add("--short-sequence-prob", s.examples.short_sequence_prob,
      defaults.examples.short_sequence_prob);
  add("--duplicate-factor", s.duplicate_factor, defaults.duplicate_factor);
  add("--seed", s.seed, defaults.seed);
  add("--hold-out-every", s.hold_out_every, defaults.hold_out_every);
  if (s.dynamic_masking) flags += " --masking dynamic";
  if (s.documents.keep_front_matter) flags += " --keep-front-matter";
  if (!s.examples.nsp) flags += " --no-nsp";
  if (s.shuffle) flags += " --shuffle";
  if (s.masking.whole_word) flags += " --whole-word-masking";
  return flags;
}

const char* word(bool value) {
  return value ? "true" : "false";
}

}  // namespace

TokenizerOptions options_of(const DataSettings& settings) {
  return {.lowercase = !settings.cased,
          .strip_accents = settings.strip_accents.value_or(!settings.cased),
          .split_chinese = settings.split_chinese};
}

void set_options(DataSettings& settings, const TokenizerOptions& options) {
  settings.cased = !options.lowercase;
  settings.strip_accents.reset();
  if (options.strip_accents != options.lowercase) settings.strip_accents = options.strip_accents;
  settings.split_chinese = options.split_chinese;
}

bool same_words(const TokenizerOptions& a, const TokenizerOptions& b) {
  return a.lowercase == b.lowercase && a.strip_accents == b.strip_accents &&
         a.split_chinese == b.split_chinese;
}

std::string describe(const TokenizerOptions& o) {
  if (o.split_chinese && o.lowercase == o.strip_accents) return o.lowercase ? "uncased" : "cased";
  return fmt::format("do_lower_case {}, strip_accents {}, tokenize_chinese_chars {}",
                     word(o.lowercase), word(o.strip_accents), word(o.split_chinese));
}

std::optional<OptionsOnDisk> options_beside(const fs::path& vocabulary,
                                            const WordPieceTokenizer* opened) {
  std::error_code ignored;
  const bool whole = fs::is_directory(vocabulary, ignored);
  fs::path folder = whole ? vocabulary : vocabulary.parent_path();
  if (folder.empty()) folder = ".";
  if (has_tokenizer_settings(vocabulary)) {
    const fs::path file = folder / kTokenizerConfigFile;
    const auto read = [&] {
      if (!holds_vocabulary(folder)) return load_tokenizer_config(folder);  // settings alone
      return opened ? opened->options() : open_tokenizer_folder(vocabulary).tokenizer.options();
    };
    return OptionsOnDisk{read(), fs::exists(file, ignored) ? file : folder / "tokenizer.json"};
  }
  if ((whole || vocabulary.filename() == "vocab.txt") && holds_manifest(folder))
    return OptionsOnDisk{options_of(read_manifest(folder).settings), folder / "manifest.json"};
  return std::nullopt;
}

TokenizerOptions options_for(const fs::path& vocabulary, const WordPieceTokenizer& opened,
                             bool cased, std::string& note) {
  const std::optional<OptionsOnDisk> found = options_beside(vocabulary, &opened);
  if (!found) {
    if (!cased && looks_cased(opened.vocab()))
      note = fmt::format(
          "{} has tokens with capital letters, which text in lower case never reaches. If its "
          "model is cased, add --cased.",
          vocabulary.string());
    return cased ? TokenizerOptions::cased() : TokenizerOptions{};
  }
  MB_CHECK(!cased || !found->options.lowercase,
           "--cased is given, but {} says {} for {}. Leave out --cased.", found->file.string(),
           describe(found->options), vocabulary.string());
  if (!cased && !same_words(found->options, {}))
    note =
        fmt::format("text is read as {} says: {}", found->file.string(), describe(found->options));
  return found->options;
}

bool looks_cased(const Vocab& vocabulary) {
  int64_t capitals = 0;
  for (const std::string& token : vocabulary.tokens())
    if (!token.starts_with('['))  // [CLS], [unused1]
      capitals += std::ranges::any_of(token, [](char c) { return c >= 'A' && c <= 'Z'; });
  return capitals * kFewCapitals >= vocabulary.size();
}

std::string rebuild_command(const fs::path& folder, const Manifest& manifest,
                            const fs::path& vocabulary) {
  const fs::path whole = manifest.held_out ? folder.parent_path() : folder;
  std::string command = fmt::format(
      "minibert data build --vocab {} --output {}{}", shell_word(vocabulary.string()),
      shell_word((whole.has_filename() ? whole : whole.parent_path()).string() + "-rebuilt"),
      flags_of(manifest.settings));
  for (const SourceStats& source : manifest.sources) command += " " + shell_word(source.path);
  return command;
}

std::string casing_fault(const fs::path& folder, const Manifest& manifest,
                         const TokenizerOptions& expected, const fs::path& vocabulary) {
  const TokenizerOptions found = options_of(manifest.settings);
  if (same_words(found, expected)) return "";
  const std::optional<OptionsOnDisk> beside = options_beside(vocabulary);
  return fmt::format(
      "{}: the data are {}, but the model is {} ({}): its tokens would not mean what the model "
      "learnt. Build them again: `{}`",
      folder.string(), describe(found), describe(expected),
      beside ? beside->file.string() : vocabulary.string(),
      rebuild_command(folder, manifest, vocabulary));
}

}  // namespace minibert
