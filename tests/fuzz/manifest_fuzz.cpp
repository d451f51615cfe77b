// manifest_fuzz.cpp: manifest.json of a folder of shards, and unigram.bin. Parts of an input: the
// manifest, and the table of counts without its checksum, which the target computes. A whole shard
// lies beside them. Readers: models/text/manifest.h, shard_set.h, shard_inspect.h (`data inspect`).
#include <nlohmann/json.hpp>

#include "models/text/checksum.h"
#include "models/text/json_text.h"
#include "models/text/shard_inspect.h"
#include "models/text/shard_set.h"
#include "models/text/vocab.h"
#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {
namespace {

constexpr int32_t kEntries = 16;  // of the vocabulary

Vocab vocabulary() {
  return Vocab::from_tokens({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "b", "##b",
                             "c", "##c", "d", "##d", "e", "##e", "f"},
                            "the target's vocabulary");
}

/// Writes the shard `name`; returns its entry.
ShardEntry write_shard(const std::string& name, bool masked) {
  const int examples = 3;
  ShardWriter writer(folder() / name, {kEntries, 8, masked, true});
  for (int i = 0; i < examples; ++i) {
    StoredExample stored{{{2, 7, 3, 9, 3}, 3, static_cast<int8_t>(i % 2)}, {}, {}};
    if (masked) stored.masked_positions = {1, 3}, stored.masked_labels = {8, i};
    writer.add(stored);
  }
  const auto [bytes, crc32] = writer.finish();
  return {name, examples, bytes, crc32, ShardReader(folder() / name).identity()};
}

Manifest manifest_of(const ShardEntry& shard, bool masked, bool whole_word) {
  Manifest manifest;
  manifest.settings.dynamic_masking = !masked;
  manifest.settings.masking.whole_word = whole_word;
  manifest.settings.examples.sequence_length = 8;
  manifest.vocabulary_hash = fmt::format("{:016x}", vocabulary().hash());
  manifest.tokens = {kEntries, 2, 3, 4, 1, {}};
  manifest.sources.push_back(
      {.path = "a.txt", .file_bytes = 9, .text_bytes = 9, .lines = 2, .documents = 1});
  manifest.shards = {shard};
  manifest.counts.documents = 1;
  manifest.counts.sentences = 6;
  manifest.counts.tokens = 9;
  manifest.counts.examples = 3;
  manifest.counts.example_tokens = 15;
  manifest.counts.nsp_next = 2;
  manifest.counts.nsp_random = 1;
  manifest.counts.length_histogram = {0, 0, 0, 0, 0, 3, 0, 0, 0};
  manifest.facts.emplace();
  manifest.unigram_source = "this folder";
  return manifest;
}

std::vector<Manifest> manifests() {
  static const ShardEntry masked = write_shard("masked.mbs", true),
                          dynamic = write_shard("dynamic.mbs", false);
  write("vocab.txt", vocabulary().text());
  return {manifest_of(masked, true, false), manifest_of(dynamic, false, false),
          manifest_of(dynamic, false, true)};
}

std::string counts() {
  write_unigram_counts(folder(), std::vector<uint64_t>(kEntries, 3));
  std::string bytes = read(folder() / "unigram.bin");
  bytes.resize(bytes.size() - sizeof(uint32_t));
  return bytes;
}

}  // namespace

void fuzz(std::string_view input) {
  static const std::vector<Manifest> written = manifests();
  const auto parts = parts_of(input, 2);
  write("manifest.json", parts[0]);
  std::string table(parts[1]);
  table.resize(table.size() + sizeof(uint32_t));
  put(table, parts[1].size(), crc32_of(parts[1].data(), parts[1].size()));
  write("unigram.bin", table);
  succeeds([&] {
    const Manifest manifest = read_manifest(folder());
    claim(holds_manifest(folder()), "what can be read is a manifest");
    const std::string text = json_text(to_json(manifest));
    write("manifest.json", text);
    claim(json_text(to_json(read_manifest(folder()))) == text,
          "a manifest comes back from its text");
    write("manifest.json", parts[0]);
  });
  succeeds([&] { ShardSet::open(folder())->unigram_counts(); });
  succeeds([&] {
    const ShardInspection inspection = inspect_shards(folder());
    describe(inspection);
    json_text(to_json(inspection));
  });
}

std::vector<std::string> seeds() {
  std::vector<std::string> seeds = {deep_json("settings")};
  const std::string table = counts();
  for (const Manifest& manifest : manifests()) {
    write_manifest(folder(), manifest);
    seeds.push_back(joined({read(folder() / "manifest.json"), table}));
  }
  return seeds;
}

}  // namespace minibert::fuzz
