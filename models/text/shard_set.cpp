// shard_set.cpp: opens a folder of shards, and finds an example in it. See shard_set.h.
#include "models/text/shard_set.h"

#include <algorithm>

#include "core/error.h"
#include "models/text/casing.h"
#include "models/text/tokenizer_folder.h"

namespace minibert {
namespace {

constexpr const char* kRebuild = "Build the data again: minibert data build.";

ShardTraits traits_of(const Manifest& manifest) {
  return {manifest.tokens.vocab_size, manifest.settings.examples.sequence_length,
          !manifest.settings.dynamic_masking, manifest.settings.examples.nsp};
}

void check_expected(const std::filesystem::path& folder, const Manifest& manifest,
                    const ExpectedData& expected) {
  MB_CHECK_AS(DataError, !expected.vocab_size || *expected.vocab_size == manifest.tokens.vocab_size,
              "{}: data was built with a vocabulary of {} entries, expected {} (the model's "
              "vocab_size). Build the data again with the model's vocabulary.",
              folder.string(), manifest.tokens.vocab_size, *expected.vocab_size);
  MB_CHECK_AS(DataError,
              !expected.vocabulary_hash || *expected.vocabulary_hash == manifest.vocabulary_hash,
              "{}: data was built with the vocabulary {}, expected {} (the hash of the given one). "
              "Build the data again with that vocabulary{}, or give the folder's own vocab.txt.",
              folder.string(), manifest.vocabulary_hash, *expected.vocabulary_hash,
              expected.vocabulary.empty()
                  ? ""
                  : ": `" + rebuild_command(folder, manifest, expected.vocabulary) + "`");
  if (!expected.tokenizer) return;
  const std::string fault =
      casing_fault(folder, manifest, *expected.tokenizer, expected.vocabulary);
  if (!fault.empty()) fail<DataError>("{}", fault);
}

void check_shard(const ShardReader& shard, const ShardEntry& entry, const ShardTraits& traits) {
  MB_CHECK_AS(DataError, shard.examples() == entry.examples && shard.bytes() == entry.bytes,
              "{}: holds {} examples in {} bytes, expected {} in {} (manifest.json). {}",
              shard.path().string(), shard.examples(), shard.bytes(), entry.examples, entry.bytes,
              kRebuild);
  MB_CHECK_AS(DataError, shard.traits().vocab_size == traits.vocab_size,
              "{}: was built with a vocabulary of {} entries, expected {} (manifest.json). {}",
              shard.path().string(), shard.traits().vocab_size, traits.vocab_size, kRebuild);
  MB_CHECK_AS(
      DataError, shard.traits() == traits,
      "{}: has sequence length {}, masks {}, NSP {}, expected {}, {}, {} (manifest.json). {}",
      shard.path().string(), shard.traits().sequence_length, shard.traits().masked,
      shard.traits().nsp, traits.sequence_length, traits.masked, traits.nsp, kRebuild);
  MB_CHECK_AS(DataError, !entry.identity || shard.identity() == *entry.identity,
              "{}: identity is {:08x}, expected {:08x} (manifest.json): the shard is damaged or "
              "from another "
              "build. Copy it again from its own build. {}",
              shard.path().string(), shard.identity(), *entry.identity, kRebuild);
}

/// Reads the folder's own vocab.txt.
Vocab read_vocabulary(const std::filesystem::path& folder, const Manifest& manifest) {
  const std::filesystem::path path = folder / "vocab.txt";
  Vocab vocab = open_vocabulary(path);
  MB_CHECK_AS(DataError, vocab.size() == manifest.tokens.vocab_size,
              "{}: has {} entries, expected {} (manifest.json). {}", path.string(), vocab.size(),
              manifest.tokens.vocab_size, kRebuild);
  const std::string hash = fmt::format("{:016x}", vocab.hash());
  MB_CHECK_AS(DataError, hash == manifest.vocabulary_hash,
              "{}: hash is {}, expected {} (manifest.json): its tokens were changed. Copy the "
              "vocabulary here that the data was built with.",
              path.string(), hash, manifest.vocabulary_hash);
  return vocab;
}

}  // namespace

std::shared_ptr<const ShardSet> ShardSet::open(const std::filesystem::path& folder,
                                               const ExpectedData& expected) {
  auto set = std::shared_ptr<ShardSet>(new ShardSet);
  set->folder_ = folder;
  set->manifest_ = read_manifest(folder);
  check_expected(folder, set->manifest_, expected);
  set->traits_ = traits_of(set->manifest_);
  set->tokens_ = set->manifest_.tokens;
  if (set->manifest_.settings.dynamic_masking && set->manifest_.settings.masking.whole_word) {
    set->tokens_.continues_word =
        token_table(read_vocabulary(folder, set->manifest_)).continues_word;
  }
  set->first_.push_back(0);
  for (const ShardEntry& entry : set->manifest_.shards) {
    auto shard = std::make_unique<ShardReader>(folder / entry.file);
    check_shard(*shard, entry, set->traits_);
    set->first_.push_back(set->first_.back() + shard->examples());
    set->shards_.push_back(std::move(shard));
  }
  MB_CHECK_AS(DataError, set->examples() > 0, "{}: holds no examples, expected at least one. {}",
              folder.string(), kRebuild);
  return set;
}

std::pair<const ShardReader*, int64_t> ShardSet::locate(int64_t example) const {
  MB_ASSERT(example >= 0 && example < examples(), "shard_set: example {} of {}", example,
            examples());
  const auto after = std::upper_bound(first_.begin(), first_.end(), example);
  const auto number = static_cast<size_t>(after - first_.begin()) - 1;
  return {shards_[number].get(), example - first_[number]};
}

int32_t ShardSet::length(int64_t example) const {
  const auto [shard, number] = locate(example);
  return shard->length(number);
}

StoredExample ShardSet::read(int64_t example) const {
  const auto [shard, number] = locate(example);
  return shard->read(number);
}

int32_t ShardSet::masked(int64_t example, uint64_t seed, uint32_t epoch) const {
  const auto [shard, number] = locate(example);
  if (traits_.masked) return shard->masked(number);
  constexpr int kSpecial = 3;  // [CLS] and one or two [SEP] are no candidates
  const MaskingOptions& masking = manifest_.settings.masking;
  const int32_t length = shard->length(number), count = masked_count(length, masking);
  if (!masking.whole_word && count <= length - kSpecial) return count;
  return static_cast<int32_t>(read_masked(example, seed, epoch).masked_positions.size());
}

StoredExample ShardSet::read_masked(int64_t example, uint64_t seed, uint32_t epoch) const {
  StoredExample stored = read(example);
  if (traits_.masked) return stored;
  DrawSource draws(
      RandomStream(seed, StreamPurpose::masking, static_cast<uint64_t>(example), epoch));
  MaskedTokens masked = mask_tokens(stored.example.ids, tokens_, manifest_.settings.masking, draws);
  stored.example.ids = std::move(masked.ids);
  stored.masked_positions = std::move(masked.positions);
  stored.masked_labels = std::move(masked.labels);
  return stored;
}

std::vector<uint64_t> ShardSet::unigram_counts() const {
  return read_unigram_counts(folder_, tokens_.vocab_size);
}

void ShardSet::verify() const {
  read_vocabulary(folder_, manifest_);
  unigram_counts();
  for (size_t i = 0; i < shards_.size(); ++i) {
    for (int64_t e = 0; e < shards_[i]->examples(); ++e) shards_[i]->read(e);
    const uint32_t crc = shards_[i]->crc32();
    MB_CHECK_AS(DataError, crc == manifest_.shards[i].crc32,
                "{}: checksum is {:08x}, expected {:08x} (manifest.json). {}",
                shards_[i]->path().string(), crc, manifest_.shards[i].crc32, kRebuild);
  }
}

}  // namespace minibert
