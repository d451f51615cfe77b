// attention_simd.cpp: one head of one sequence, forward and backward; section 7 of the chapter
// attention (attention.h). Called by attention.cpp, which deals heads to threads.
// Idea: a vector's lanes are queries. A tile of 32 (or 16) queries meets all S keys at once:
//
//        key 0   [ q0 q1 .. q31 ]   scores, transposed: [S, tile]. The softmax is vertical (no sum
//        key 1   [ q0 q1 .. q31 ]   across lanes), and rows i and i + 8 of dropout's quad are lanes
//        ...                        of one tile, keys j and j + 1 two neighbouring rows.
//        key S-1 [ q0 q1 .. q31 ]
//
// All five products are then one micro-kernel: a scalar of `a` times vectors of `b`, with offsets
// that the compiler knows. Keys are padded with zero rows to a multiple of 8, head columns to one
// of 32, queries of the last tile to 16 or 32; padded queries are never summed or stored. Since all
// rows are copied to scratch anyway, that is where they become f32: what moves rows ("Moving rows")
// knows their type E, everything else computes in f32.
// Easy to break: NaN must pass through (Max keeps its second argument's), and no row beyond the
// sequence may be read. Test: ctest -R attention.
#include "core/kernels/attention_simd.h"

#include <math.h>
#include <string.h>

#include "core/kernels/elements_simd.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

using WordTag = hn::ScalableTag<uint32_t>;
using WideTag = hn::ScalableTag<uint64_t>;
using Float = FloatVec;
using Word = hn::Vec<WordTag>;
using Wide = hn::Vec<WideTag>;
constexpr FloatTag kFloat;
constexpr WordTag kWord;
constexpr WideTag kWide;
constexpr int kLanes = HWY_MAX_BYTES / 4;

// Rows of `a` that one call of the micro-kernel takes: as many sums as the registers hold.
constexpr int kRows = HWY_CAP_GE512 ? 8 : 4;
constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

// ---- Where a head lies -------------------------------------------------------------------------

enum Part { kQuery, kKey, kValue };

// Rows of one head in an array of the batch: element (i, d) is number first + i * stride + d.
struct Rows {
  const Operand& array;
  int64_t first, stride;
};

// One head of one sequence, and what forward and backward have in common.
struct Head {
  int64_t S, D;          // tokens of the sequence, columns of the head
  int64_t A, row, head;  // heads of the batch, first row of the sequence, number of the head
  uint32_t sample;       // of the sequence; 0 without dropout
  float scale;
  const Dropout& dropout;

  // From row i of the sequence on: in [N, 3, A, D], in [N, A, D].
  HWY_INLINE Rows part(const Operand& x, Part which, int64_t i) const {
    return {x, (((row + i) * 3 + which) * A + head) * D, 3 * A * D};
  }
  HWY_INLINE Rows rows(const Operand& x, int64_t i) const {
    return {x, ((row + i) * A + head) * D, A * D};
  }
  HWY_INLINE float& lse(const Operand& x, int64_t i) const {
    return x.data<float>()[(row + i) * A + head];
  }
};

template <class Args>
HWY_INLINE Head head_of(const Args& args, int64_t sequence, int64_t head) {
  const int32_t* first = args.cu_seqlens.template data<int32_t>() + sequence;
  const int32_t sample = args.dropout.active() ? args.sample.template data<int32_t>()[sequence] : 0;
  return {first[1] - first[0],           args.qkv.dim(3), args.qkv.dim(2), first[0], head,
          static_cast<uint32_t>(sample), args.scale,      args.dropout};
}

// ---- Products ----------------------------------------------------------------------------------

// c[r][n] (+)= sum over k of a[r * a_row + k * a_step] * b[k * ldb + n], for kRows rows and
// kVectors vectors of columns.
template <int kVectors, bool kAdd>
HWY_INLINE void micro_kernel(const float* a, int64_t a_row, int64_t a_step, const float* b,
                             int64_t ldb, int64_t K, float* c, int64_t ldc) {
  Float sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) {
      sum[r][n] = kAdd ? hn::Load(kFloat, c + r * ldc + n * kLanes) : hn::Zero(kFloat);
    }
  }
  for (int64_t k = 0; k < K; ++k) {
    Float column[kVectors];
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) column[n] = hn::Load(kFloat, b + k * ldb + n * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Float scalar = hn::Set(kFloat, a[r * a_row + k * a_step]);
#pragma GCC unroll 2
      for (int n = 0; n < kVectors; ++n) sum[r][n] = hn::MulAdd(scalar, column[n], sum[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int n = 0; n < kVectors; ++n) hn::Store(sum[r][n], kFloat, c + r * ldc + n * kLanes);
  }
}

// c [M, N] (+)= a b [K, N]; M is a multiple of kRows, N of kVectors vectors.
template <int kVectors, bool kAdd>
HWY_INLINE void multiply(const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t ldb,
                         int64_t M, int64_t N, int64_t K, float* c, int64_t ldc) {
  for (int64_t n = 0; n < N; n += kVectors * kLanes) {
    for (int64_t m = 0; m < M; m += kRows) {
      micro_kernel<kVectors, kAdd>(a + m * a_row, a_row, a_step, b + n, ldb, K, c + m * ldc + n,
                                   ldc);
    }
  }
}

// ---- Exponential -------------------------------------------------------------------------------

// 2^x for x <= 127, relative error 1e-7; below 2^-126 it stays there. x = n + f, |f| <= 1/2: a
// polynomial for 2^f (least maximum of the relative error, degree 6) times 2^n made from bits.
HWY_INLINE Float exp2(Float x) {
  x = hn::Max(hn::Set(kFloat, -126.0f), x);
  const Float magic = hn::Set(kFloat, 12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Float shifted = hn::Add(x, magic);
  const Float f = hn::Sub(x, hn::Sub(shifted, magic));
  Float p = hn::Set(kFloat, 0.000153458124f);
  p = hn::MulAdd(p, f, hn::Set(kFloat, 0.00133999309f));
  p = hn::MulAdd(p, f, hn::Set(kFloat, 0.00961848907f));
  p = hn::MulAdd(p, f, hn::Set(kFloat, 0.0555032864f));
  p = hn::MulAdd(p, f, hn::Set(kFloat, 0.240226462f));
  p = hn::MulAdd(p, f, hn::Set(kFloat, 0.693147182f));
  p = hn::MulAdd(p, f, hn::Set(kFloat, 1.0f));
  const Word exponent = hn::ShiftLeft<23>(hn::BitCast(kWord, shifted));
  return hn::Mul(p, hn::BitCast(kFloat, hn::Add(exponent, hn::Set(kWord, uint32_t{127} << 23))));
}

// ---- Dropout -----------------------------------------------------------------------------------

constexpr uint32_t kMul0 = kPhiloxMul0, kMul1 = kPhiloxMul1, kWeyl0 = kPhiloxWeyl0,
                   kWeyl1 = kPhiloxWeyl1;

HWY_INLINE Wide multiply_low(Wide x, uint32_t factor) {
  return hn::MulEven(hn::BitCast(kWord, x), hn::Set(kWord, factor));
}
HWY_INLINE Wide high(Wide product) {
  return hn::ShiftRight<32>(product);
}
HWY_INLINE uint32_t high(uint64_t product) {
  return static_cast<uint32_t>(product >> 32);
}

// Philox4x32-10 for the quads of kTile queries and two keys. A 64-bit lane holds one quad's word in
// its low half (the high half is never read), so that a multiplication of 32 x 32 -> 64 bits is one
// instruction. Words 0, 2 and 3 of the counter are the same for all lanes, word 1 (the query) is
// the same for all keys: rounds 1 to 3 therefore are mostly scalar or done once a tile.
template <int kTile>
class QuadDropout {
 public:
  static constexpr int kWideLanes = kLanes / 2;
  static constexpr int kQuads = kTile / 2;  // quads of two keys: 8 for 16 queries
  static constexpr int kWides = kQuads / kWideLanes;
  static constexpr int kVectors = kTile / kLanes;

  HWY_INLINE QuadDropout(const Head& h, int64_t first_query)
      : key0_(static_cast<uint32_t>(h.dropout.seed)),
        key1_(static_cast<uint32_t>(h.dropout.seed >> 32)),
        word3_(h.dropout.step_layer_purpose()),
        sample_product_(uint64_t{kMul1} * h.sample),
        largest_dropped_(hn::Set(kWord, (h.dropout.threshold << 16) - 1)) {
    for (int w = 0; w < kWides; ++w) {
      const int quad = w * kWideLanes;  // quads 0..7 are queries 0..7 (and 8..15) of the first 16
      const int64_t query = first_query + quad / 8 * 16 + quad % 8;
      const Wide word1 =
          hn::Or(hn::Add(hn::Iota(kWide, 0), hn::Set(kWide, static_cast<uint64_t>(query))),
                 hn::Set(kWide, static_cast<uint64_t>(h.head) << 16));
      const Wide round1 = hn::Xor(word1, hn::Set(kWide, high(sample_product_) ^ key0_));
      row_product_[w] = multiply_low(round1, kMul0);
    }
  }

  // keep[0], keep[1]: of keys `key` (even) and key + 1; each kVectors masks of kLanes queries.
  HWY_INLINE void draw(int64_t key, hn::Mask<FloatTag> keep[2][kVectors]) const {
    const uint64_t product1 = uint64_t{kMul0} * static_cast<uint32_t>(key / 2);
    const uint32_t word2 = high(product1) ^ word3_ ^ key1_;
    const uint64_t product2 = uint64_t{kMul1} * word2;
    const uint32_t word0 =
        high(product2) ^ static_cast<uint32_t>(sample_product_) ^ (key0_ + kWeyl0);
    const uint64_t product3 = uint64_t{kMul0} * word0;
    const uint32_t key0 = key0_ + 2 * kWeyl0, key1 = key1_ + 2 * kWeyl1;
    const Wide round2 = hn::Set(kWide, static_cast<uint32_t>(product1) ^ (key1_ + kWeyl1));
    const Wide round3_0 = hn::Set(kWide, static_cast<uint32_t>(product2) ^ key0);
    const Wide round3_2 = hn::Set(kWide, high(product3) ^ key1);
    const Wide round3_3 = hn::Set(kWide, static_cast<uint32_t>(product3));
    Wide word[kWides][4];
#pragma GCC unroll 8
    for (int w = 0; w < kWides; ++w) {
      const Wide product = multiply_low(hn::Xor(high(row_product_[w]), round2), kMul1);
      word[w][0] = hn::Xor(high(product), round3_0);
      word[w][1] = product;
      word[w][2] = hn::Xor(row_product_[w], round3_2);
      word[w][3] = round3_3;
      last_rounds(word[w], key0, key1);
    }
    narrow<0>(word, keep[0]);
    narrow<1>(word, keep[1]);
  }

 private:
  // Rounds 4 to 10; key0, key1 are those of round 3.
  static HWY_INLINE void last_rounds(Wide word[4], uint32_t key0, uint32_t key1) {
#pragma GCC unroll 7
    for (int round = 4; round <= 10; ++round) {
      key0 += kWeyl0;
      key1 += kWeyl1;
      const Wide product0 = multiply_low(word[0], kMul0), product1 = multiply_low(word[2], kMul1);
      word[0] = hn::Xor(high(product1), hn::Xor(word[1], hn::Set(kWide, key0)));
      word[2] = hn::Xor(high(product0), hn::Xor(word[3], hn::Set(kWide, key1)));
      word[1] = product1;
      word[3] = product0;
    }
  }

  // Output kKey (queries 0..7 of 16) and kKey + 2 (queries 8..15) as 32-bit lanes in query order.
  template <int kKey>
  HWY_INLINE void narrow(const Wide (&word)[kWides][4], hn::Mask<FloatTag>* keep) const {
    constexpr int kWidesOf8 = kWideLanes >= 8 ? 1 : 8 / kWideLanes;
    constexpr int kVectorsOf8 = kWidesOf8 / 2 > 0 ? kWidesOf8 / 2 : 1;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      Wide low, upper;
      if constexpr (kWidesOf8 == 1) {  // one vector holds all 16 queries
        low = word[v][kKey];
        upper = word[v][kKey + 2];
      } else {
        const int output = kKey + 2 * (v / kVectorsOf8 % 2);
        const int w = v / (2 * kVectorsOf8) * kWidesOf8 + v % kVectorsOf8 * 2;
        low = word[w][output];
        upper = word[w + 1][output];
      }
      const Word bits = hn::ConcatEven(kWord, hn::BitCast(kWord, upper), hn::BitCast(kWord, low));
      keep[v] = hn::RebindMask(kFloat, hn::Gt(bits, largest_dropped_));
    }
  }

  uint32_t key0_, key1_, word3_;
  uint64_t sample_product_;
  Word largest_dropped_;  // (output >> 16) >= threshold is output > this: no shift
  Wide row_product_[kWides];
};

// ---- Moving rows -------------------------------------------------------------------------------

// Heads are short rows far apart, which no hardware prefetcher follows: asks for the row that comes
// kAhead rows later, if there is one.
template <int kWrite, class E>
HWY_INLINE void prefetch_row(const E* first, int64_t stride, int64_t row, int64_t rows, int64_t D) {
  constexpr int64_t kAhead = 8, kCacheLine = 64 / sizeof(E);
  if (row + kAhead >= rows) return;
  const E* ahead = first + (row + kAhead) * stride;
  for (int64_t c = 0; c < D; c += kCacheLine) __builtin_prefetch(ahead + c, kWrite);
}

// Copies `rows` rows of D elements into [padded_rows, padded_size] floats, zeros around them.
template <class E>
void copy_padded(const E* from, int64_t stride, int64_t rows, int64_t D, int64_t padded_rows,
                 int64_t padded_size, float* to) {
  for (int64_t row = 0; row < rows; ++row) {
    prefetch_row<0>(from, stride, row, rows, D);
    float* to_row = to + row * padded_size;
    for_vectors(D, [&](int64_t c, size_t count) HWY_ATTR {
      hn::Store(load_some(kFloat, from + row * stride + c, count), kFloat, to_row + c);
    });
    for (int64_t c = (D + kLanes - 1) / kLanes * kLanes; c < padded_size; c += kLanes)
      hn::Store(hn::Zero(kFloat), kFloat, to_row + c);
  }
  memset(to + rows * padded_size, 0, sizeof(float) * (padded_rows - rows) * padded_size);
}
HWY_INLINE void copy_padded(const Rows& from, int64_t rows, int64_t D, int64_t padded_rows,
                            int64_t padded_size, float* to) {
  with_element(from.array.dtype(), [&](auto e) HWY_ATTR {
    copy_padded(from.array.data<decltype(e)>() + from.first, from.stride, rows, D, padded_rows,
                padded_size, to);
  });
}

// Row i of `to` [rows, D] = factor(i) * row i of `from` [rows, padded_size].
template <class E, class Factor>
HWY_INLINE void store_rows(const float* from, int64_t padded_size, const Factor& factor,
                           int64_t rows, int64_t D, E* to, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row) {
    prefetch_row<1>(to, stride, row, rows, D);
    const Float scale = hn::Set(kFloat, factor(row));
    for_vectors(D, [&](int64_t c, size_t count) HWY_ATTR {
      const Float x = hn::Load(kFloat, from + row * padded_size + c);
      store_some(kFloat, hn::Mul(scale, x), to + row * stride + c, count);
    });
  }
}
template <class Factor>
HWY_INLINE void store_rows(const float* from, int64_t padded_size, const Factor& factor,
                           int64_t rows, int64_t D, const Rows& to) {
  with_element(to.array.dtype(), [&](auto e) HWY_ATTR {
    store_rows(from, padded_size, factor, rows, D, to.array.data<decltype(e)>() + to.first,
               to.stride);
  });
}

// to [columns, kTile] = factor * from [kTile, columns], in blocks of 4 x 4; 4 divides columns.
template <int kTile>
HWY_INLINE void transpose(const float* from, int64_t columns, float factor, float* to) {
  const hn::FixedTag<float, 4> d4;
  const hn::FixedTag<double, 2> d2;
  const auto scale = hn::Set(d4, factor);
  for (int64_t column = 0; column < columns; column += 4) {
    for (int64_t row = 0; row < kTile; row += 4) {
      const float* f = from + row * columns + column;
      const auto r0 = hn::Mul(scale, hn::Load(d4, f)),
                 r1 = hn::Mul(scale, hn::Load(d4, f + columns)),
                 r2 = hn::Mul(scale, hn::Load(d4, f + 2 * columns)),
                 r3 = hn::Mul(scale, hn::Load(d4, f + 3 * columns));
      const auto low01 = hn::BitCast(d2, hn::InterleaveLower(d4, r0, r1)),
                 low23 = hn::BitCast(d2, hn::InterleaveLower(d4, r2, r3)),
                 high01 = hn::BitCast(d2, hn::InterleaveUpper(d4, r0, r1)),
                 high23 = hn::BitCast(d2, hn::InterleaveUpper(d4, r2, r3));
      float* t = to + column * kTile + row;
      hn::Store(hn::BitCast(d4, hn::InterleaveLower(d2, low01, low23)), d4, t);
      hn::Store(hn::BitCast(d4, hn::InterleaveUpper(d2, low01, low23)), d4, t + kTile);
      hn::Store(hn::BitCast(d4, hn::InterleaveLower(d2, high01, high23)), d4, t + 2 * kTile);
      hn::Store(hn::BitCast(d4, hn::InterleaveUpper(d2, high01, high23)), d4, t + 3 * kTile);
    }
  }
}

// x [D] times row i of y.
HWY_INLINE float dot(const float* x, const Rows& y, int64_t i, int64_t D) {
  return with_element(y.array.dtype(), [&](auto e) HWY_ATTR {
    const auto* row = y.array.data<decltype(e)>() + y.first + i * y.stride;
    Float sum = hn::Zero(kFloat);
    int64_t c = 0;
    for (; c + kLanes <= D; c += kLanes)
      sum = hn::MulAdd(hn::LoadU(kFloat, x + c), load(kFloat, row + c), sum);
    float total = hn::GetLane(hn::SumOfLanes(kFloat, sum));
    for (; c < D; ++c) total += x[c] * to_float(row[c]);
    return total;
  });
}

// ---- Forward -----------------------------------------------------------------------------------

// scores [S, kTile] (in units of log 2) become exp(score - row maximum), dropped ones 0; largest
// and sum are [kTile], the sum over kept and dropped alike.
template <int kTile>
HWY_INLINE void softmax_tile(const Head& h, int64_t first_query, float* scores, float* largest,
                             float* sum) {
  constexpr int kVectors = kTile / kLanes;
  const int64_t S = h.S;
  for (int v = 0; v < kVectors; ++v) {
    Float top = hn::Load(kFloat, scores + v * kLanes);
    for (int64_t j = 1; j < S; ++j)
      top = hn::Max(top, hn::Load(kFloat, scores + j * kTile + v * kLanes));
    hn::Store(top, kFloat, largest + v * kLanes);
    hn::Store(hn::Zero(kFloat), kFloat, sum + v * kLanes);
  }
  const bool drops = h.dropout.active();
  const QuadDropout<kTile> draws(h, first_query);
  for (int64_t j = 0; j < S; j += 2) {
    hn::Mask<FloatTag> keep[2][kVectors];
    if (drops) draws.draw(j, keep);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Float top = hn::Load(kFloat, largest + v * kLanes);
      Float total = hn::Load(kFloat, sum + v * kLanes);
#pragma GCC unroll 2
      for (int second = 0; second < 2; ++second) {
        if (j + second == S) break;
        float* score = scores + (j + second) * kTile + v * kLanes;
        const Float e = exp2(hn::Sub(hn::Load(kFloat, score), top));
        total = hn::Add(total, e);
        hn::Store(drops ? hn::IfThenElseZero(keep[second][v], e) : e, kFloat, score);
      }
      hn::Store(total, kFloat, sum + v * kLanes);
    }
  }
}

template <int kTile, int kSize>
HWY_INLINE void forward_tile(const AttentionForward& args, const Head& h, int64_t first_query,
                             const float* k, const float* v, float* scratch) {
  constexpr int kVectors = kTile >= 2 * kLanes ? 2 : 1;
  const int64_t D = kSize ? kSize : attention_padded_size(h.D);
  const int64_t S = h.S, padded_S = attention_padded_length(S);
  const int64_t rows = S - first_query < kTile ? S - first_query : kTile;
  float *query = scratch, *out = scratch, *query_t = query + kTile * D,
        *scores = query_t + kTile * D;
  copy_padded(h.part(args.qkv, kQuery, first_query), rows, h.D, kTile, D, query);
  transpose<kTile>(query, D, h.scale * kLog2E, query_t);
  multiply<kVectors, false>(k, D, 1, query_t, kTile, padded_S, kTile, D, scores, kTile);
  HWY_ALIGN float largest[kTile], sum[kTile];
  softmax_tile<kTile>(h, first_query, scores, largest, sum);
  multiply<2, false>(scores, 1, kTile, v, D, kTile, D, S, out, D);
  const auto factor = [&](int64_t i) { return h.dropout.scale / sum[i]; };
  store_rows(out, D, factor, rows, h.D, h.rows(args.out, first_query));
  for (int64_t i = 0; i < rows; ++i)
    h.lse(args.lse, first_query + i) = largest[i] * kLn2 + logf(sum[i]);
}

template <int kSize>
void forward_head(const AttentionForward& args, const Head& h, float* scratch) {
  const int64_t D = kSize ? kSize : attention_padded_size(h.D);
  const int64_t S = h.S, padded_S = attention_padded_length(S);
  float *k = scratch, *v = k + padded_S * D, *tile = v + padded_S * D;
  copy_padded(h.part(args.qkv, kKey, 0), S, h.D, padded_S, D, k);
  copy_padded(h.part(args.qkv, kValue, 0), S, h.D, padded_S, D, v);
  int64_t i = 0;
  for (; S - i > 16; i += 32) forward_tile<32, kSize>(args, h, i, k, v, tile);
  if (i < S) forward_tile<16, kSize>(args, h, i, k, v, tile);
}

// ---- Backward ----------------------------------------------------------------------------------

// From scores and gradients of the probabilities da [S, kTile]: scores become p m (for dv), da
// becomes ds without the factor `scale`. log2_sum [kTile] is lse in units of log 2.
template <int kTile>
HWY_INLINE void softmax_tile_backward(const Head& h, int64_t first_query, const float* log2_sum,
                                      const float* delta, float* scores, float* da) {
  constexpr int kVectors = kTile / kLanes;
  const int64_t S = h.S;
  const bool drops = h.dropout.active();
  const QuadDropout<kTile> draws(h, first_query);
  const Float factor = hn::Set(kFloat, h.dropout.scale);
  for (int64_t j = 0; j < S; j += 2) {
    hn::Mask<FloatTag> keep[2][kVectors];
    if (drops) draws.draw(j, keep);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 2
      for (int second = 0; second < 2; ++second) {
        if (j + second == S) break;
        const int64_t at = (j + second) * kTile + v * kLanes;
        const Float p =
            exp2(hn::Sub(hn::Load(kFloat, scores + at), hn::Load(kFloat, log2_sum + v * kLanes)));
        Float kept = p, dp = hn::Load(kFloat, da + at);
        if (drops) {
          kept = hn::IfThenElseZero(keep[second][v], hn::Mul(p, factor));
          dp = hn::IfThenElseZero(keep[second][v], hn::Mul(dp, factor));
        }
        hn::Store(kept, kFloat, scores + at);
        hn::Store(hn::Mul(p, hn::Sub(dp, hn::Load(kFloat, delta + v * kLanes))), kFloat, da + at);
      }
    }
  }
}

// What the tiles of a head share: k, v, and the growing dk, dv, all [padded S, padded D].
struct BackwardScratch {
  const float *k, *v;
  float *dk, *dv, *tile;
};

template <int kTile, int kSize>
HWY_INLINE void backward_tile(const AttentionBackward& args, const Head& h, int64_t first_query,
                              const BackwardScratch& s) {
  constexpr int kVectors = kTile >= 2 * kLanes ? 2 : 1;
  const int64_t D = kSize ? kSize : attention_padded_size(h.D);
  const int64_t S = h.S, padded_S = attention_padded_length(S);
  const int64_t rows = S - first_query < kTile ? S - first_query : kTile;
  float *query = s.tile, *dout = query + kTile * D, *query_t = dout + kTile * D,
        *dout_t = query_t + kTile * D, *scores = dout_t + kTile * D,
        *da = scores + padded_S * kTile;
  copy_padded(h.part(args.qkv, kQuery, first_query), rows, h.D, kTile, D, query);
  copy_padded(h.rows(args.dout, first_query), rows, h.D, kTile, D, dout);
  transpose<kTile>(query, D, h.scale * kLog2E, query_t);
  transpose<kTile>(dout, D, 1.0f, dout_t);
  HWY_ALIGN float log2_sum[kTile] = {}, delta[kTile] = {};
  const Rows out = h.rows(args.out, first_query);
  for (int64_t i = 0; i < rows; ++i) {
    log2_sum[i] = h.lse(args.lse, first_query + i) * kLog2E;
    delta[i] = dot(dout + i * D, out, i, h.D);
  }
  multiply<kVectors, false>(s.k, D, 1, query_t, kTile, padded_S, kTile, D, scores, kTile);
  multiply<kVectors, false>(s.v, D, 1, dout_t, kTile, padded_S, kTile, D, da, kTile);
  softmax_tile_backward<kTile>(h, first_query, log2_sum, delta, scores, da);
  multiply<2, true>(scores, kTile, 1, dout, D, padded_S, D, rows, s.dv, D);
  multiply<2, true>(da, kTile, 1, query, D, padded_S, D, rows, s.dk, D);
  float* dq = query_t;
  multiply<2, false>(da, 1, kTile, s.k, D, kTile, D, S, dq, D);
  const auto scale = [&](int64_t) { return h.scale; };
  store_rows(dq, D, scale, rows, h.D, h.part(args.dqkv, kQuery, first_query));
}

template <int kSize>
void backward_head(const AttentionBackward& args, const Head& h, float* start) {
  const int64_t D = kSize ? kSize : attention_padded_size(h.D);
  const int64_t S = h.S, padded_S = attention_padded_length(S), matrix = padded_S * D;
  float *k = start, *v = k + matrix, *dk = v + matrix, *dv = dk + matrix, *tile = dv + matrix;
  copy_padded(h.part(args.qkv, kKey, 0), S, h.D, padded_S, D, k);
  copy_padded(h.part(args.qkv, kValue, 0), S, h.D, padded_S, D, v);
  memset(dk, 0, sizeof(float) * 2 * matrix);
  const BackwardScratch scratch{k, v, dk, dv, tile};
  int64_t i = 0;
  for (; S - i > 16; i += 32) backward_tile<32, kSize>(args, h, i, scratch);
  if (i < S) backward_tile<16, kSize>(args, h, i, scratch);
  const auto scale = [&](int64_t) { return h.scale; };
  const auto one = [](int64_t) { return 1.0f; };
  store_rows(dk, D, scale, S, h.D, h.part(args.dqkv, kKey, 0));
  store_rows(dv, D, one, S, h.D, h.part(args.dqkv, kValue, 0));
}

}  // namespace

// The usual head sizes have their offsets known to the compiler; a padded 96 (say) has not.
void attention_head_forward(const AttentionForward& args, int64_t sequence, int64_t head,
                            float* scratch) {
  const Head h = head_of(args, sequence, head);
  switch (attention_padded_size(h.D)) {
    case 32:
      return forward_head<32>(args, h, scratch);
    case 64:
      return forward_head<64>(args, h, scratch);
    case 128:
      return forward_head<128>(args, h, scratch);
    default:
      return forward_head<0>(args, h, scratch);
  }
}

void attention_head_backward(const AttentionBackward& args, int64_t sequence, int64_t head,
                             float* scratch) {
  const Head h = head_of(args, sequence, head);
  switch (attention_padded_size(h.D)) {
    case 32:
      return backward_head<32>(args, h, scratch);
    case 64:
      return backward_head<64>(args, h, scratch);
    case 128:
      return backward_head<128>(args, h, scratch);
    default:
      return backward_head<0>(args, h, scratch);
  }
}

}  // namespace minibert::MB_SIMD_NAMESPACE
