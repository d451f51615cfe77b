// shard_inspect.h: what is in a folder of shards: `data inspect`. Reads and checks every byte, and
// counts again what the manifest claims. Called by tools/minibert/data.cpp.
// Test: ctest -R shard_build.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "models/text/corpus_lint.h"
#include "models/text/manifest.h"

namespace minibert {

struct ShardInspection {
  std::filesystem::path folder;
  Manifest manifest;
  /// Counted from the records; documents, sentences and text tokens are from the manifest.
  DataCounts counts;
  // What the model sees in place of the masked tokens. A random id that equals the token counts as
  // kept. With dynamic masking: the masks of the data's own seed and epoch 0.
  int64_t shown_as_mask = 0, shown_as_kept = 0, shown_as_random = 0;
  /// Examples without a masked token (all words have more pieces than the wanted number).
  int64_t empty_masks = 0;
  std::vector<CorpusFinding> findings;  // corpus_lint.h
};

/// Errors  DataError for the first damaged record, or counts that differ from the manifest.
ShardInspection inspect_shards(const std::filesystem::path& folder);

nlohmann::json to_json(const ShardInspection& inspection);
/// A few lines of text: counts, shares and a histogram of lengths.
std::string describe(const ShardInspection& inspection);

}  // namespace minibert
