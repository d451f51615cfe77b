// tokenizer_config.h: tokenizer_config.json beside vocab.txt, in Transformers' form.
// Called by all code that opens or writes a model folder. Without the file the options are
// Transformers' defaults: uncased. Easy to break: strip_accents null means "as do_lower_case".
// Test: ctest -R text_tokenizer_config.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "models/text/basic_tokenizer.h"

namespace minibert {

inline constexpr const char* kTokenizerConfigFile = "tokenizer_config.json";

/// Options of the tokenizer in a model folder. recognise_special_tokens is true, as in
/// Transformers. Errors: DataError if the file is not a JSON object or a key has the wrong type.
TokenizerOptions load_tokenizer_config(const std::filesystem::path& folder);

/// Tokens that the model's makers allow in a text, [CLS] and [SEP] included: model_max_length of
/// tokenizer_config.json and max_seq_length of sentence_bert_config.json (sentence-transformers), the
/// smaller one; nullopt if neither says so. Errors: DataError as above.
std::optional<int64_t> load_max_tokens(const std::filesystem::path& folder);

/// Whether texts that are too long lose their beginning instead of their end (truncation_side of
/// tokenizer_config.json). Errors: DataError as above.
bool load_cuts_left(const std::filesystem::path& folder);

/// Cuts ids with [CLS] and [SEP], both of which stay, to `limit` >= 2 of them. Source: `tokenizers`,
/// truncation with TemplateProcessing.
void cut_ids(std::vector<int32_t>& ids, size_t limit, bool cuts_left);

/// The text of tokenizer_config.json (class BertTokenizer). `model_max_length` is in tokens, [CLS]
/// and [SEP] included; 0 omits it.
std::string tokenizer_config_json(const TokenizerOptions& options, int64_t model_max_length = 0);

}  // namespace minibert
