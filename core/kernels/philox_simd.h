// philox_simd.h: Philox4x32-10 on vectors, for dropout on hidden rows.
// Called by elementwise_simd.cpp, layer_norm_simd.cpp and gemm_simd.cpp. (attention_simd.cpp, whose
// draws serve quads of queries and keys, has a form of its own, QuadDropout.) Gives exactly the words
// of core/philox.h: a 64-bit lane holds one counter's word in its low half, since that is what a
// 32 x 32 -> 64 bit multiplication reads; what the high half holds does not matter. Easy to break:
// the order of the lanes, so that the words come out beside the columns that they serve. Everything
// is inlined into minibert::MB_SIMD_NAMESPACE.
// Test: ctest -R kernels_elementwise (all levels against philox.h).
#pragma once

#include <hwy/highway.h>
#include <stddef.h>
#include <stdint.h>

#include "core/kernels/elements_simd.h"
#include "core/operand.h"
#include "core/philox.h"

namespace minibert::MB_SIMD_NAMESPACE {

using WordTag = hn::ScalableTag<uint32_t>;
using WordVec = hn::Vec<WordTag>;

/// Two vectors of random words.
struct WordPair {
  WordVec first, second;
};

/// The ten round keys of one seed. Make one outside the loop.
struct PhiloxKeys {
  uint64_t low[kPhiloxRounds], high[kPhiloxRounds];

  explicit PhiloxKeys(uint64_t seed) {
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < kPhiloxRounds; ++round) {
      low[round] = key0;
      high[round] = key1;
      key0 += kPhiloxWeyl0;
      key1 += kPhiloxWeyl1;
    }
  }
};

/// Philox of the counters {group, word1, word2, word3}, a 64-bit lane each. The result's 64-bit
/// lanes hold, low half first, outputs (0, 1) in `first` and (2, 3) in `second`.
HWY_INLINE WordPair philox_lanes(WordVec group, uint32_t word1, uint32_t word2, uint32_t word3,
                                 const PhiloxKeys& keys) {
  const WordTag d;
  const hn::Repartition<uint64_t, WordTag> dw;
  const auto low_half = hn::Set(dw, uint64_t{0xFFFFFFFFu});
  const auto mul0 = hn::Set(d, kPhiloxMul0), mul1 = hn::Set(d, kPhiloxMul1);
  auto c0 = hn::BitCast(dw, group), c1 = hn::Set(dw, uint64_t{word1});
  auto c2 = hn::Set(dw, uint64_t{word2}), c3 = hn::Set(dw, uint64_t{word3});
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const auto product0 = hn::MulEven(hn::BitCast(d, c0), mul0);
    const auto product1 = hn::MulEven(hn::BitCast(d, c2), mul1);
    c0 = hn::Xor3(hn::ShiftRight<32>(product1), c1, hn::Set(dw, keys.low[round]));
    c1 = product1;
    c2 = hn::Xor3(hn::ShiftRight<32>(product0), c3, hn::Set(dw, keys.high[round]));
    c3 = product0;
  }
  const auto first = hn::Or(hn::And(c0, low_half), hn::ShiftLeft<32>(c1));
  const auto second = hn::Or(hn::And(c2, low_half), hn::ShiftLeft<32>(c3));
  return {hn::BitCast(d, first), hn::BitCast(d, second)};
}

/// Random words of 2 * Lanes(WordTag) hidden columns of one row, in order, the first of them
/// 4 * first_group: `first` serves the first Lanes columns, `second` the next.
HWY_INLINE WordPair philox_columns(uint32_t first_group, uint32_t position, uint32_t sample,
                                   uint32_t step_layer_purpose, const PhiloxKeys& keys) {
  const WordTag d;
  const hn::Repartition<uint64_t, WordTag> dw;
  // 64-bit lane 2 b holds group b and lane 2 b + 1 group b + blocks, so that interleaving pairs
  // inside 128-bit blocks leaves the groups in order.
  HWY_ALIGN uint64_t offsets[HWY_MAX_BYTES / 8];
  const size_t lanes = hn::Lanes(dw), blocks = lanes / 2;
  for (size_t i = 0; i < lanes; ++i) offsets[i] = i / 2 + (i % 2) * blocks;
  const auto group = hn::Add(hn::Load(dw, offsets), hn::Set(dw, uint64_t{first_group}));
  const WordPair pairs =
      philox_lanes(hn::BitCast(d, group), position, sample, step_layer_purpose, keys);
  const auto first = hn::BitCast(dw, pairs.first), second = hn::BitCast(dw, pairs.second);
  return {hn::BitCast(d, hn::InterleaveLower(dw, first, second)),
          hn::BitCast(d, hn::InterleaveUpper(dw, first, second))};
}

/// Which elements are kept: (word >> 16) >= threshold. Vector of `scale` where kept, else 0.
HWY_INLINE FloatVec dropout_factor(WordVec words, uint32_t threshold, float scale) {
  const FloatTag d;
  const hn::RebindToSigned<WordTag> di;
  const auto dropped =
      hn::Lt(hn::BitCast(di, hn::ShiftRight<16>(words)), hn::Set(di, static_cast<int>(threshold)));
  return hn::IfThenZeroElse(hn::RebindMask(d, dropped), hn::Set(d, scale));
}

/// Dropout on hidden rows, of one call. Make one outside the loop over rows.
struct RowDropout {
  const Dropout& site;
  const int32_t *position, *row_sample;  // [T]; may be null if nothing is drawn
  PhiloxKeys keys;
  uint32_t word3;

  HWY_INLINE RowDropout(const Dropout& site, const Operand& position, const Operand& row_sample)
      : site(site),
        position(position.data_or_null<int32_t>()),
        row_sample(row_sample.data_or_null<int32_t>()),
        keys(site.seed),
        word3(site.step_layer_purpose()) {}

  /// Factors, 0 or the scale, of 2 * Lanes columns of row t from `column` on, a multiple of 4.
  HWY_INLINE void draw(int64_t t, int64_t column, FloatVec (&factor)[2]) const {
    const WordPair words =
        philox_columns(static_cast<uint32_t>(column / 4), static_cast<uint32_t>(position[t]),
                       static_cast<uint32_t>(row_sample[t]), word3, keys);
    factor[0] = dropout_factor(words.first, site.threshold, site.scale);
    factor[1] = dropout_factor(words.second, site.threshold, site.scale);
  }
};

/// v * factor, and 0 where the factor is 0, even if v is infinite or NaN there.
HWY_INLINE FloatVec apply_dropout(FloatVec v, FloatVec factor) {
  return hn::IfThenZeroElse(hn::Eq(factor, hn::Zero(FloatTag())), hn::Mul(v, factor));
}

}  // namespace minibert::MB_SIMD_NAMESPACE
