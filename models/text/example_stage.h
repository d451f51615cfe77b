// example_stage.h: the second stage of data build: token ids to examples, masks and shards, some
// documents at a time. Called by shard_build.cpp. Easy to break: examples are numbered in the order
// in which they are created, by pass and document, and the number names their masks; groups of
// documents change nothing.
// Test: ctest -R shard_build.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/text/build_journal.h"
#include "models/text/draw_recorder.h"
#include "models/text/example_shuffle.h"
#include "models/text/in_order_worker.h"
#include "models/text/shard.h"
#include "models/text/text_stage.h"

namespace minibert {

struct ExampleStageOptions {
  int64_t shard_bytes = 0;  // a shard is closed once it is at least this long
  int64_t memory = 0;       // bytes for the shuffle
  bool dry_run = false;     // create and count, write nothing
  bool held_out = false;
  BuildJournal* journal = nullptr;  // gets each closed shard; null: none
};

/// Consecutive shards of a folder.
class ShardSeries {
 public:
  ShardSeries(std::filesystem::path folder, const ShardTraits& traits, int64_t shard_bytes);
  /// Goes on after these shards.
  void start_after(std::vector<ShardEntry> entries) { entries_ = std::move(entries); }
  /// True if this example closed a shard.
  bool add(const StoredExample& example);
  const std::vector<ShardEntry>& closed() const { return entries_; }
  /// Must follow the last example.
  std::vector<ShardEntry> finish();

 private:
  void close_shard();
  const std::filesystem::path folder_;
  const ShardTraits traits_;
  const int64_t shard_bytes_;
  std::unique_ptr<ShardWriter> writer_;
  std::string name_;
  std::vector<ShardEntry> entries_;
};

/// Creates the examples of one part, counts them in it, and writes them to one folder. Keeps references
/// to its arguments.
class ExampleStage {
 public:
  ExampleStage(const std::filesystem::path& folder, const DataSettings& settings,
               const ExampleStageOptions& options, const TokenTable& table, TextPart& part,
               DrawRecorder& recorder);
  std::vector<ShardEntry> run();

 private:
  /// The examples of some neighbouring documents in one pass.
  struct Group {
    int64_t first_document = 0, first_example = 0;
    int duplicate = 0;
    std::vector<std::vector<Draw>> pass_draws, mask_draws;  // if they are recorded
    std::vector<StoredExample> examples;
    std::vector<uint8_t>
        without_masks;  // [examples] 1: none in epoch 0; of dynamic whole-word masks
  };
  int64_t group_size(int64_t first) const;
  std::shared_ptr<Group> create(int64_t first, int64_t count, int duplicate);
  void mask(Group& group) const;
  MaskedTokens masks_of(const Group& group, size_t i, uint32_t epoch,
                        std::vector<Draw>* record) const;
  void find_empty_masks(Group& group) const;
  void take(const Group& group, int64_t already_taken);
  ExamplePosition restore();
  void note(const Group& group, int64_t taken);
  void tally(const StoredExample& stored, bool without_masks);

  const DataSettings& settings_;
  const ExampleStageOptions options_;
  const TokenTable& table_;
  TextPart& part_;
  DrawRecorder& recorder_;
  int64_t created_ = 0;
  ShardSeries shards_;
  std::optional<ExampleShuffle> shuffle_;
  InOrderWorker worker_;  // last: its tasks use the others
};

}  // namespace minibert
