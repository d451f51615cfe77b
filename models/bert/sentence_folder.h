// sentence_folder.h: what sentence-transformers does with a BERT's states, as its files beside the
// model say: which states become the vector, and what follows. Called by the verb `embed`. Easy to
// break: only notes and a default come from here, never an error: the folder is a BERT all the
// same.
// Source: sentence-transformers 6.2, modules.json, Pooling, Normalize. Test: ctest -R peer_folders.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace minibert {

struct SentenceFolder {
  std::string pooling;              // "mean", "cls", another mode, or several: "max, mean"
  std::string pooling_file;         // says so; "" if the folder is not one of sentence-transformers
  std::string normalize;            // the module that divides by the norm, or ""
  std::vector<std::string> others;  // modules that are not built in, such as 2_Dense
  bool lowercase = false;           // texts are in small letters before the tokenizer gets them
  std::string prompt;               // stands before each text, unless the user names another one
  std::string prompt_file;          // has prompts by name; "" if there are none
  std::vector<std::string> prompts;  // of these, those that are not empty: NAME "TEXT"
  bool pools_prompt = true;          // the mean is over the prompt's tokens, too
};

/// Errors: DataError if one of the files is not what sentence-transformers writes.
SentenceFolder read_sentence_folder(const std::filesystem::path& folder);

/// What a user should know of vectors that this program makes, a line each. `pooling` and `normalize`:
/// what is done; `lowercases`: whether the tokenizer does it; `prompt`: the user's, nothing for
/// that of the folder.
std::vector<std::string> differences(const SentenceFolder& folder, const std::string& pooling,
                                     bool normalize, bool lowercases,
                                     const std::optional<std::string>& prompt);

}  // namespace minibert
