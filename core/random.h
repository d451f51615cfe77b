// random.h: random draws on the host: named streams of Philox, and dropout sites.
// Called by initialisation (nn), masking, shuffling and example building (models/text); the models
// make their dropout sites here. Easy to break: a stream's name says *what* is drawn, never *when*.
// The generator itself and dropout's counter, which kernels read too: philox.h.
// Test: ctest -R core_random.
#pragma once

#include <array>
#include <cstdint>

#include "core/philox.h"

namespace minibert {

/// A dropout site whose data step lies at `data_step`, which must outlive it (null: step 0).
/// Errors: UsageError unless 0 <= p < 1 and 0 <= layer <= kMaxDropoutLayer.
Dropout make_dropout(float p, uint64_t seed, const uint32_t* data_step, int layer,
                     DropoutPurpose purpose);

// ---- Data's and initialisation's counter -------------------------------------------------------
// A sequential stream named by purpose, index and epoch. Its counter:
//   word 0  draw number / 4
//   word 1  index, low 32 bits
//   word 2  index, high bits (24 bits) | purpose (top 8 bits)
//   word 3  epoch
// The key is the seed with its bits inverted, so that no data stream meets a dropout counter.

enum class StreamPurpose : uint32_t {
  initialization = 1,  // index = parameter number
  examples = 2,        // index = document number, epoch = duplicate: building examples
  masking = 3,         // index = example number, epoch = pass over the data: masking (dynamic) or
                       // duplicate (static)
  shuffle = 4,         // index = shard group, epoch = pass over the data
  user = 255,          // tests and examples
};

/// Sequential draws from one named Philox stream. A value, cheap to make: nothing is allocated.
class RandomStream {
 public:
  RandomStream(uint64_t seed, StreamPurpose purpose, uint64_t index, uint32_t epoch = 0)
      : seed_(~seed),
        counter_{0, static_cast<uint32_t>(index),
                 (static_cast<uint32_t>(index >> 32) & 0x00FFFFFFu) |
                     (static_cast<uint32_t>(purpose) << 24),
                 epoch} {}

  /// Next 32 random bits.
  uint32_t next_u32();
  /// Uniform integer in [0, bound), without modulo bias (rejection). bound >= 1.
  uint32_t below(uint32_t bound);
  /// Uniform integer in [low, high], both ends included, as Python's random.randint.
  int64_t integer(int64_t low, int64_t high);
  /// Uniform in [0, 1): 24 random bits / 2^24.
  float uniform();
  /// Uniform in [0, 1) with 53 random bits.
  double uniform_double();
  /// Standard normal (Box-Muller in double).
  double normal();

 private:
  uint64_t seed_;
  PhiloxCounter counter_;
  PhiloxOutput output_{};
  int used_ = 4;
};

}  // namespace minibert
