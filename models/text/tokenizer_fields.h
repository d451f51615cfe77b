// tokenizer_fields.h: fields of the JSON files that say how a tokenizer works, read strictly.
// Called by tokenizer_config.cpp, tokenizer_json.cpp and tokenizer_folder.cpp. Easy to break: null
// counts as absent, as in Transformers, and `normalized` of a token is not `special` if left out.
// Test: ctest -R text_tokenizer_folder.
#pragma once

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/added_tokens.h"
#include "models/text/atomic_file.h"
#include "models/text/json_depth.h"
#include "models/text/json_text.h"

namespace minibert {

inline constexpr const char* kTokenizerFix =
    "Copy the file again from where the model came from, or remove it for an uncased model.";

/// The object in a file; empty if the file is absent. Errors: DataError.
inline nlohmann::json read_json_object(const std::filesystem::path& file) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return nlohmann::json::object();
  auto object = parse_shallow_json(read_whole_file(file, kTokenizerFix), file.string());
  MB_CHECK_AS(DataError, object.is_object(),
              "{}: is not a JSON object, expected Transformers' tokenizer settings. {}",
              file.string(), kTokenizerFix);
  return object;
}

/// One object of a file; `source` names both.
struct TokenizerFields {
  const nlohmann::json& object;
  std::string source;

  /// nullptr if it is absent or null.
  const nlohmann::json* find(const char* key) const {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }
  bool flag(const char* key, bool otherwise) const {
    const nlohmann::json* value = find(key);
    if (!value) return otherwise;
    MB_CHECK_AS(DataError, value->is_boolean(), "{}: {} is {}, expected true or false. {}", source,
                key, json_text(*value), kTokenizerFix);
    return value->get<bool>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    const nlohmann::json* value = find(key);
    if (!value) return otherwise;
    MB_CHECK_AS(DataError, value->is_string(), "{}: {} is {}, expected text. {}", source, key,
                json_text(*value), kTokenizerFix);
    return value->get<std::string>();
  }
};

/// A token as a string or as an object in the form of AddedToken. Errors: DataError.
inline AddedToken read_added_token(const nlohmann::json& value, const std::string& source,
                                   bool special) {
  AddedToken token;
  token.normalized = !special;
  token.special = special;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    return token;
  }
  MB_CHECK_AS(DataError, value.is_object() && value.contains("content"),
              "{}: is {}, expected a token: text, or an object with \"content\". {}", source,
              json_text(value), kTokenizerFix);
  const TokenizerFields fields{value, source};
  token.content = fields.text("content", "");
  token.single_word = fields.flag("single_word", false);
  token.lstrip = fields.flag("lstrip", false);
  token.rstrip = fields.flag("rstrip", false);
  token.special = special || fields.flag("special", false);
  token.normalized = fields.flag("normalized", !token.special);
  return token;
}

}  // namespace minibert
