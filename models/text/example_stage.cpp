// example_stage.cpp: all threads create and mask a group of documents' examples while one writes
// the group before. See example_stage.h.
#include "models/text/example_stage.h"

#include <algorithm>

#include "core/error.h"
#include "core/parallel.h"

namespace minibert {
namespace {

constexpr int64_t kGroupDocuments = 256;   // whose examples are in memory at once
constexpr int64_t kGroupTokens = 1 << 20;  // of these documents, unless one alone has more
constexpr int64_t kMaskGrain = 64;         // examples per block

ShardTraits traits_of(const TokenTable& table, const DataSettings& settings) {
  return {table.vocab_size, settings.examples.sequence_length, !settings.dynamic_masking,
          settings.examples.nsp};
}

}  // namespace

// ---- Shards ------------------------------------------------------------------------------------

ShardSeries::ShardSeries(std::filesystem::path folder, const ShardTraits& traits,
                         int64_t shard_bytes)
    : folder_(std::move(folder)), traits_(traits), shard_bytes_(shard_bytes) {}

bool ShardSeries::add(const StoredExample& example) {
  if (!writer_) {
    name_ = fmt::format("shard-{:05}.mbs", entries_.size());
    writer_ = std::make_unique<ShardWriter>(folder_ / name_, traits_);
  }
  writer_->add(example);
  if (writer_->bytes() < shard_bytes_) return false;
  close_shard();
  return true;
}

std::vector<ShardEntry> ShardSeries::finish() {
  close_shard();
  return std::move(entries_);
}

void ShardSeries::close_shard() {
  if (!writer_) return;
  const int64_t examples = writer_->examples();
  const ShardWriter::Result result = writer_->finish();
  const uint32_t identity = ShardReader(folder_ / name_).identity();
  entries_.push_back({name_, examples, result.bytes, result.crc32, identity});
  writer_.reset();
}

// ---- Examples ----------------------------------------------------------------------------------

ExampleStage::ExampleStage(const std::filesystem::path& folder, const DataSettings& settings,
                           const ExampleStageOptions& options, const TokenTable& table,
                           TextPart& part, DrawRecorder& recorder)
    : settings_(settings),
      options_(options),
      table_(table),
      part_(part),
      recorder_(recorder),
      shards_(folder, traits_of(table, settings), options.shard_bytes) {
  part_.counts.length_histogram.resize(static_cast<size_t>(settings.examples.sequence_length) + 1);
  if (!settings.shuffle || options.dry_run) return;
  shuffle_.emplace(folder, settings.seed,
                   part.counts.tokens * settings.duplicate_factor * ExampleShuffle::kBytesPerToken,
                   options.memory);
}

std::vector<ShardEntry> ExampleStage::run() {
  recorder_.documents(part_.documents);
  const int64_t documents = part_.documents.documents();
  const ExamplePosition start = restore();
  created_ = start.first_example;
  int64_t first = start.first_document, taken = start.taken;
  for (int duplicate = start.duplicate; duplicate < settings_.duplicate_factor; ++duplicate) {
    while (first < documents) {
      const int64_t count = group_size(first);
      auto group = create(first, count, duplicate);
      worker_.give([this, group, taken] { take(*group, taken); });
      first += count;
      taken = 0;
    }
    first = 0;
  }
  worker_.wait();
  if (shuffle_) shuffle_->drain([&](const StoredExample& stored) { shards_.add(stored); });
  return shards_.finish();
}

int64_t ExampleStage::group_size(int64_t first) const {
  const int64_t most = std::min(kGroupDocuments, part_.documents.documents() - first);
  int64_t count = 1, tokens = part_.documents.tokens_of(first);
  while (count < most) {
    tokens += part_.documents.tokens_of(first + count);
    if (tokens > kGroupTokens) break;
    ++count;
  }
  return count;
}

std::shared_ptr<ExampleStage::Group> ExampleStage::create(int64_t first, int64_t count,
                                                          int duplicate) {
  auto group = std::make_shared<Group>();
  group->first_document = first;
  group->first_example = created_;
  group->duplicate = duplicate;
  if (recorder_.on()) group->pass_draws.resize(static_cast<size_t>(count));
  std::vector<std::vector<Example>> passes(static_cast<size_t>(count));
  parallel_blocks(count, [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    DrawSource source(
        RandomStream(settings_.seed, StreamPurpose::examples, static_cast<uint64_t>(first + i),
                     static_cast<uint32_t>(duplicate)),
        recorder_.on() ? &group->pass_draws[at] : nullptr);
    passes[at] = create_examples(part_.documents, first + i, table_, settings_.examples, source);
  });
  for (std::vector<Example>& pass : passes) {
    for (Example& example : pass) group->examples.push_back({std::move(example), {}, {}});
  }
  created_ += static_cast<int64_t>(group->examples.size());
  if (!settings_.dynamic_masking) {
    mask(*group);
  } else if (settings_.masking.whole_word) {
    find_empty_masks(*group);
  }
  return group;
}

MaskedTokens ExampleStage::masks_of(const Group& group, size_t i, uint32_t epoch,
                                    std::vector<Draw>* record) const {
  const auto number = static_cast<uint64_t>(group.first_example) + i;
  DrawSource source(RandomStream(settings_.seed, StreamPurpose::masking, number, epoch), record);
  return mask_tokens(group.examples[i].example.ids, table_, settings_.masking, source);
}

void ExampleStage::find_empty_masks(Group& group) const {
  group.without_masks.resize(group.examples.size());
  const auto number = static_cast<int64_t>(group.examples.size());
  parallel_for(number, kMaskGrain, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      group.without_masks[i] = masks_of(group, i, /* epoch= */ 0, nullptr).positions.empty();
  });
}

void ExampleStage::mask(Group& group) const {
  std::vector<StoredExample>& examples = group.examples;
  if (recorder_.on()) group.mask_draws.resize(examples.size());
  const auto number = static_cast<int64_t>(examples.size());
  parallel_for(number, kMaskGrain, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      MaskedTokens masked = masks_of(group, i, static_cast<uint32_t>(group.duplicate),
                                     recorder_.on() ? &group.mask_draws[i] : nullptr);
      examples[i].example.ids = std::move(masked.ids);
      examples[i].masked_positions = std::move(masked.positions);
      examples[i].masked_labels = std::move(masked.labels);
    }
  });
}

void ExampleStage::take(const Group& group, int64_t already_taken) {
  for (size_t i = 0; i < group.pass_draws.size(); ++i)
    recorder_.pass(group.first_document + static_cast<int64_t>(i), group.duplicate,
                   group.pass_draws[i]);
  for (size_t i = 0; i < group.mask_draws.size(); ++i)
    recorder_.mask(group.first_example + static_cast<int64_t>(i), group.mask_draws[i]);
  for (auto i = static_cast<size_t>(already_taken); i < group.examples.size(); ++i) {
    const StoredExample& stored = group.examples[i];
    tally(stored, settings_.dynamic_masking
                      ? !group.without_masks.empty() && group.without_masks[i] != 0
                      : stored.masked_positions.empty());
    if (options_.dry_run) continue;
    if (shuffle_) {
      shuffle_->add(stored);
    } else if (shards_.add(stored)) {
      note(group, static_cast<int64_t>(i) + 1);
    }
  }
}

// ---- Progress ----------------------------------------------------------------------------------

ExamplePosition ExampleStage::restore() {
  if (options_.journal == nullptr || shuffle_) return {};
  const auto saved = options_.journal->load_examples(options_.held_out);
  if (!saved) return {};
  part_.counts = saved->first.counts;
  part_.facts = *saved->first.facts;
  shards_.start_after(saved->first.shards);
  return saved->second;
}

void ExampleStage::note(const Group& group, int64_t taken) {
  if (options_.journal == nullptr) return;
  Manifest manifest;
  manifest.settings = settings_;
  manifest.counts = part_.counts;
  manifest.facts = part_.facts;
  manifest.shards = shards_.closed();
  options_.journal->save_examples(
      options_.held_out, manifest,
      {group.duplicate, group.first_document, group.first_example, taken});
}

void ExampleStage::tally(const StoredExample& stored, bool without_masks) {
  part_.counts.add(stored);
  part_.facts.lost_tokens += stored.example.lost_tokens;
  part_.facts.empty_masks += without_masks;
}

}  // namespace minibert
