// index_fuzz.cpp: model.safetensors.index.json, which names the files of a large model; two are there.
// Reader: models/bert/weight_files.h.
#include "models/bert/weight_files.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {
namespace {

void write_weights(const std::string& name, const char* tensor) {
  const NamedTensor tensors[] = {{tensor, Tensor::zeros({2, 2}, DType::f32)}};
  write_safetensors((folder() / name).string(), tensors);
}

}  // namespace

void fuzz(std::string_view input) {
  static const bool written = [] {
    write_weights("a.safetensors", kWordEmbeddings);
    write_weights("b.safetensors", "pooler.dense.bias");
    return true;
  }();
  claim(written, "two files of weights are there");
  write("model.safetensors.index.json", input);
  succeeds([&] {
    WeightFiles files = WeightFiles::open_folder(folder());
    files.advice({});
    for (const std::string& name : files.names())
      claim(!files.path_of(name).empty(), "each tensor is in a file");
    files.tied(true);
    files.tie();
  });
}

std::vector<std::string> seeds() {
  return {
      R"({"metadata": {"total_size": 32}, "weight_map": {"bert.embeddings.word_embeddings.weight": "a.safetensors",)"
      R"( "pooler.dense.bias": "b.safetensors"}})",
      R"({"weight_map": {"pooler.dense.bias": "b.safetensors"}})", deep_json("weight_map")};
}

}  // namespace minibert::fuzz
