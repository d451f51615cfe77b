// safetensors_fuzz.cpp: model.safetensors of a folder, as the verbs open it; the mutator keeps the header's length
// right, else nothing behind it would be reached. Reader: models/bert/weight_files.h over models/bert/safetensors.h.
#include "models/bert/weight_files.h"
#include "tests/fuzz/safetensors_file.h"

namespace minibert::fuzz {
namespace {

/// Reads every tensor in each way that there is.
void read_all(const SafetensorsFile& file) {
  for (const SafetensorsEntry& entry : file.entries()) {
    claim(file.find(entry.name) == &entry, "a tensor is found by its name");
    succeeds([&] {
      const Tensor tensor = file.read(entry.name);
      claim(static_cast<uint64_t>(tensor.bytes()) == entry.end - entry.begin, "all bytes are read");
    });
    succeeds([&] {
      std::vector<float> values(static_cast<size_t>(entry.numel()));
      file.read_f32(entry.name, values);
    });
    succeeds([&] { file.read_integers(entry.name); });
  }
}

}  // namespace

void fuzz(std::string_view input) {
  const auto path = write("model.safetensors", input);
  succeeds([&] { read_all(SafetensorsFile(path.string())); });
  succeeds([&] {
    const WeightFiles files = WeightFiles::open_folder(folder());
    files.advice({});
    for (const std::string& name : files.names())
      claim(files.has(name), "a listed tensor is there");
    files.tied(/* config_says= */ true);
  });
}

std::vector<std::string> seeds() {
  const auto path = folder() / "seed.safetensors";
  const auto floats = [](Shape shape) { return Tensor::zeros(shape, DType::f32); };
  const NamedTensor tensors[] = {
      {kWordEmbeddings, floats({4, 2})},
      {kDecoderWeight, floats({4, 2})},
      {kSecondDecoderBias, floats({4})},
      {"bert.embeddings.LayerNorm.gamma", Tensor::zeros({2}, DType::bf16)},
      {"module.x", Tensor::zeros({3}, DType::u8)}};
  write_safetensors(path.string(), tensors, {{"step", "3"}});
  std::vector<std::string> seeds = {
      read(path), safetensors_file("{}", ""),
      safetensors_file(
          R"({"__metadata__":null,"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
          R"("b":{"dtype":"F64","shape":[1,1,1,1,1],"data_offsets":[8,16]},)"
          R"("c":{"dtype":"F16","shape":[0,7],"data_offsets":[16,16]}})",
          std::string(16, 'x'))};
  std::filesystem::remove(path);
  return seeds;
}

}  // namespace minibert::fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  using namespace minibert::fuzz;
  return mutate(data, size, max_size, [&](const std::string& bytes, size_t room) {
    return seed % 16 == 1 ? mutated(bytes, room) : mutated_safetensors(bytes, room, seed);
  });
}
