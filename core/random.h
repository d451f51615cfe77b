// random.h: Philox4x32-10, the counter-based generator behind every random decision, and the layout
// of its counter. Called by initialisation (nn), masking, shuffling and example building
// (models/text), and dropout: in core/kernels, elementwise_simd.cpp, layer_norm_simd.cpp and
// attention_simd.cpp apply the masks and draw the same words on vectors. Easy to break: a counter
// says *what* is drawn, never *when*, so nothing has to be replayed on resume, and a value does not
// depend on packing, micro-batch, threads, ranks or device. Source: Salmon et al., SC'11.
// Test: ctest -R core_random.
#pragma once

#include <array>
#include <cstdint>

namespace minibert {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxOutput = std::array<uint32_t, 4>;

/// Ten rounds of Philox4x32. key = seed (low word, high word).
constexpr PhiloxOutput philox4x32(PhiloxCounter counter, uint64_t seed) {
  constexpr uint32_t kMul0 = 0xD2511F53u, kMul1 = 0xCD9E8D57u, kWeyl0 = 0x9E3779B9u,
                     kWeyl1 = 0xBB67AE85u;
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kMul0} * counter[0], product1 = uint64_t{kMul1} * counter[2];
    counter = {
        static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0, static_cast<uint32_t>(product1),
        static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

// ---- Dropout's counter -------------------------------------------------------------------------
//   word 0  element group: for a hidden row, column / 4; for attention, key / 2
//   word 1  position in the sequence (low 16 bits) and head (high 16 bits; 0 for a hidden row).
//           Attention: the query's position with bit 3 cleared.
//   word 2  number of the sequence within the step (`sample` of the packed batch)
//   word 3  data step (22 bits) | layer (6 bits) | purpose (4 bits), from high to low
// The four outputs of one call serve four neighbouring elements:
//   hidden row   outputs 0..3 = columns 4g, 4g+1, 4g+2, 4g+3
//   attention    outputs 0..3 = (i, j) (i, j+1) (i+8, j) (i+8, j+1), i = query with bit 3 clear,
//                j = even key: the quad that one thread of an m16n8 tensor-core accumulator holds.
// An element is kept where (output >> 16) >= threshold, threshold = round(p * 65536): keep
// probabilities are quantised to 1/65536, and kept elements are scaled by exactly the inverse,
// 65536 / (65536 - threshold).

enum class DropoutPurpose : uint32_t {
  embedding = 0,         // after the embeddings' LayerNorm
  attention = 1,         // attention probabilities
  attention_output = 2,  // before the first residual sum of an encoder layer
  feed_forward = 3,      // before the second residual sum
  pooled = 4,            // classifier heads
  user = 15,             // ops used outside BERT
};

inline constexpr uint32_t kMaxDataStep = (1u << 22) - 1;
inline constexpr int kMaxDropoutLayer = (1 << 6) - 1;

/// One dropout site in one step. p = 0 switches it off (threshold 0 keeps everything, scale is 1).
struct Dropout {
  uint64_t seed = 0;
  uint32_t step_layer_purpose = 0;  // word 3 of the counter
  uint32_t threshold = 0;           // round(p * 65536), 0 .. 65535
  float scale = 1.0f;               // 65536 / (65536 - threshold)

  bool active() const { return threshold != 0; }
};

/// Errors: UsageError unless 0 <= p < 1, data_step <= kMaxDataStep, 0 <= layer <= kMaxDropoutLayer.
Dropout make_dropout(float p, uint64_t seed, uint32_t data_step, int layer, DropoutPurpose purpose);

inline bool dropout_keeps(uint32_t output, uint32_t threshold) {
  return (output >> 16) >= threshold;
}

/// Counter of the four hidden columns 4*group .. 4*group+3 of one row.
inline PhiloxCounter hidden_counter(const Dropout& d, uint32_t group, uint32_t position,
                                    uint32_t sample) {
  return {group, position, sample, d.step_layer_purpose};
}
/// Counter of the quad of attention elements that contains (query, key) of a head.
inline PhiloxCounter attention_counter(const Dropout& d, uint32_t query, uint32_t key,
                                       uint32_t head, uint32_t sample) {
  return {key / 2, (query & ~8u) | (head << 16), sample, d.step_layer_purpose};
}
/// Which of the four outputs of attention_counter belongs to (query, key).
inline int attention_output_index(uint32_t query, uint32_t key) {
  return static_cast<int>(((query >> 3) & 1) * 2 + (key & 1));
}

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
