// checkpoint_fuzz.cpp: a checkpoint of a tiny model with one of its files replaced. The first byte
// says which, the rest is its text; the target then writes a manifest of right checksums, unless
// the manifest is the file. Readers, as `train --resume` and the other verbs call them:
// models/training/checkpoint_store.h, checkpoint.h, run_settings.h, models/bert/hugging_face.h.
#include "models/bert/hugging_face.h"
#include "models/training/checkpoint.h"
#include "models/training/checkpoint_store.h"
#include "tests/fuzz/safetensors_file.h"

namespace minibert::fuzz {
namespace {

constexpr const char* kNames[] = {"trainer_state.json",    "MANIFEST.json",
                                  "model.safetensors",     "config.json",
                                  "optimizer.safetensors", "config.resolved.toml"};
constexpr size_t kManifest = 1, kRunConfig = 5;

/// The file that an input's first byte says.
std::string name_of(char first) {
  return kNames[static_cast<uint8_t>(first) % std::size(kNames)];
}

BertConfig shape() {
  BertConfig config = BertConfig::named("bert-tiny");
  config.vocab_size = 7, config.hidden_size = 4, config.num_hidden_layers = 1,
  config.num_attention_heads = 2;
  config.intermediate_size = 4, config.max_position_embeddings = 4;
  return config;
}

struct Trained {
  Trained()
      : model(shape()),
        optimizer(model.arena(), {},
                  Schedule({.name = "constant", .learning_rate = 0.01F, .total_steps = 2})) {
    model.initialize(1);
  }
  BertForPreTraining model;
  Optimizer optimizer;
};

TrainerState state() {
  TrainerState state;
  state.data_steps = 3, state.applied_steps = 2, state.optimizer = "lamb",
  state.global_batch_size = 8;
  state.data_fingerprint = "00ff", state.precision = "fp16",
  state.scaler = ScalerState{.loss_scale = 8};
  state.best = {2, 1.5, "00ff"},
  state.pending_record = StepRecord{.step = 3, .loss = 0.5, .tokens = 7};
  state.bucket = {25, 2};
  state.settings.run = {{"optim.learning_rate", "0.001"}};
  state.settings.phases = {{{"train.max_steps", "2"}}};
  return state;
}

struct Saved {
  Saved() {
    write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n");
    FileSystem files;
    CheckpointStore(folder(), files)
        .save(3, Snapshot::files(
                     std::make_shared<Snapshot>(trained.model, trained.optimizer, state(),
                                                TokenizerFiles{folder() / "vocab.txt", {}})));
    path = folder() / "checkpoint-3";
    for (const auto& entry : std::filesystem::directory_iterator(path))
      contents.emplace_back(entry.path().filename().string(), read(entry.path()));
  }
  Trained trained;
  std::filesystem::path path;
  std::vector<std::pair<std::string, std::string>> contents;
};

/// All files as they were saved, but one.
void restore(const Saved& saved, const std::string& name, std::string_view text) {
  std::vector<std::pair<std::string, FileSum>> sums;
  for (const auto& [other, contents] : saved.contents) {
    const std::string_view bytes = other == name ? text : contents;
    write("checkpoint-3/" + other, bytes);
    if (other == kNames[kManifest]) continue;
    FileSum sum;
    sum.add(bytes.data(), bytes.size());
    sums.emplace_back(other, sum);
  }
  if (name != kNames[kManifest]) write("checkpoint-3/MANIFEST.json", checkpoint_manifest(3, sums));
  write("config.resolved.toml", name == kNames[kRunConfig] ? text : "[train]\nseed = 3\n");
}

Saved& saved() {
  static Saved one;
  return one;
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const std::string name = name_of(input[0]);
  Saved& checkpoint = saved();
  restore(checkpoint, name, input.substr(1));
  std::vector<std::string> complaints;
  succeeds([&] { find_checkpoint(folder(), complaints); });
  const bool verified = succeeds([&] { find_checkpoint(checkpoint.path, complaints); });
  claim(verified || name == kNames[kManifest], "right checksums are verified");
  succeeds([&] {
    const TrainerState state =
        load_checkpoint(checkpoint.path, checkpoint.trained.model, checkpoint.trained.optimizer);
    const std::string text = to_json(state);
    claim(to_json(parse_trainer_state(text, "again")) == text, "a state comes back from its text");
    std::vector<std::string> notes;
    former_settings(checkpoint.path, state, notes);
    step_state(state, {}, true);
  });
  succeeds([&] { load_hugging_face(checkpoint.path); });
}

std::vector<std::string> seeds() {
  std::vector<std::string> seeds;
  for (size_t i = 0; i < std::size(kNames); ++i) {
    for (const auto& [name, contents] : saved().contents)
      if (name == kNames[i]) seeds.push_back(std::string(1, static_cast<char>(i)) + contents);
  }
  seeds.push_back(std::string(1, static_cast<char>(kRunConfig)) + "[optim]\nlearning_rate = 0.1\n");
  for (const char first : {'\0', '\1', '\3'})
    seeds.push_back(std::string(1, first) + deep_json("settings"));
  return seeds;
}

}  // namespace minibert::fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  using namespace minibert::fuzz;
  return mutate(data, size, max_size, [&](const std::string& bytes, size_t room) {
    const bool weights = !bytes.empty() && name_of(bytes[0]).ends_with(".safetensors");
    return weights ? bytes[0] + mutated_safetensors(bytes.substr(1), room, seed)
                   : mutated(bytes, room);
  });
}
