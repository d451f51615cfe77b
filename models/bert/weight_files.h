// weight_files.h: the tensors of a model's folder, by the names of Transformers' BERT, from one file or
// several. Called by hugging_face.cpp. Easy to break: the masked-token head has two names for its
// bias and may have a decoder of its own; which of them counts is what Transformers 5 does.
// Test: ctest -R "hugging_face|peer_folders".
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "models/bert/safetensors.h"

namespace minibert {

inline constexpr const char* kWordEmbeddings = "bert.embeddings.word_embeddings.weight";
inline constexpr const char* kDecoderWeight = "cls.predictions.decoder.weight";
inline constexpr const char* kDecoderBias = "cls.predictions.bias";
inline constexpr const char* kSecondDecoderBias = "cls.predictions.decoder.bias";

/// Tensors of one or several files. Accepts old names (gamma, beta, dense_act), names with and without
/// `bert.`, and the prefixes that wrappers write (`module.`, `model.`, `_orig_mod.`).
class WeightFiles {
 public:
  /// model.safetensors of a folder, or without it the files that model.safetensors.index.json names.
  /// Errors: DataError naming file and tensor.
  static WeightFiles open_folder(const std::filesystem::path& folder);
  static bool in_folder(const std::filesystem::path& folder);

  /// `source` names the files in messages.
  WeightFiles(std::vector<SafetensorsFile> files, std::string source);
  WeightFiles(WeightFiles&&) = default;
  WeightFiles(const WeightFiles&) = delete;  // the list points into the files
  WeightFiles& operator=(const WeightFiles&) = delete;

  const std::string& source() const { return source_; }
  bool has(const std::string& name) const { return tensors_.contains(name); }
  const SafetensorsEntry& entry(const std::string& name) const { return *tensors_.at(name).entry; }
  /// The file that holds a tensor, for messages.
  const std::string& path_of(const std::string& name) const;
  void read_f32(const std::string& name, std::span<float> out) const;
  /// Our names of all tensors.
  std::vector<std::string> names() const;

  /// Whether the decoder is the word embeddings. `config_says`: tie_word_embeddings of config.json,
  /// which two tensors of different values overrule, as in Transformers 5.
  bool tied(bool config_says) const;
  /// Takes a decoder that is only a copy of the word embeddings, or their only copy, out of the list.
  void tie();

  /// What to say of a file that lacks tensors: the names that it has beside the `known` ones, and
  /// how to rename them.
  std::string advice(const std::set<std::string>& known) const;

 private:
  struct Place {
    size_t file;
    const SafetensorsEntry* entry;
  };

  std::vector<SafetensorsFile> files_;
  std::string source_;
  std::map<std::string, Place> tensors_;  // by our names
};

/// "a, b, c and 7 more"
std::string list_of_names(const std::vector<std::string>& names);

}  // namespace minibert
