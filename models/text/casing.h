// casing.h: how text becomes words before WordPiece (case, accents, ideographs), as far as two things on
// disk must agree on it: a model folder, a vocabulary, shards. Called by the verbs that join them, by
// shard_set.cpp and by models/training. Easy to break: a vocabulary alone does not say whether it is
// cased; the file beside it does, tokenizer_config.json or the manifest of shards.
// Test: ctest -R text_casing.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "models/text/manifest.h"
#include "models/text/tokenizer_config.h"
#include "models/text/vocab.h"
#include "models/text/wordpiece.h"

namespace minibert {

/// How the text of shards was read.
TokenizerOptions options_of(const DataSettings& settings);
void set_options(DataSettings& settings, const TokenizerOptions& options);

/// Whether both make the same words of every text; special tokens are not words.
bool same_words(const TokenizerOptions& a, const TokenizerOptions& b);
/// "cased", "uncased", or the three keys of tokenizer_config.json.
std::string describe(const TokenizerOptions& options);

struct OptionsOnDisk {
  TokenizerOptions options;
  std::filesystem::path file;  // that says so
};
/// What the files beside a vocabulary say, if any. `opened`: the tokenizer of `vocabulary`, if the
/// caller has opened it. Errors: DataError for a damaged one.
std::optional<OptionsOnDisk> options_beside(const std::filesystem::path& vocabulary,
                                            const WordPieceTokenizer* opened = nullptr);

/// Options for a verb with --vocab and --cased: what stands beside the vocabulary, else the flag. Adds
/// a sentence to `note` if the reader should know: where they come from, or that the vocabulary looks
/// cased. `opened`: the tokenizer of `vocabulary`. Errors: UsageError for --cased with a vocabulary
/// that is not.
TokenizerOptions options_for(const std::filesystem::path& vocabulary,
                             const WordPieceTokenizer& opened, bool cased, std::string& note);

/// Whether tokens have capital letters, which text in lower case never reaches.
bool looks_cased(const Vocab& vocabulary);

/// The command that builds shards again from their sources with another vocabulary, and with the
/// options that stand beside it: "minibert data build --vocab ...". Its output is `folder`-rebuilt.
std::string rebuild_command(const std::filesystem::path& folder, const Manifest& manifest,
                            const std::filesystem::path& vocabulary);

/// "" if shards were read as `expected`, else what differs and the command that fixes it.
/// `vocabulary` is that of the model, beside the file that says `expected`.
std::string casing_fault(const std::filesystem::path& folder, const Manifest& manifest,
                         const TokenizerOptions& expected, const std::filesystem::path& vocabulary);

}  // namespace minibert
