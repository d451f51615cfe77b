// tokenizer_json.h: tokenizer.json, the one file in which `tokenizers` keeps a whole tokenizer.
// Called by tokenizer_folder.cpp. What BERT's tokenizer can't do is reported part by part, since
// Transformers' BertTokenizer takes only the vocabulary from here. Easy to break: a sequence of
// steps is accepted only where it gives what BertNormalizer or BertPreTokenizer gives.
// Test: ctest -R text_tokenizer_folder. Source: `tokenizers` 0.23.3, its serialization.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/text/added_tokens.h"
#include "models/text/basic_tokenizer.h"
#include "models/text/vocab.h"

namespace minibert {

struct TokenizerJson {
  std::vector<Vocab::Entry> vocab;  // of the model, without added tokens
  std::vector<AddedToken> added;    // with the ids that the file gives them
  std::string unk_token;
  TokenizerOptions options;  // of normalizer and model
  /// What post_processor puts around a text: [CLS] and [SEP], with ids.
  Vocab::Entry cls{"", -1}, sep{"", -1};
  std::vector<std::string>
      faults;  // what this program can't do, a sentence each, by the part's name
};

/// Errors: DataError if the file is not in the form of `tokenizers`, or its model is not WordPiece.
TokenizerJson read_tokenizer_json(const std::filesystem::path& file);

}  // namespace minibert
