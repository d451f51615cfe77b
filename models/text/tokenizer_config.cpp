// tokenizer_config.cpp: the keys of Transformers' BertTokenizer that change ids. See
// tokenizer_config.h.
#include "models/text/tokenizer_config.h"

#include <algorithm>
#include <string>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/text/tokenizer_fields.h"
#include "models/text/vocab.h"

namespace minibert {
namespace {

/// A length of the file; nullopt if it is absent, null, or as large as Transformers' way to say that
/// there is no limit (10^30).
std::optional<int64_t> read_length(const nlohmann::json& config, const char* key,
                                   const std::string& file) {
  constexpr double kNoLimit = 1e9;
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return std::nullopt;
  MB_CHECK_AS(DataError, found->is_number() && found->get<double>() >= 2,
              "{}: {} is {}, expected a number of tokens, 2 or more. {}", file, key, found->dump(),
              kTokenizerFix);
  const double length = found->get<double>();
  if (length >= kNoLimit) return std::nullopt;
  return static_cast<int64_t>(length);
}

}  // namespace

TokenizerOptions load_tokenizer_config(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kTokenizerConfigFile;
  const nlohmann::json config = read_json_object(file);
  const TokenizerFields fields{config, file.string()};
  TokenizerOptions options;
  options.lowercase = fields.flag("do_lower_case", true);
  options.strip_accents = fields.flag("strip_accents", options.lowercase);
  options.split_chinese = fields.flag("tokenize_chinese_chars", true);
  return options;
}

std::optional<int64_t> load_max_tokens(const std::filesystem::path& folder) {
  const std::filesystem::path tokenizer = folder / kTokenizerConfigFile,
                              sentences = folder / "sentence_bert_config.json";
  const auto a = read_length(read_json_object(tokenizer), "model_max_length", tokenizer.string());
  const auto b = read_length(read_json_object(sentences), "max_seq_length", sentences.string());
  return a && b ? std::min(*a, *b) : a ? a : b;
}

bool load_cuts_left(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / kTokenizerConfigFile;
  const nlohmann::json config = read_json_object(file);
  const std::string side = TokenizerFields{config, file.string()}.text("truncation_side", "right");
  MB_CHECK_AS(
      DataError, side == "left" || side == "right",
      "{}: truncation_side is \"{}\", expected left or right. Set it to right, the usual one",
      file.string(), side);
  return side == "left";
}

void cut_ids(std::vector<int32_t>& ids, size_t limit, bool cuts_left) {
  if (ids.size() <= limit) return;
  const auto too_many = static_cast<ptrdiff_t>(ids.size() - limit);
  const auto first = cuts_left ? ids.begin() + 1 : ids.end() - 1 - too_many;
  ids.erase(first, first + too_many);
}

std::string tokenizer_config_json(const TokenizerOptions& options, int64_t model_max_length) {
  nlohmann::ordered_json config;
  config["tokenizer_class"] = "BertTokenizer";
  config["do_lower_case"] = options.lowercase;
  config["strip_accents"] = nullptr;
  if (options.strip_accents != options.lowercase) config["strip_accents"] = options.strip_accents;
  config["tokenize_chinese_chars"] = options.split_chinese;
  config["pad_token"] = kPadToken;
  config["unk_token"] = kUnkToken;
  config["cls_token"] = kClsToken;
  config["sep_token"] = kSepToken;
  config["mask_token"] = kMaskToken;
  if (model_max_length > 0) config["model_max_length"] = model_max_length;
  return config.dump(2) + "\n";
}

}  // namespace minibert
