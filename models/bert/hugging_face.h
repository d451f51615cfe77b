// hugging_face.h: Transformers folders in and out: config.json and model.safetensors (the tokenizer's
// files belong to models/text/tokenizer_folder.h). Called by the verbs, eval and models/training.
// Easy to break: our checkpoints are such folders too, so names, shapes and the tied decoder follow
// Transformers exactly, the vocabulary's padding rows never reach a file, and query, key and value
// are three tensors in a file. Test: ctest -R hugging_face.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "models/bert/bert.h"
#include "models/bert/safetensors.h"

namespace minibert {

/// Reads config.json of a folder. tie_word_embeddings is false, too, if the folder's weights have a
/// decoder with other values than the word embeddings, as Transformers 5 reads them.
/// Errors: DataError naming the file and the field, or the fix.
BertConfig load_hugging_face_config(const std::filesystem::path& folder);

struct LoadedBert {
  BertForPreTraining model;
  /// Tensors of the file that no part of the model uses (the head of a classifier).
  std::vector<std::string> unused;
};

/// Reads config.json and model.safetensors, or the files it is split into. The model gets the parts
/// whose tensors are there; the parts of `required` must be. Accepts old names (gamma, beta) and
/// new ones, with and without the prefix `bert.`, and those that wrappers write (weight_files.h);
/// F32, F16, BF16 and F64; a decoder of its own.
/// Errors  DataError naming file, tensor, both shapes, or the tensors that are missing; for a
///         folder with PyTorch's or TensorFlow's own format, the command that converts it;
///         CheckpointError for a checkpoint of ours whose files differ from its MANIFEST.json;
///         NumericError naming the tensor for weights that are not finite.
LoadedBert load_hugging_face(
    const std::filesystem::path& folder, ModelUse use = ModelUse::inference,
    const BertParts& required = {.pooler = false, .mlm_head = false, .nsp_head = false},
    ComputeOptions compute = {});

/// Reads the weights of a file into an existing model; every parameter of the model must be in the
/// file. Returns the names of unused tensors. Errors as above.
std::vector<std::string> load_weights(const std::filesystem::path& file, BertForPreTraining& model);

/// Whether no value is NaN or infinite. Has no early exit, so that the loop is vectorised.
bool all_finite(std::span<const float> values);

/// What a file holds, by Hugging Face name: views of `flat` without padding rows. `flat` is any
/// buffer laid out by the model's table: the arena, or the optimizer's moments.
std::vector<NamedTensor> named_slices(const ParameterTable& table, const Tensor& flat);

/// What model.safetensors holds: named_slices of the masters and, for an untied decoder, its bias by a
/// second name, by which Transformers 5 reads it.
std::vector<NamedTensor> named_weights(const BertForPreTraining& model, const Tensor& masters);

/// Transformers' class with just these parts.
const char* architecture_of(const BertParts& parts);

/// Writes config.json and model.safetensors into an existing folder, each flushed to the disk.
/// `BertForPreTraining.from_pretrained` loads the folder. Errors: CheckpointError naming the path.
void save_hugging_face(const std::filesystem::path& folder, const BertForPreTraining& model);

}  // namespace minibert
