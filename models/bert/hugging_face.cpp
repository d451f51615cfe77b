// hugging_face.cpp: maps the tensors of a file to parameters, and explains what does not fit.
#include "models/bert/hugging_face.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include "models/bert/checkpoint_manifest.h"
#include "models/text/atomic_file.h"
#include "models/text/tokenizer_config.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWordEmbeddings = "bert.embeddings.word_embeddings.weight";
constexpr const char* kDecoderBias = "cls.predictions.bias";

bool replace_suffix(std::string& name, std::string_view from, std::string_view to) {
  if (!name.ends_with(from)) return false;
  name.replace(name.size() - from.size(), from.size(), to);
  return true;
}

/// Our name of a tensor (the current Hugging Face name, with `bert.`) from its name in a file.
std::string canonical_name(std::string name) {
  replace_suffix(name, ".gamma", ".weight") || replace_suffix(name, ".beta", ".bias");
  for (const char* part : {"embeddings.", "encoder.", "pooler."}) {
    if (name.starts_with(part)) return "bert." + name;
  }
  if (name == "cls.predictions.decoder.weight") return kWordEmbeddings;
  if (name == "cls.predictions.decoder.bias") return kDecoderBias;
  return name;
}

bool is_tied_copy(const std::string& file_name) {
  return file_name.starts_with("cls.predictions.decoder.");
}

/// The tensors of a file by our names. Copies of the tied decoder are kept apart.
struct Contents {
  const SafetensorsFile* file;
  std::map<std::string, const SafetensorsEntry*> by_name;
  std::map<std::string, const SafetensorsEntry*> tied_copies;

  explicit Contents(const SafetensorsFile& f) : file(&f) {
    for (const SafetensorsEntry& entry : f.entries()) {
      auto& names = is_tied_copy(entry.name) ? tied_copies : by_name;
      const auto [place, is_new] = names.emplace(canonical_name(entry.name), &entry);
      MB_CHECK_AS(DataError, is_new,
                  "{}: tensors {} and {} are both the parameter {}, expected only one of them",
                  f.path(), place->second->name, entry.name, place->first);
    }
    for (const auto& [name, entry] : tied_copies) by_name.emplace(name, entry);
  }
  bool has(const std::string& name) const { return by_name.contains(name); }
};

void check_shape(const Contents& contents, const SafetensorsEntry& entry, const Shape& wanted) {
  const bool same = entry.shape.size() == static_cast<size_t>(wanted.rank()) &&
                    Shape(std::span<const int64_t>(entry.shape)) == wanted;
  MB_CHECK_AS(DataError, same,
              "{}: tensor {} is {}, expected {} (from config.json's sizes). File and config.json "
              "do not belong together",
              contents.file->path(), entry.name, entry.shape_str(), wanted.str());
}

std::string list_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 6;
  const size_t shown = std::min(names.size(), kShown);
  std::string text = fmt::format(
      "{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  if (names.size() > shown) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

/// A decoder in the file must equal the word embeddings: this program has no untied decoder.
void check_tied_copies(const Contents& contents) {
  for (const auto& [name, copy] : contents.tied_copies) {
    const SafetensorsEntry* original = contents.by_name.at(name);
    if (original == copy) continue;
    bool equal = original->shape == copy->shape;
    if (equal) {
      std::vector<float> a(static_cast<size_t>(original->numel())), b(a.size());
      contents.file->read_f32(original->name, a);
      contents.file->read_f32(copy->name, b);
      equal = a == b;
    }
    MB_CHECK_AS(DataError, equal,
                "{}: tensor {} differs from {}, expected equal values (the decoder shares the word "
                "embeddings here). A model with an untied decoder cannot be loaded",
                contents.file->path(), copy->name, original->name);
  }
}

/// Rows of a linear layer NAME on H states; 0 where there is none.
int64_t rows_of_head(const Contents& contents, const std::string& name, int64_t hidden_size) {
  const auto weight = contents.by_name.find(name + ".weight");
  if (weight == contents.by_name.end() || !contents.has(name + ".bias")) return 0;
  const std::vector<int64_t>& shape = weight->second->shape;
  return shape.size() == 2 && shape[1] == hidden_size ? shape[0] : 0;
}

BertParts parts_in(const Contents& contents, int64_t hidden_size) {
  return {.pooler = contents.has("bert.pooler.dense.weight"),
          .mlm_head = contents.has("cls.predictions.transform.dense.weight"),
          .nsp_head = contents.has("cls.seq_relationship.weight"),
          .span_head = rows_of_head(contents, "qa_outputs", hidden_size) == 2,
          .classes = rows_of_head(contents, "classifier", hidden_size)};
}

std::vector<std::string> load_contents(const Contents& contents, BertForPreTraining& model) {
  const ParameterTable& table = model.arena().table();
  std::vector<std::string> missing;
  for (const ParameterSlice& slice : table.slices()) {
    if (!contents.has(slice.name)) missing.push_back(slice.name);
  }
  MB_CHECK_AS(DataError, missing.empty(), "{}: {} of {} tensors are missing: {}",
              contents.file->path(), missing.size(), table.count(), list_of(missing));
  check_tied_copies(contents);
  for (int number = 0; number < table.count(); ++number) {
    const ParameterSlice& slice = table[number];
    const SafetensorsEntry& entry = *contents.by_name.at(slice.name);
    check_shape(contents, entry, slice.shape);
    std::vector<float> weights(static_cast<size_t>(slice.used()));
    contents.file->read_f32(entry.name, weights);
    MB_CHECK_AS(NumericError, all_finite(weights),
                "{}: tensor {} holds NaN or infinity, expected finite numbers. Use a checkpoint "
                "from before its training diverged",
                contents.file->path(), entry.name);
    model.arena().write(number, weights);
  }
  model.arena().refresh();
  std::vector<std::string> unused;
  for (const auto& [name, entry] : contents.by_name) {
    if (name.ends_with(".position_ids")) continue;  // 0, 1, 2, ...: older files hold this constant
    if (table.find(name) < 0) unused.push_back(entry->name);
  }
  return unused;
}

/// Throws with the command that makes model.safetensors from the files that are there instead.
[[noreturn]] void fail_without_safetensors(const fs::path& folder) {
  if (fs::exists(folder / "latest")) {
    fail<DataError>("{}: is a run folder, expected one of its checkpoints. Give {}",
                    folder.string(), (folder / "latest").string());
  }
  struct Other {
    const char* file;
    const char* what;
    const char* how;
  };
  constexpr const char* kWithTransformers =
      "python -c \"from transformers import BertForPreTraining as B; "
      "B.from_pretrained('IN').save_pretrained('OUT')\"";
  constexpr const char* kFromTensorFlow =
      "pip install 'transformers<5' tensorflow torch; python -c \"from transformers import "
      "BertForPreTraining as B; B.from_pretrained('IN', from_tf=True).save_pretrained('OUT')\"";
  const Other others[] = {
      {"pytorch_model.bin", "PyTorch's own format", kWithTransformers},
      {"model.safetensors.index.json", "a model in several files", kWithTransformers},
      {"tf_model.h5", "a TensorFlow model", kFromTensorFlow},
      {"bert_model.ckpt.index", "Google's TensorFlow checkpoint", kFromTensorFlow},
      {"model.ckpt.index", "a TensorFlow checkpoint", kFromTensorFlow},
      {"flax_model.msgpack", "a Flax model", kFromTensorFlow}};
  for (const Other& other : others) {
    if (!fs::exists(folder / other.file)) continue;
    fail<DataError>(
        "{}: holds {} ({}), expected model.safetensors. Convert it once, on any machine with "
        "Python: {}",
        folder.string(), other.file, other.what, other.how);
  }
  fail<DataError>(
      "{}: has no model.safetensors. Expected a Transformers folder: config.json, "
      "model.safetensors, vocab.txt",
      folder.string());
}

SafetensorsFile open_weights(const fs::path& folder) {
  const fs::path file = folder / "model.safetensors";
  if (!fs::exists(file)) fail_without_safetensors(folder);
  return SafetensorsFile(file.string());
}

}  // namespace

bool all_finite(std::span<const float> values) {
  uint32_t bad = 0;
  for (const float x : values) {
    const auto exponent = std::bit_cast<uint32_t>(x) & 0x7F800000u;
    bad |= static_cast<uint32_t>(exponent == 0x7F800000u);
  }
  return bad == 0;
}

/// Throws; if the folder has config.json by another name, with the command that copies it.
[[noreturn]] void fail_without_config(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  if (!fs::exists(file) && fs::exists(folder / "bert_config.json")) {
    fail<DataError>(
        "{}: is missing, expected the model's configuration. {} has the same contents under the "
        "name of google-research/bert. Copy it: cp '{}' '{}'",
        file.string(), (folder / "bert_config.json").string(),
        (folder / "bert_config.json").string(), file.string());
  }
  fail<DataError>(
      "{}: cannot be opened ({}), expected the model's configuration. Copy it from where the model "
      "came from",
      file.string(), std::strerror(errno));
}

BertConfig load_hugging_face_config(const fs::path& folder) {
  MB_CHECK_AS(DataError, fs::is_directory(folder),
              "{}: is not a folder, expected a Transformers folder: config.json, "
              "model.safetensors, vocab.txt",
              folder.string());
  const fs::path file = folder / "config.json";
  std::ifstream stream(file, std::ios::binary);
  if (!stream && !fs::exists(folder / "model.safetensors")) {
    if (!fs::exists(file)) fail_without_safetensors(folder);
  }
  if (!stream) fail_without_config(folder);
  std::stringstream text;
  text << stream.rdbuf();
  return BertConfig::from_json(text.str(), file.string());
}

LoadedBert load_hugging_face(const fs::path& folder, ModelUse use, const BertParts& required,
                             ComputeOptions compute) {
  for (const char* name : {"config.json", "model.safetensors", "vocab.txt", kTokenizerConfigFile})
    verify_if_in_checkpoint(folder / name);
  const BertConfig config = load_hugging_face_config(folder);
  const SafetensorsFile file = open_weights(folder);
  const Contents contents(file);
  BertParts parts = parts_in(contents, config.hidden_size);
  // A required part that is absent stays in the model: loading then lists its tensors as missing.
  parts.pooler |= required.pooler;
  parts.mlm_head |= required.mlm_head;
  parts.nsp_head |= required.nsp_head;
  parts.span_head |= required.span_head;
  if (parts.classes == 0) parts.classes = required.classes;
  LoadedBert loaded{BertForPreTraining(config, use, parts, compute), {}};
  loaded.unused = load_contents(contents, loaded.model);
  return loaded;
}

std::vector<std::string> load_weights(const fs::path& path, BertForPreTraining& model) {
  const SafetensorsFile file(path.string());
  return load_contents(Contents(file), model);
}

std::vector<NamedTensor> named_slices(const ParameterTable& table, const Tensor& flat) {
  MB_CHECK(flat.numel() == table.size(),
           "named_slices: the buffer has {} elements, expected {} as the table says", flat.numel(),
           table.size());
  std::vector<NamedTensor> tensors;
  for (const ParameterSlice& slice : table.slices()) {
    tensors.push_back({slice.name, flat.slice(slice.offset, slice.shape)});
  }
  return tensors;
}

const char* architecture_of(const BertParts& parts) {
  if (parts.span_head) return "BertForQuestionAnswering";
  if (parts.classes > 0) return "BertForSequenceClassification";
  if (parts.mlm_head) return parts.nsp_head ? "BertForPreTraining" : "BertForMaskedLM";
  return parts.nsp_head ? "BertForNextSentencePrediction" : "BertModel";
}

void save_hugging_face(const fs::path& folder, const BertForPreTraining& model) {
  write_file_atomically(folder / "config.json",
                        model.config().to_json(architecture_of(model.parts())));
  const Tensor masters = on_host(model.arena().masters());
  write_safetensors((folder / "model.safetensors").string(),
                    named_slices(model.arena().table(), masters));
}

}  // namespace minibert
