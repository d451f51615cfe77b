// tokenizer_folder.h: the tokenizer of a Transformers folder, whole: vocabulary, settings, names of
// special tokens, added tokens. Called by all verbs that open a folder or a vocabulary. Which files are
// read and which of them win is what Transformers 5 does; docs/folders.md has the table. Easy to break:
// what is not supported is refused or noted, never skipped; files that are copied into a checkpoint
// are copied byte for byte. Test: ctest -R "text_tokenizer_folder|peer_folders".
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "models/text/wordpiece.h"

namespace minibert {

/// A file's name and its bytes.
using NamedText = std::pair<std::string, std::string>;

struct FolderTokenizer {
  WordPieceTokenizer tokenizer;
  std::vector<std::string> notes;  // what a user should know, a line each

  /// Errors: DataError unless a model with so many rows of word embeddings has one for each listed
  /// token.
  void check_rows(const std::filesystem::path& folder, int64_t rows) const;
  /// Whether a vocab.txt alone would say as much.
  bool is_plain() const;
};

/// Opens the tokenizer of `path`: a Transformers folder, or its vocab.txt or tokenizer.json, beside
/// which the folder's other files count, too. A vocab.txt alone is BERT's, uncased.
/// Errors  DataError naming file, key or token, and the fix; for tokenizers that are not BERT's, what
///         is not supported.
FolderTokenizer open_tokenizer_folder(const std::filesystem::path& path);

/// The vocabulary of open_tokenizer_folder(path), added tokens included.
Vocab open_vocabulary(const std::filesystem::path& path);

/// Whether a folder holds a vocabulary: vocab.txt or tokenizer.json.
bool holds_vocabulary(const std::filesystem::path& folder);

/// Errors: DataError naming the folder to give, if this one only holds it: a model of the Hugging Face
/// hub's cache, or one of sentence-transformers in several parts.
void refuse_outer_folder(const std::filesystem::path& folder);

/// A part of a model of sentence-transformers, in the order in which texts go through.
struct SentenceModule {
  std::string type;  // such as sentence_transformers.models.Pooling
  std::string path;  // its folder in the model's; "" for the BERT at the top
};
/// Those that modules.json lists; none if it is not there. Errors: DataError if it is no such list.
std::vector<SentenceModule> read_sentence_modules(const std::filesystem::path& folder);

/// Whether files beside vocab.txt or tokenizer.json `path`, or in folder `path`, say how to tokenize. A
/// vocabulary of another name stands alone.
bool has_tokenizer_settings(const std::filesystem::path& path);

/// Files of a model's folder that say how to tokenize, as far as they are there, byte for byte; and
/// vocab.txt in any case, made of tokenizer.json if it is missing. Errors: DataError.
std::vector<NamedText> tokenizer_files(const std::filesystem::path& folder);

/// What a folder of shards keeps of the vocabulary at `path`: vocab.txt, and the other files only where
/// it alone would not say as much.
std::vector<NamedText> files_for_shards(const std::filesystem::path& path);

/// Names of all files that tokenizer_files() may give.
const std::vector<std::string>& tokenizer_file_names();

}  // namespace minibert
