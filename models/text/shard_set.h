// shard_set.h: a folder of shards as one numbered sequence of examples. Opened by run_setup.cpp,
// eval and data inspect. Easy to break: example numbers run through the shards in the manifest's
// order, and they name masks and shuffles. Test: ctest -R shard.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/text/basic_tokenizer.h"
#include "models/text/manifest.h"
#include "models/text/shard.h"

namespace minibert {

/// What the model expects of the data; absent fields are not checked.
struct ExpectedData {
  std::optional<int32_t> vocab_size;
  std::optional<std::string> vocabulary_hash;
  std::optional<TokenizerOptions> tokenizer = {};
  std::filesystem::path vocabulary = {};  // that has it beside it, for the message
};

/// Immutable after open(); safe to read from many threads.
class ShardSet {
 public:
  /// Maps all shards of `folder` and checks them against the manifest, and the manifest against
  /// `expected`. Errors: DataError naming the file, what was found, expected, and the fix.
  static std::shared_ptr<const ShardSet> open(const std::filesystem::path& folder,
                                              const ExpectedData& expected = {});

  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }
  const ShardTraits& traits() const { return traits_; }
  /// Special ids, and for whole-word masking which ids continue a word (the folder's vocab.txt).
  const TokenTable& tokens() const { return tokens_; }
  int64_t examples() const { return first_.back(); }

  int32_t length(int64_t example) const;
  /// How many masks read_masked() gives, without decoding the example: all but whole-word masks that
  /// are drawn anew each epoch, whose number depends on the words.
  int32_t masked(int64_t example, uint64_t seed, uint32_t epoch) const;
  /// The example as stored. Errors: DataError if the record is damaged.
  StoredExample read(int64_t example) const;
  /// The example with its masks: the stored ones, or with dynamic masking those drawn from the
  /// stream (seed, masking, example, epoch).
  StoredExample read_masked(int64_t example, uint64_t seed, uint32_t epoch) const;
  /// Counts of the training text by id, [V].
  std::vector<uint64_t> unigram_counts() const;
  /// Checks vocab.txt and unigram.bin, compares each shard's checksum with the manifest's and reads
  /// every example.
  /// Errors: DataError for the first difference.
  void verify() const;

 private:
  ShardSet() = default;
  std::pair<const ShardReader*, int64_t> locate(int64_t example) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  ShardTraits traits_;
  TokenTable tokens_;
  std::vector<std::unique_ptr<ShardReader>> shards_;
  std::vector<int64_t> first_;  // number of each shard's first example; the last entry is the sum
};

}  // namespace minibert
