// shard_fixture.h: small shard folders for tests, created without text: random ids from a fixed
// stream. Used by shard_test.cpp, loader_test.cpp and manifest_test.cpp.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/random.h"
#include "models/text/shard_set.h"
#include "models/text/vocab.h"

namespace minibert::testing {

/// A new folder, removed with all its contents at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "minibert-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

struct FixtureOptions {
  int64_t examples = 37;
  int64_t examples_per_shard = 10;
  int32_t vocab_size = 100;
  int32_t sequence_length = 24;
  bool dynamic = false;
  bool nsp = true;
  bool whole_word = false;  // of dynamic masks; two of three tokens continue a word
};

inline TokenTable fixture_tokens(int32_t vocab_size) {
  return {vocab_size, /* cls= */ 2, /* sep= */ 3, /* mask= */ 4, /* unk= */ 1, {}};
}

/// [CLS] A [SEP] B [SEP] with random ids from 5 on. The first id of A is 5 + number mod 90, so that
/// tests can tell examples apart.
inline Example fixture_example(int64_t number, const FixtureOptions& options) {
  RandomStream stream(/* seed= */ 7, StreamPurpose::user, static_cast<uint64_t>(number));
  Example example;
  const auto words = static_cast<int>(stream.integer(2, options.sequence_length - 3));
  const auto first = options.nsp ? static_cast<int>(stream.integer(1, words - 1)) : words;
  example.ids.push_back(2);
  for (int i = 0; i < words; ++i) {
    if (i == first) example.ids.push_back(3);
    example.ids.push_back(static_cast<int32_t>(stream.integer(5, options.vocab_size - 1)));
  }
  example.ids.push_back(3);
  example.ids[1] = static_cast<int32_t>(5 + number % 90);
  example.first_segment = options.nsp ? first + 2 : words + 2;
  example.nsp_label = options.nsp ? static_cast<int8_t>(number % 2) : kNspNone;
  return example;
}

inline StoredExample fixture_stored(int64_t number, const FixtureOptions& options) {
  StoredExample stored{fixture_example(number, options), {}, {}};
  if (options.dynamic) return stored;
  DrawSource draws(RandomStream(8, StreamPurpose::user, static_cast<uint64_t>(number)));
  MaskedTokens masked =
      mask_tokens(stored.example.ids, fixture_tokens(options.vocab_size), {0.15, 20, false}, draws);
  return {{masked.ids, stored.example.first_segment, stored.example.nsp_label},
          masked.positions,
          masked.labels};
}

/// Writes vocab.txt; returns its hash.
inline std::string write_fixture_vocabulary(const std::filesystem::path& folder, int32_t size) {
  std::string text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (int32_t id = 5; id < size; ++id) text += (id % 3 ? "##w" : "w") + std::to_string(id) + "\n";
  write_bytes(folder / "vocab.txt", text);
  return fmt::format("{:016x}", Vocab::load(folder / "vocab.txt").hash());
}

/// Writes shards, unigram.bin and manifest.json into `folder`, and for whole words vocab.txt.
inline void write_fixture(const std::filesystem::path& folder, const FixtureOptions& options = {}) {
  Manifest manifest;
  manifest.settings.examples.sequence_length = options.sequence_length;
  manifest.settings.examples.nsp = options.nsp;
  manifest.settings.dynamic_masking = options.dynamic;
  manifest.settings.masking.whole_word = options.whole_word;
  manifest.vocabulary_hash = options.whole_word
                                 ? write_fixture_vocabulary(folder, options.vocab_size)
                                 : "0123456789abcdef";
  manifest.tokens = fixture_tokens(options.vocab_size);
  const ShardTraits traits{options.vocab_size, options.sequence_length, !options.dynamic,
                           options.nsp};
  for (int64_t first = 0; first < options.examples; first += options.examples_per_shard) {
    const std::string name = "shard-" + std::to_string(manifest.shards.size()) + ".mbs";
    ShardWriter writer(folder / name, traits);
    const int64_t end = std::min(options.examples, first + options.examples_per_shard);
    for (int64_t e = first; e < end; ++e) writer.add(fixture_stored(e, options));
    const auto result = writer.finish();
    manifest.shards.push_back({name, end - first, result.bytes, result.crc32});
  }
  manifest.counts.examples = options.examples;
  write_unigram_counts(folder, std::vector<uint64_t>(static_cast<size_t>(options.vocab_size), 3));
  write_manifest(folder, manifest);
}

}  // namespace minibert::testing
