// philox.h: Philox4x32-10, the counter-based generator behind every random decision, and the layout
// of dropout's counter, as plain data that kernels include. Streams of draws on the host: random.h.
// Called by the references, by the fast CPU code, which draws the same words on vectors, and by CUDA
// kernels. Easy to break: a counter says *what* is drawn, never *when*, so a resumed run has nothing to
// replay, and a value does not depend on packing, micro-batch, threads, ranks or device. Source: Salmon
// et al., SC'11. Test: ctest -R core_random.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/portable.h"

namespace minibert {

/// Four words: a counter, or what Philox makes of it.
struct PhiloxWords {
  uint32_t word[4];

  MB_INLINE constexpr uint32_t operator[](size_t i) const { return word[i]; }
  MB_INLINE constexpr uint32_t& operator[](size_t i) { return word[i]; }
  constexpr bool operator==(const PhiloxWords&) const = default;
};
using PhiloxCounter = PhiloxWords;
using PhiloxOutput = PhiloxWords;

/// The multipliers of a round, and what the two halves of the key grow by from round to round.
inline constexpr uint32_t kPhiloxMul0 = 0xD2511F53u, kPhiloxMul1 = 0xCD9E8D57u,
                          kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

/// One round, with the round's key.
MB_INLINE constexpr PhiloxWords philox_round(PhiloxWords x, uint32_t key0, uint32_t key1) {
  const uint64_t product0 = uint64_t{kPhiloxMul0} * x[0], product1 = uint64_t{kPhiloxMul1} * x[2];
  return {{static_cast<uint32_t>(product1 >> 32) ^ x[1] ^ key0, static_cast<uint32_t>(product1),
           static_cast<uint32_t>(product0 >> 32) ^ x[3] ^ key1, static_cast<uint32_t>(product0)}};
}

/// Ten rounds of Philox4x32. key = seed (low word, high word).
MB_INLINE constexpr PhiloxOutput philox4x32(PhiloxCounter counter, uint64_t seed) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    counter = philox_round(counter, key0, key1);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

/// The keys of all rounds, for kernels that draw much: 18 additions less a call.
struct PhiloxKeys {
  uint32_t key[kPhiloxRounds][2];
};
MB_INLINE constexpr PhiloxKeys philox_keys(uint64_t seed) {
  PhiloxKeys keys{};
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (auto& key : keys.key) {
    key[0] = key0;
    key[1] = key1;
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return keys;
}
MB_INLINE constexpr PhiloxOutput philox4x32(PhiloxCounter counter, const PhiloxKeys& keys) {
  for (const auto& key : keys.key) counter = philox_round(counter, key[0], key[1]);
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

/// One dropout site. p = 0 switches it off (threshold 0 keeps everything, scale is 1). The data step
/// is read where the kernel runs, so that a captured graph draws new masks in each replay.
struct Dropout {
  uint64_t seed = 0;
  const uint32_t* data_step = nullptr;  // in the device's memory (StepState); null: step 0
  uint32_t layer_purpose = 0;           // the low ten bits of word 3
  uint32_t threshold = 0;               // round(p * 65536), 0 .. 65535
  float scale = 1.0f;                   // 65536 / (65536 - threshold)

  MB_INLINE bool active() const { return threshold != 0; }
  /// Word 3 of the counter.
  MB_INLINE uint32_t step_layer_purpose() const {
    return (data_step ? *data_step << 10 : 0u) | layer_purpose;
  }
};

MB_INLINE bool dropout_keeps(uint32_t output, uint32_t threshold) {
  return (output >> 16) >= threshold;
}

/// Counter of the four hidden columns 4*group .. 4*group+3 of one row.
MB_INLINE PhiloxCounter hidden_counter(const Dropout& d, uint32_t group, uint32_t position,
                                       uint32_t sample) {
  return {{group, position, sample, d.step_layer_purpose()}};
}
/// Counter of the quad of attention elements that contains (query, key) of a head.
MB_INLINE PhiloxCounter attention_counter(const Dropout& d, uint32_t query, uint32_t key,
                                          uint32_t head, uint32_t sample) {
  return {{key / 2, (query & ~8u) | (head << 16), sample, d.step_layer_purpose()}};
}
/// Which of the four outputs of attention_counter belongs to (query, key).
MB_INLINE int attention_output_index(uint32_t query, uint32_t key) {
  return static_cast<int>(((query >> 3) & 1) * 2 + (key & 1));
}

}  // namespace minibert
