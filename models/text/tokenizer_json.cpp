// tokenizer_json.cpp: the parts of tokenizer.json, one after the other.
#include "models/text/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "models/text/json_numbers.h"
#include "models/text/tokenizer_fields.h"

namespace minibert {
namespace {

using nlohmann::json;

std::string type_of(const json& part) {
  const auto type = part.is_object() ? part.find("type") : part.end();
  return part.is_object() && type != part.end() && type->is_string() ? type->get<std::string>()
                                                                     : json_text(part);
}

/// The steps of a part, those of sequences in sequences among them. `list` is the key of a
/// sequence's steps.
void collect_steps(const json* part, const char* list, std::vector<const json*>& steps) {
  if (!part) return;
  const bool is_sequence =
      type_of(*part) == "Sequence" && part->contains(list) && part->at(list).is_array();
  if (!is_sequence) return steps.push_back(part);
  for (const json& step : part->at(list)) collect_steps(&step, list, steps);
}

std::string names_of(const std::vector<const json*>& steps) {
  std::string names;
  for (const json* step : steps) names += (names.empty() ? "" : ", ") + type_of(*step);
  return names.empty() ? "none" : names;
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& file)
      : root_(read_json_object(file)), fields_{root_, file.string()} {}

  TokenizerJson read() {
    read_model();
    read_added_tokens();
    read_normalizer();
    read_pre_tokenizer();
    read_post_processor();
    return std::move(result_);
  }

 private:
  void fault(const char* part, const std::string& is, const char* expected) {
    result_.faults.push_back(fmt::format("{} is {}, expected {}", part, is, expected));
  }

  void read_model() {
    const json* model = fields_.find("model");
    MB_CHECK_AS(DataError, model && model->is_object(),
                "{}: has no model, expected a tokenizer in the form of `tokenizers`. {}",
                fields_.source, kTokenizerFix);
    const TokenizerFields model_fields{*model, fields_.source + ", model"};
    const std::string type = model_fields.text("type", "WordPiece");  // old files leave it out
    MB_CHECK_AS(DataError, type == "WordPiece" && !model->contains("merges"),
                "{}: model is {}, expected WordPiece, BERT's: no other one is built in",
                fields_.source, model->contains("merges") ? "BPE" : type);
    const json* vocab = model_fields.find("vocab");
    MB_CHECK_AS(DataError, vocab && vocab->is_object(),
                "{}: model has no vocab, expected an object of tokens with their ids. {}",
                fields_.source, kTokenizerFix);
    for (const auto& [token, id] : vocab->items()) {
      const std::optional<int32_t> number = whole_number<int32_t>(id);
      MB_CHECK_AS(DataError, number, "{}: token '{}' has id {}, expected a whole number. {}",
                  fields_.source, token, json_text(id), kTokenizerFix);
      result_.vocab.emplace_back(token, *number);
    }
    result_.unk_token = model_fields.text("unk_token", std::string(kUnkToken));
    const std::string prefix = model_fields.text("continuing_subword_prefix", "##");
    if (prefix != "##") fault("model's continuing_subword_prefix", prefix, "##");
    read_word_length(model_fields);
  }

  void read_word_length(const TokenizerFields& model) {
    constexpr int32_t kLongest = 1000;  // characters
    const json* length = model.find("max_input_chars_per_word");
    if (!length) return;
    const std::optional<int32_t> number = whole_number<int32_t>(*length);
    if (!number || *number < 1 || *number > kLongest)
      return fault("model's max_input_chars_per_word", json_text(*length), "1 to 1000");
    result_.options.max_characters_per_word = *number;
  }

  void read_added_tokens() {
    const json* added = fields_.find("added_tokens");
    if (!added) return;
    const std::string source = fields_.source + ", added_tokens";
    MB_CHECK_AS(DataError, added->is_array(), "{}: is {}, expected a list of tokens. {}", source,
                json_text(*added), kTokenizerFix);
    for (const json& entry : *added) {
      AddedToken& token =
          result_.added.emplace_back(read_added_token(entry, source, /* special= */ false));
      const std::optional<int32_t> id =
          entry.is_object() ? whole_number<int32_t>(entry.value("id", json())) : std::nullopt;
      MB_CHECK_AS(DataError, id, "{}: token '{}' has no id, expected a whole number. {}", source,
                  token.content, kTokenizerFix);
      token.id = *id;
    }
  }

  /// BertNormalizer, or steps that give the same.
  void read_normalizer() {
    std::vector<const json*> steps;
    collect_steps(fields_.find("normalizer"), "normalizers", steps);
    TokenizerOptions& options = result_.options;
    if (steps.size() == 1 && type_of(*steps[0]) == "BertNormalizer") {
      const TokenizerFields bert{*steps[0], fields_.source + ", normalizer"};
      options.clean_text = bert.flag("clean_text", true);
      options.split_chinese = bert.flag("handle_chinese_chars", true);
      options.lowercase = bert.flag("lowercase", true);
      options.strip_accents = bert.flag("strip_accents", options.lowercase);
      return;
    }
    bool decomposed = false, known = true;
    options.clean_text = options.split_chinese = options.lowercase = options.strip_accents = false;
    for (const json* step : steps) {
      const std::string type = type_of(*step);
      decomposed |= type == "NFD";
      options.lowercase |= type == "Lowercase";
      options.strip_accents |= type == "StripAccents" && decomposed;
      known &= type == "NFD" || type == "Lowercase" || (type == "StripAccents" && decomposed);
    }
    if (!known || decomposed != options.strip_accents)
      fault("normalizer", names_of(steps),
            "BertNormalizer, or NFD, StripAccents and Lowercase, which are built in");
  }

  void read_pre_tokenizer() {
    std::vector<const json*> steps;
    collect_steps(fields_.find("pre_tokenizer"), "pretokenizers", steps);
    const bool bert = steps.size() == 1 && type_of(*steps[0]) == "BertPreTokenizer";
    const bool same = steps.size() == 2 && type_of(*steps[0]) == "WhitespaceSplit" &&
                      type_of(*steps[1]) == "Punctuation" &&
                      steps[1]->value("behavior", json("Isolated")) == "Isolated";
    if (!bert && !same)
      fault("pre_tokenizer", names_of(steps), "BertPreTokenizer, the only one that is built in");
  }

  /// [CLS] text [SEP].
  void read_post_processor() {
    const json* part = fields_.find("post_processor");
    const std::string type = part ? type_of(*part) : "none";
    const auto pair = [&](const char* key) {
      const json value = part->value(key, json());
      const bool fits = value.is_array() && value.size() == 2 && value[0].is_string();
      const std::optional<int32_t> id = fits ? whole_number<int32_t>(value[1]) : std::nullopt;
      return id ? Vocab::Entry{value[0], *id} : Vocab::Entry{"", -1};
    };
    if (type == "BertProcessing") {
      result_.cls = pair("cls");
      result_.sep = pair("sep");
    } else if (type == "TemplateProcessing") {
      read_template(*part);
    }
    if (result_.cls.first.empty() || result_.sep.first.empty())
      fault("post_processor", type, "one that writes [CLS] text [SEP]");
  }

  void read_template(const json& part) {
    const json single = part.value("single", json()), tokens = part.value("special_tokens", json());
    const auto special = [&](const json& piece) {
      const json token = piece.is_object() ? piece.value("SpecialToken", json()) : json();
      const bool named = token.is_object() && token.value("id", json()).is_string() &&
                         token.value("type_id", json(0)) == 0 && tokens.is_object();
      if (!named) return Vocab::Entry{"", -1};
      const json known = tokens.value(token["id"].get<std::string>(), json());
      const json ids = known.is_object() ? known.value("ids", json()) : json();
      const bool fits = ids.is_array() && ids.size() == 1;
      const std::optional<int32_t> id = fits ? whole_number<int32_t>(ids[0]) : std::nullopt;
      return id ? Vocab::Entry{token["id"], *id} : Vocab::Entry{"", -1};
    };
    const bool fits = single.is_array() && single.size() == 3 && single[1].is_object() &&
                      single[1].contains("Sequence") && single[1]["Sequence"].is_object() &&
                      single[1]["Sequence"].value("type_id", json(0)) == 0;
    if (!fits) return;
    result_.cls = special(single[0]);
    result_.sep = special(single[2]);
  }

  json root_;
  TokenizerFields fields_;
  TokenizerJson result_;
};

}  // namespace

TokenizerJson read_tokenizer_json(const std::filesystem::path& file) {
  return Reader(file).read();
}

}  // namespace minibert
