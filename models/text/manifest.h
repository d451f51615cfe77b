// manifest.h: manifest.json of a shard folder: the settings, the sources and the contents.
// Written last by shard_build.cpp, so a folder without it is an unfinished build; read by
// shard_set.cpp, loader.cpp and data inspect. Easy to break: older versions must always load, so
// fields are only added, with defaults. Test: ctest -R manifest.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "models/text/corpus_facts.h"
#include "models/text/examples.h"
#include "models/text/masking.h"
#include "models/text/text_reader.h"

namespace minibert {

inline constexpr int kDataFormatVersion = 1;

/// Every option that changes what the shards contain.
struct DataSettings {
  DocumentOptions documents;
  bool cased = false;
  std::optional<bool> strip_accents = {};  // nothing: as uncased
  bool split_chinese = true;
  ExampleOptions examples;
  MaskingOptions masking;
  bool dynamic_masking = false;
  int duplicate_factor = 1;
  uint64_t seed = 12345;
  int64_t hold_out_every = 0;  // documents; 0 = none
  bool shuffle = false;        // examples in a random order, else in that of the documents
};

struct ShardEntry {
  std::string file;
  int64_t examples = 0;
  int64_t bytes = 0;
  uint32_t crc32 = 0;
  std::optional<uint32_t> identity = {};  // ShardReader::identity(); older folders have none
};

struct StoredExample;

/// Counts of the text and of the examples. Tokens of the text exclude [CLS] and [SEP], tokens of
/// examples include them.
struct DataCounts {
  int64_t documents = 0, sentences = 0, tokens = 0, unknown_tokens = 0;
  int64_t examples = 0, example_tokens = 0, masked_tokens = 0;
  int64_t nsp_next = 0, nsp_random = 0;
  std::vector<int64_t> length_histogram;  // [sequence_length + 1], examples by number of tokens

  /// Counts an example; length_histogram has its size already.
  void add(const StoredExample& stored);
};

/// part / whole; 0 of nothing.
inline double share_of(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

struct Manifest {
  int format_version = kDataFormatVersion;
  DataSettings settings;
  bool held_out = false;  // this folder has every `hold_out_every`-th document, else the others
  std::string vocabulary_hash;  // as Vocab::hash, in hex
  TokenTable tokens;            // continues_word is not stored: the folder has vocab.txt
  std::vector<SourceStats> sources;
  std::vector<ShardEntry> shards;
  DataCounts counts;
  std::optional<CorpusFacts> facts = {};  // older folders have none
  std::string unigram_source;  // "this folder", or the folder whose text unigram.bin counts
};

nlohmann::json to_json(const DataSettings& settings);
nlohmann::json to_json(const DataCounts& counts);
nlohmann::json to_json(const Manifest& manifest);

/// Writes folder/manifest.json, durably. Errors: DataError (disk full).
void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

/// Whether `folder` holds a manifest of shards, of any version.
bool holds_manifest(const std::filesystem::path& folder);

/// Errors  DataError: the folder or its manifest is missing or not JSON, a field is missing or has
/// another type, the format is newer.
Manifest read_manifest(const std::filesystem::path& folder);

/// unigram.bin: how often each id occurs in the training text, for the unigram cross-entropy of
/// `eval mlm`. Little-endian:
///   "MBUNIGR\n" | u32 version 1 | u32 V | u64 counts [V] | u32 crc32 of all bytes before it
void write_unigram_counts(const std::filesystem::path& folder, const std::vector<uint64_t>& counts);
/// Errors  DataError: missing, damaged, or its vocabulary size is not `vocab_size`.
std::vector<uint64_t> read_unigram_counts(const std::filesystem::path& folder, int32_t vocab_size);

}  // namespace minibert
