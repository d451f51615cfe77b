// config.h: the shape of a BERT, as in Hugging Face's config.json.
// Used by models/bert/bert.h, models/training and the verbs. Easy to break: what this program does
// not compute (another activation, relative positions, a decoder) is refused, never ignored.
// Source: transformers BertConfig; sizes: google-research/bert README. Test: ctest -R
// models_bert_config.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/kernels/gemm.h"

namespace minibert {

/// Fields have the names and the defaults of Transformers' BertConfig (which are BERT-base's).
struct BertConfig {
  int64_t vocab_size = 30522;  // V, without padding rows
  int64_t hidden_size = 768;   // H
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;  // F
  std::string hidden_act = "gelu";   // kActivations in config.cpp lists the names
  float hidden_dropout_prob = 0.1f;
  float attention_probs_dropout_prob = 0.1f;
  int64_t max_position_embeddings = 512;
  int64_t type_vocab_size = 2;
  float initializer_range = 0.02f;
  float layer_norm_eps = 1e-12f;
  int64_t pad_token_id = 0;
  bool tie_word_embeddings = true;  // the masked-token head's decoder is the word embeddings
  std::vector<std::string> labels;  // id2label: names of a classifier's classes; may be empty

  /// Rows of the word embeddings as stored: the next multiple of 64.
  int64_t padded_vocab_size() const { return (vocab_size + 63) / 64 * 64; }
  int64_t head_size() const { return hidden_size / num_attention_heads; }  // D
  Gelu gelu() const;

  bool operator==(const BertConfig&) const = default;

  /// Checks the range of every field. Errors: DataError naming `source` (a file or a recipe), the
  /// field, its value and what is expected.
  void validate(const std::string& source) const;

  /// bert-tiny | mini | small | base | large: 2/128, 4/256, 4/512, 12/768, 24/1024 layers/hidden,
  /// heads H / 64, F = 4 H. Errors: UsageError listing the names.
  static BertConfig named(const std::string& name);
  /// Parses a config.json; absent fields have Transformers' defaults. Errors: DataError naming
  /// `source`, the field, and what this program can load.
  static BertConfig from_json(const std::string& text, const std::string& source);
  /// A config.json that Transformers loads. `architecture` is the class named in it.
  std::string to_json(const std::string& architecture = "BertForPreTraining") const;
};

}  // namespace minibert
