// random_batch.cpp: ids, masked places and labels from one stream.
#include "models/training/random_batch.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/random.h"

namespace minibert {
namespace {

struct RandomSequence {
  std::vector<int32_t> ids, masked, labels;
  int32_t is_random = 0;
};

RandomSequence random_sequence(int64_t length, int64_t vocab, int64_t count, RandomStream& random) {
  const auto below = [&](int64_t n) {
    return static_cast<int32_t>(random.below(static_cast<uint32_t>(n)));
  };
  RandomSequence s;
  for (int64_t t = 0; t < length; ++t) s.ids.push_back(5 + below(vocab - 5));
  s.masked.resize(s.ids.size());
  std::iota(s.masked.begin(), s.masked.end(), 0);
  for (int64_t k = 0; k < count; ++k) std::swap(s.masked[k], s.masked[k + below(length - k)]);
  s.masked.resize(static_cast<size_t>(count));
  std::sort(s.masked.begin(), s.masked.end());
  for (const int32_t position : s.masked) s.labels.push_back(s.ids[position]);
  s.is_random = below(2);
  return s;
}

}  // namespace

int64_t fifteen_percent(int64_t length) {
  return std::max<int64_t>(1, std::lround(0.15 * static_cast<double>(length)));
}

PackedBatch random_batch(std::span<const int64_t> lengths, int64_t vocab_size,
                         const BatchLimits& limits, bool nsp, const RandomBatchName& name,
                         int64_t masked) {
  RandomStream random(name.seed, StreamPurpose::user, static_cast<uint64_t>(name.number));
  std::vector<RandomSequence> made;
  for (const int64_t length : lengths) {
    const int64_t count = masked > 0 ? std::min(masked, length) : fifteen_percent(length);
    made.push_back(random_sequence(length, vocab_size, count, random));
  }
  std::vector<SequenceToPack> sequences;
  for (const RandomSequence& s : made) {
    sequences.push_back({.ids = s.ids,
                         .first_segment = static_cast<int64_t>(s.ids.size()),
                         .sample = static_cast<int32_t>(sequences.size()),
                         .masked_positions = s.masked,
                         .masked_labels = s.labels,
                         .nsp_label = s.is_random});
  }
  return pack(sequences, limits, nsp);
}

}  // namespace minibert
