// hugging_face.cpp: maps the tensors of a file to parameters, and explains what does not fit.
#include "models/bert/hugging_face.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "core/dry_run.h"
#include "core/shell_word.h"
#include "models/bert/checkpoint_manifest.h"
#include "models/bert/weight_files.h"
#include "models/text/atomic_file.h"
#include "models/text/tokenizer_folder.h"

namespace minibert {
namespace {

namespace fs = std::filesystem;

void check_shape(const WeightFiles& weights, const std::string& name, const Shape& wanted) {
  const SafetensorsEntry& entry = weights.entry(name);
  const bool same = entry.shape.size() == static_cast<size_t>(wanted.rank()) &&
                    Shape(std::span<const int64_t>(entry.shape)) == wanted;
  MB_CHECK_AS(DataError, same,
              "{}: tensor {} is {}, expected {} (from config.json's sizes). File and config.json "
              "do not belong together",
              weights.path_of(name), entry.name, entry.shape_str(), wanted.str());
}

/// Rows of a linear layer NAME on H states; 0 where there is none.
int64_t rows_of_head(const WeightFiles& weights, const std::string& name, int64_t hidden_size) {
  if (!weights.has(name + ".weight") || !weights.has(name + ".bias")) return 0;
  const std::vector<int64_t>& shape = weights.entry(name + ".weight").shape;
  return shape.size() == 2 && shape[1] == hidden_size ? shape[0] : 0;
}

BertParts parts_in(const WeightFiles& weights, const BertConfig& config) {
  const bool decoder = config.tie_word_embeddings || weights.has(kDecoderWeight);
  return {.pooler = weights.has("bert.pooler.dense.weight"),
          .mlm_head = weights.has("cls.predictions.transform.dense.weight") && decoder,
          .nsp_head = weights.has("cls.seq_relationship.weight"),
          .span_head = rows_of_head(weights, "qa_outputs", config.hidden_size) == 2,
          .classes = rows_of_head(weights, "classifier", config.hidden_size)};
}

/// Whether all parameters are there, in their shapes.
void check_tensors(const WeightFiles& weights, const ParameterTable& table) {
  std::vector<std::string> missing;
  std::set<std::string> known;
  for (const ParameterSlice& slice : table.slices()) {
    known.insert(slice.name);
    if (!weights.has(slice.name)) missing.push_back(slice.name);
  }
  MB_CHECK_AS(DataError, missing.empty(), "{}: {} of {} tensors are missing: {}. {}",
              weights.source(), missing.size(), table.count(), list_of_names(missing),
              weights.advice(known));
  for (const ParameterSlice& slice : table.slices()) check_shape(weights, slice.name, slice.shape);
}

/// Fills the parameters from files that check_tensors() has passed. Returns unused names.
std::vector<std::string> load_contents(const WeightFiles& weights, BertForPreTraining& model) {
  const ParameterTable& table = model.arena().table();
  for (int number = 0; number < table.count(); ++number) {
    const ParameterSlice& slice = table[number];
    std::vector<float> values(static_cast<size_t>(slice.used()));
    weights.read_f32(slice.name, values);
    MB_CHECK_AS(NumericError, all_finite(values),
                "{}: tensor {} holds NaN or infinity, expected finite numbers. Use a checkpoint "
                "from before its training diverged",
                weights.path_of(slice.name), weights.entry(slice.name).name);
    model.arena().write(number, values);
  }
  model.arena().refresh();
  std::vector<std::string> unused;
  for (const std::string& name : weights.names()) {
    // 0, 1, 2, ... and 0, 0, 0, ...: older files hold these constants.
    if (name.ends_with(".position_ids") || name.ends_with("embeddings.token_type_ids")) continue;
    if (table.find(name) < 0) unused.push_back(weights.entry(name).name);
  }
  return unused;
}

/// Throws if the weights are there under a name of their own.
void refuse_other_name(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path());
  std::ranges::sort(found);
  if (found.empty()) return;
  const std::string first = found.front().filename().string();
  MB_CHECK_AS(DataError, !fs::exists(folder / "adapter_config.json"),
              "{}: holds an adapter (adapter_config.json), which changes another model, expected a "
              "model. Merge the two with merge_and_unload() of peft, and save the result",
              folder.string());
  MB_CHECK_AS(DataError, first.find("-of-") == std::string::npos,
              "{}: has {} but no model.safetensors.index.json, which says what is in which file. "
              "Copy it, too, from where the model came from",
              folder.string(), first);
  if (found.size() > 1) return;
  fail<DataError>("{}: has no model.safetensors, but {}. Rename it: mv {} {}", folder.string(),
                  first, shell_word(found.front().string()),
                  shell_word((folder / "model.safetensors").string()));
}

/// Throws with the command that makes model.safetensors from the files that are there instead.
[[noreturn]] void fail_without_safetensors(const fs::path& folder) {
  if (fs::exists(folder / "latest")) {
    fail<DataError>("{}: is a run folder, expected one of its checkpoints. Give {}",
                    folder.string(), (folder / "latest").string());
  }
  refuse_outer_folder(folder);
  refuse_other_name(folder);
  struct Other {
    const char* file;
    const char* what;
    const char* how;
  };
  constexpr const char* kWithTorch =
      "pip install torch safetensors; python -c \"import glob, torch; from safetensors.torch "
      "import "
      "save_file; w = {}; [w.update(torch.load(f, map_location='cpu', weights_only=True)) for f in "
      "glob.glob('IN/pytorch_model*.bin')]; save_file({n: t.clone().contiguous() for n, t in "
      "w.items()}, 'IN/model.safetensors', metadata={'format': 'pt'})\"";
  constexpr const char* kFromTensorFlow =
      "pip install 'transformers<5' tensorflow torch; python -c \"from transformers import "
      "BertForPreTraining as B; B.from_pretrained('IN', from_tf=True).save_pretrained('IN')\"";
  const Other others[] = {
      {"pytorch_model.bin", "PyTorch's own format", kWithTorch},
      {"pytorch_model.bin.index.json", "PyTorch's own format, in several files", kWithTorch},
      {"tf_model.h5", "a TensorFlow model", kFromTensorFlow},
      {"bert_model.ckpt.index", "Google's TensorFlow checkpoint", kFromTensorFlow},
      {"model.ckpt.index", "a TensorFlow checkpoint", kFromTensorFlow},
      {"flax_model.msgpack", "a Flax model", kFromTensorFlow}};
  for (const Other& other : others) {
    if (!fs::exists(folder / other.file)) continue;
    std::string how = other.how;
    for (size_t at = 0; (at = how.find("'IN", at)) != std::string::npos;
         at += folder.string().size())
      how.replace(at + 1, 2, folder.string());
    fail<DataError>(
        "{}: holds {} ({}), expected model.safetensors. Make it once, on any machine with Python: "
        "{}",
        folder.string(), other.file, other.what, how);
  }
  fail<DataError>(
      "{}: has no model.safetensors. Expected a Transformers folder: config.json, "
      "model.safetensors, vocab.txt or tokenizer.json",
      folder.string());
}

WeightFiles open_weights(const fs::path& folder) {
  if (!WeightFiles::in_folder(folder)) fail_without_safetensors(folder);
  return WeightFiles::open_folder(folder);
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
  refuse_outer_folder(folder);
  if (!fs::exists(file) && fs::exists(folder / "bert_config.json")) {
    fail<DataError>(
        "{}: is missing, expected the model's configuration. {} has the same contents under the "
        "name of google-research/bert. Copy it: cp {} {}",
        file.string(), (folder / "bert_config.json").string(),
        shell_word((folder / "bert_config.json").string()), shell_word(file.string()));
  }
  fail<DataError>(
      "{}: cannot be opened ({}), expected the model's configuration. Copy it from where the model "
      "came from",
      file.string(), std::strerror(errno));
}

/// What to give instead of a path that is no folder: a file's folder, or the hub's model, fetched.
std::string what_was_meant(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path, ignored) && path.has_parent_path())
    return " Give the folder of that file: " + path.parent_path().string();
  const std::string name = path.string();
  const bool of_hub = path.is_relative() && !name.empty() && name.front() != '.' &&
                      name.front() != '~' && std::ranges::count(name, '/') < 2 &&
                      !fs::exists(path, ignored);
  if (!of_hub) return "";
  return fmt::format(
      " A model of the Hugging Face hub has to be fetched first: hf download {} --local-dir {}",
      shell_word(name), shell_word(name));
}

BertConfig load_hugging_face_config(const fs::path& folder) {
  MB_CHECK_AS(DataError, fs::is_directory(folder),
              "{}: is not a folder, expected a Transformers folder: config.json, "
              "model.safetensors, vocab.txt.{}",
              folder.string(), what_was_meant(folder));
  const fs::path file = folder / "config.json";
  std::ifstream stream(file, std::ios::binary);
  if (!stream && !WeightFiles::in_folder(folder)) {
    if (!fs::exists(file)) fail_without_safetensors(folder);
  }
  if (!stream) fail_without_config(folder);
  std::stringstream text;
  text << stream.rdbuf();
  BertConfig config = BertConfig::from_json(text.str(), file.string());
  if (WeightFiles::in_folder(folder))
    config.tie_word_embeddings = WeightFiles::open_folder(folder).tied(config.tie_word_embeddings);
  return config;
}

LoadedBert load_hugging_face(const fs::path& folder, ModelUse use, const BertParts& required,
                             ComputeOptions compute) {
  for (const char* name : {"config.json", "model.safetensors"})
    verify_if_in_checkpoint(folder / name);
  for (const std::string& name : tokenizer_file_names()) verify_if_in_checkpoint(folder / name);
  const BertConfig config = load_hugging_face_config(folder);
  WeightFiles weights = open_weights(folder);
  BertParts parts = parts_in(weights, config);
  // A required part that is absent stays in the model: loading then lists its tensors as missing.
  parts.pooler |= required.pooler;
  parts.mlm_head |= required.mlm_head;
  parts.nsp_head |= required.nsp_head;
  parts.span_head |= required.span_head;
  if (parts.classes == 0) parts.classes = required.classes;
  if (config.tie_word_embeddings) weights.tie();
  {  // before memory is taken for what a damaged config.json says
    const DryRun without_memory;
    const BertForPreTraining shell(config, use, parts, compute);
    check_tensors(weights, shell.arena().table());
  }
  LoadedBert loaded{BertForPreTraining(config, use, parts, compute), {}};
  loaded.unused = load_contents(weights, loaded.model);
  return loaded;
}

std::vector<std::string> load_weights(const fs::path& path, BertForPreTraining& model) {
  std::vector<SafetensorsFile> files;
  files.emplace_back(path.string());
  WeightFiles weights(std::move(files), path.string());
  if (model.config().tie_word_embeddings) weights.tie();
  check_tensors(weights, model.arena().table());
  return load_contents(weights, model);
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

std::vector<NamedTensor> named_weights(const BertForPreTraining& model, const Tensor& masters) {
  std::vector<NamedTensor> tensors = named_slices(model.arena().table(), masters);
  if (model.config().tie_word_embeddings) return tensors;
  const auto bias = std::ranges::find(tensors, kDecoderBias, &NamedTensor::name);
  if (bias != tensors.end()) tensors.push_back({kSecondDecoderBias, bias->tensor});
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
  write_safetensors((folder / "model.safetensors").string(), named_weights(model, masters));
}

}  // namespace minibert
