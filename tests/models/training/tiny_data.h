// tiny_data.h: shards small enough that a test can train on them in a second. Sentences of a toy
// language over 40 words, each the successor of the one before it, so that there is something to
// learn.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/random.h"
#include "models/text/shard_build.h"
#include "models/training/config.h"
#include "tests/models/training/messages.h"

namespace minibert::testing {

inline constexpr int kTinyWords = 40;

inline std::string tiny_vocabulary(int words = kTinyWords) {
  std::string text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (int i = 0; i < words; ++i) text += "w" + std::to_string(i) + "\n";
  return text;
}

/// One sentence a line, documents of eight sentences.
inline std::string tiny_text(uint64_t seed, int documents) {
  RandomStream random(seed, StreamPurpose::user, 0);
  std::string text;
  for (int document = 0; document < documents; ++document) {
    for (int sentence = 0; sentence < 8; ++sentence) {
      int word = static_cast<int>(random.integer(0, kTinyWords - 1));
      const int64_t length = random.integer(3, 9);
      for (int64_t i = 0; i < length; ++i) {
        text += (i ? " w" : "w") + std::to_string(word);
        word = (word + 1) % kTinyWords;
      }
      text += "\n";
    }
    text += "\n";
  }
  return text;
}

/// Builds folder/{vocab.txt, text, data, data/held-out}; returns folder/data.
inline std::filesystem::path build_tiny_data(const std::filesystem::path& folder, uint64_t seed = 1,
                                             bool nsp = true, int words = kTinyWords) {
  std::filesystem::create_directories(folder);
  write_bytes(folder / "vocab.txt", tiny_vocabulary(words));
  write_bytes(folder / "text", tiny_text(seed, 60));
  BuildOptions options;
  options.vocabulary = folder / "vocab.txt";
  options.files = {(folder / "text").string()};
  options.output = folder / "data";
  options.settings.examples.sequence_length = 24;
  options.settings.examples.nsp = nsp;
  options.settings.masking.max_predictions = 4;
  options.settings.hold_out_every = 6;
  build_shards(options);
  return options.output;
}

/// A run on that data: 1 layer x 32, 8 sequences a step, dropout on, evaluation on the held-out
/// part.
inline TrainConfig tiny_config(const std::filesystem::path& data,
                               const std::filesystem::path& output) {
  TrainConfig config;
  config.num_hidden_layers = 1;
  config.hidden_size = 32;
  config.num_attention_heads = 2;
  config.max_position_embeddings = 32;
  config.initializer_range = 0.1;
  config.data = data.string();
  config.evaluation_data = {"held-out=" + (data / "held-out").string()};
  config.micro_batch_size = 4;
  config.global_batch_size = 8;
  config.max_steps = 12;
  config.learning_rate = 1e-2;
  config.output_dir = output.string();
  config.save_every = 3;
  config.evaluate_every = 4;
  config.log_every = 4;
  config.trust_ratio_every = 2;
  return config;
}

}  // namespace minibert::testing
