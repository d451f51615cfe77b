// config.cpp: config.json in and out, and the named sizes.
#include "models/bert/config.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/bert/other_families.h"
#include "models/text/json_depth.h"
#include "models/text/json_numbers.h"
#include "models/text/json_text.h"
#include "models/text/shard.h"  // kMostIds

namespace minibert {
namespace {

using nlohmann::json;

constexpr int64_t kMaxSize = 1 << 20;  // of any single dimension; a larger one means a damaged file
constexpr int64_t kMaxHeadSize = 256;  // core/kernels/attention.h
constexpr int64_t kMaxLayers = 64;     // 6 bits of the random counter, core/philox.h

struct NamedSize {
  const char* name;
  int64_t layers, hidden;
};
constexpr NamedSize kNamedSizes[] = {{"bert-tiny", 2, 128},
                                     {"bert-mini", 4, 256},
                                     {"bert-small", 4, 512},
                                     {"bert-base", 12, 768},
                                     {"bert-large", 24, 1024}};

/// hidden_act by the names of Transformers' ACT2FN: those that compute one of the two GELUs,
/// whatever the code that does it there. Not quick_gelu and gelu_10, which are other functions.
struct Activation {
  const char* name;
  Gelu gelu;
};
constexpr Activation kActivations[] = {
    {"gelu", Gelu::erf},
    {"gelu_python", Gelu::erf},
    {"gelu_new", Gelu::tanh},
    {"gelu_pytorch_tanh", Gelu::tanh},
    {"gelu_python_tanh", Gelu::tanh},
    {"gelu_fast", Gelu::tanh},
    {"gelu_accurate", Gelu::tanh},
};

const Activation* find_activation(const std::string& name) {
  for (const Activation& activation : kActivations) {
    if (name == activation.name) return &activation;
  }
  return nullptr;
}

std::string activation_names() {
  std::string names;
  for (const Activation& activation : kActivations)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", activation.name);
  return names;
}

/// Reads the fields of one object; `null` counts as absent.
struct Fields {
  const json& object;
  const std::string& source;

  const json* find(const char* key) const {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }
  void read(const char* key, int64_t& value) const {
    const json* field = find(key);
    if (!field) return;
    const std::optional<int64_t> number = whole_number<int64_t>(*field);
    MB_CHECK_AS(DataError, number, "{}: {} is {}, expected a whole number", source, key,
                field->dump());
    value = *number;
  }
  void read(const char* key, float& value) const {
    const json* field = find(key);
    if (!field) return;
    MB_CHECK_AS(DataError, field->is_number(), "{}: {} is {}, expected a number", source, key,
                field->dump());
    value = static_cast<float>(field->get<double>());
  }
  void read(const char* key, std::string& value) const {
    const json* field = find(key);
    if (!field) return;
    MB_CHECK_AS(DataError, field->is_string(), "{}: {} is {}, expected text", source, key,
                field->dump());
    value = field->get<std::string>();
  }
  void read(const char* key, bool& value) const {
    const json* field = find(key);
    if (!field) return;
    MB_CHECK_AS(DataError, field->is_boolean(), "{}: {} is {}, expected true or false", source, key,
                field->dump());
    value = field->get<bool>();
  }
  /// A field that may only have the one value that this program implements.
  void only(const char* key, const json& wanted, const char* why) const {
    const json* field = find(key);
    MB_CHECK_AS(DataError, !field || *field == wanted, "{}: {} is {}, expected {} ({})", source,
                key, field->dump(), wanted.dump(), why);
  }
};

/// id2label: {"0": "card_arrival", ...}. Without a name for each of 0 .. n - 1, no label is known.
std::vector<std::string> read_labels(const Fields& fields) {
  const json* names = fields.find("id2label");
  if (!names || !names->is_object()) return {};
  std::vector<std::string> labels;
  for (size_t id = 0; id < names->size(); ++id) {
    const auto name = names->find(std::to_string(id));
    if (name == names->end() || !name->is_string()) return {};
    labels.push_back(name->get<std::string>());
  }
  return labels;
}

/// Configurations of 2019 have no model_type, and other models have tensors of the same names.
void refuse_other_models(const Fields& fields) {
  const json* names = fields.find("architectures");
  if (!names || !names->is_array() || names->empty() || !names->front().is_string()) return;
  const std::string name = names->front().get<std::string>();
  for (const ModelFamily& family : kOtherFamilies)
    MB_CHECK_AS(DataError, !name.starts_with(family.class_name),
                "{}: architectures is {}, expected BERT (no other architecture is built in)",
                fields.source, names->dump());
}

/// The shortest decimal text of a float, so that 1e-12f is written as 1e-12.
json decimal(float x) {
  return json::parse(fmt::format("{}", x));
}

}  // namespace

Gelu BertConfig::gelu() const {
  const Activation* activation = find_activation(hidden_act);
  MB_ASSERT(activation, "bert config: hidden_act \"{}\" was not validated", hidden_act);
  return activation->gelu;
}

void BertConfig::validate(const std::string& source) const {
  const auto range = [&](const char* key, int64_t value, int64_t low, int64_t high) {
    MB_CHECK_AS(DataError, value >= low && value <= high, "{}: {} is {}, expected {} to {}", source,
                key, value, low, high);
  };
  range("vocab_size", vocab_size, 1, kMostIds);
  range("hidden_size", hidden_size, 1, kMaxSize);
  range("num_hidden_layers", num_hidden_layers, 1, kMaxLayers);
  range("num_attention_heads", num_attention_heads, 1, hidden_size);
  range("intermediate_size", intermediate_size, 1, kMaxSize);
  range("max_position_embeddings", max_position_embeddings, 1, 65536);
  range("type_vocab_size", type_vocab_size, 1, kMaxSize);
  // Kept for other programs; below 0 it counts from the vocabulary's end, as in PyTorch.
  range("pad_token_id", pad_token_id, -vocab_size, vocab_size - 1);
  MB_CHECK_AS(DataError, hidden_size % num_attention_heads == 0,
              "{}: hidden_size is {}, expected a multiple of num_attention_heads = {}", source,
              hidden_size, num_attention_heads);
  range("hidden_size / num_attention_heads", head_size(), 1, kMaxHeadSize);
  MB_CHECK_AS(DataError, find_activation(hidden_act),
              "{}: hidden_act is \"{}\", expected one of {} (no other activation is built in)",
              source, hidden_act, activation_names());
  const auto probability = [&](const char* key, float value) {
    MB_CHECK_AS(DataError, value >= 0.0f && value < 1.0f, "{}: {} is {}, expected 0 <= p < 1",
                source, key, value);
  };
  probability("hidden_dropout_prob", hidden_dropout_prob);
  probability("attention_probs_dropout_prob", attention_probs_dropout_prob);
  MB_CHECK_AS(DataError, std::isfinite(initializer_range) && initializer_range >= 0.0f,
              "{}: initializer_range is {}, expected a standard deviation of 0 or more", source,
              initializer_range);
  MB_CHECK_AS(DataError, std::isfinite(layer_norm_eps) && layer_norm_eps > 0.0f,
              "{}: layer_norm_eps is {}, expected a small number above 0 (LayerNorm divides by the "
              "root of variance + eps, and a row of equal values has variance 0). Set it to 1e-12, "
              "BERT's value",
              source, layer_norm_eps);
}

BertConfig BertConfig::named(const std::string& name) {
  std::string names;
  for (const NamedSize& size : kNamedSizes) {
    if (name != size.name) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", size.name);
      continue;
    }
    BertConfig config;
    config.num_hidden_layers = size.layers;
    config.hidden_size = size.hidden;
    config.num_attention_heads = size.hidden / 64;
    config.intermediate_size = 4 * size.hidden;
    return config;
  }
  fail<UsageError>("model: \"{}\" is unknown, expected one of {}", name, names);
}

BertConfig BertConfig::from_json(const std::string& text, const std::string& source) {
  check_json_depth(text, source);
  json object;
  try {
    object = json::parse(text);
  } catch (const json::exception& error) {
    fail<DataError>("{}: is not JSON ({}). Copy it again from where the model came from", source,
                    error.what());
  }
  MB_CHECK_AS(DataError, object.is_object(), "{}: is not a JSON object", source);
  const Fields fields{object, source};
  fields.only("model_type", "bert", "no other architecture is built in");
  if (!fields.find("model_type")) refuse_other_models(fields);
  fields.only("position_embedding_type", "absolute", "relative positions are not built in");
  fields.only("is_decoder", false, "only encoders are built in");
  fields.only("add_cross_attention", false, "only encoders are built in");

  BertConfig config;
  fields.read("vocab_size", config.vocab_size);
  fields.read("hidden_size", config.hidden_size);
  fields.read("num_hidden_layers", config.num_hidden_layers);
  fields.read("num_attention_heads", config.num_attention_heads);
  fields.read("intermediate_size", config.intermediate_size);
  fields.read("hidden_act", config.hidden_act);
  fields.read("hidden_dropout_prob", config.hidden_dropout_prob);
  fields.read("attention_probs_dropout_prob", config.attention_probs_dropout_prob);
  fields.read("max_position_embeddings", config.max_position_embeddings);
  fields.read("type_vocab_size", config.type_vocab_size);
  fields.read("initializer_range", config.initializer_range);
  fields.read("layer_norm_eps", config.layer_norm_eps);
  fields.read("pad_token_id", config.pad_token_id);
  fields.read("tie_word_embeddings", config.tie_word_embeddings);
  config.labels = read_labels(fields);
  config.validate(source);
  return config;
}

std::string BertConfig::to_json(const std::string& architecture) const {
  json object = {
      {"architectures", {architecture}},
      {"model_type", "bert"},
      {"vocab_size", vocab_size},
      {"hidden_size", hidden_size},
      {"num_hidden_layers", num_hidden_layers},
      {"num_attention_heads", num_attention_heads},
      {"intermediate_size", intermediate_size},
      {"hidden_act", hidden_act},
      {"hidden_dropout_prob", decimal(hidden_dropout_prob)},
      {"attention_probs_dropout_prob", decimal(attention_probs_dropout_prob)},
      {"max_position_embeddings", max_position_embeddings},
      {"type_vocab_size", type_vocab_size},
      {"initializer_range", decimal(initializer_range)},
      {"layer_norm_eps", decimal(layer_norm_eps)},
      {"pad_token_id", pad_token_id},
      {"position_embedding_type", "absolute"},
      {"tie_word_embeddings", tie_word_embeddings},
      {"dtype", "float32"},
  };
  if (!labels.empty()) {
    json names = json::object(), ids = json::object();
    for (size_t id = 0; id < labels.size(); ++id) {
      names[std::to_string(id)] = labels[id];
      ids[labels[id]] = id;
    }
    object["id2label"] = names;
    object["label2id"] = ids;
    object["problem_type"] = "single_label_classification";
  }
  return json_text(object, 2) + "\n";
}

}  // namespace minibert
