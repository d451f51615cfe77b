// example_shuffle.cpp: records of 32-bit numbers in buckets. See example_shuffle.h.
#include "models/text/example_shuffle.h"

#include <algorithm>
#include <tuple>

#include "core/error.h"
#include "core/random.h"

namespace minibert {
namespace {

constexpr int64_t kMostBuckets = 1024;
constexpr int64_t kLeastInMemory = 64 << 10;  // bytes of a bucket
// A record: key (2 numbers), example number (2), tokens, first segment, masks, label; then the arrays.
constexpr size_t kHead = 8;

uint64_t joined(int32_t low, int32_t high) {
  return static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32 | static_cast<uint32_t>(low);
}
void append(uint64_t value, std::vector<int32_t>& record) {
  record.push_back(static_cast<int32_t>(value & 0xFFFFFFFFu));
  record.push_back(static_cast<int32_t>(value >> 32));
}

StoredExample read_record(const int32_t* at) {
  StoredExample stored;
  const int32_t length = at[4], masked = at[6];
  stored.example.first_segment = at[5];
  stored.example.nsp_label = static_cast<int8_t>(at[7]);
  const int32_t* ids = at + kHead;
  stored.example.ids.assign(ids, ids + length);
  stored.masked_positions.assign(ids + length, ids + length + masked);
  stored.masked_labels.assign(ids + length + masked, ids + length + 2 * masked);
  return stored;
}

}  // namespace

ExampleShuffle::ExampleShuffle(const std::filesystem::path& folder, uint64_t seed, int64_t bytes,
                               int64_t memory)
    : seed_(seed) {
  const int64_t count =
      std::clamp<int64_t>(bytes / std::max<int64_t>(1, memory) + 1, 1, kMostBuckets);
  for (int64_t b = 0; b < count; ++b) {
    buckets_.emplace_back(folder / fmt::format("bucket-{:04}.spill", b),
                          std::max(kLeastInMemory, memory / count));
  }
}

void ExampleShuffle::add(const StoredExample& stored) {
  const auto number = static_cast<uint64_t>(added_++);
  RandomStream draws(seed_, StreamPurpose::shuffle, number + 1);
  const uint64_t high = draws.next_u32(), key = high << 32 | draws.next_u32();
  record_.clear();
  append(key, record_);
  append(number, record_);
  record_.push_back(static_cast<int32_t>(stored.example.ids.size()));
  record_.push_back(stored.example.first_segment);
  record_.push_back(static_cast<int32_t>(stored.masked_positions.size()));
  record_.push_back(stored.example.nsp_label);
  for (const auto* part : {&stored.example.ids, &stored.masked_positions, &stored.masked_labels})
    record_.insert(record_.end(), part->begin(), part->end());
  const auto bucket = static_cast<size_t>((key >> 32) * buckets_.size() >> 32);
  buckets_[bucket].append(record_);
}

void ExampleShuffle::drain(const std::function<void(const StoredExample&)>& sink) {
  for (SpillArray<int32_t>& bucket : buckets_) {
    bucket.seal();
    std::vector<int32_t> records(static_cast<size_t>(bucket.size()));
    bucket.read(0, bucket.size(), records.data());
    std::vector<std::tuple<uint64_t, uint64_t, size_t>> order;  // key, number, place
    for (size_t at = 0; at < records.size();) {
      const int32_t* record = records.data() + at;
      order.emplace_back(joined(record[0], record[1]), joined(record[2], record[3]), at);
      at += kHead + static_cast<size_t>(record[4] + 2 * record[6]);
    }
    bucket = {};
    std::sort(order.begin(), order.end());
    for (const auto& [key, number, at] : order) sink(read_record(records.data() + at));
  }
}

}  // namespace minibert
