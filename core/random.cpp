// random.cpp: draws from Philox streams; the generator is in philox.h, since kernels inline it.
#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace minibert {

Dropout make_dropout(float p, uint64_t seed, const uint32_t* data_step, int layer,
                     DropoutPurpose purpose) {
  MB_CHECK(p >= 0.0f && p < 1.0f, "dropout: probability is {}, expected 0 <= p < 1", p);
  MB_CHECK(layer >= 0 && layer <= kMaxDropoutLayer,
           "dropout: layer is {}, expected 0 to {} (6 bits of the random counter)", layer,
           kMaxDropoutLayer);
  Dropout d;
  d.seed = seed;
  d.data_step = data_step;
  d.layer_purpose = (static_cast<uint32_t>(layer) << 4) | static_cast<uint32_t>(purpose);
  d.threshold = std::min<uint32_t>(65535u, static_cast<uint32_t>(std::lround(p * 65536.0)));
  d.scale = static_cast<float>(65536.0 / (65536.0 - d.threshold));
  return d;
}

uint32_t RandomStream::next_u32() {
  if (used_ == 4) {
    output_ = philox4x32(counter_, seed_);
    ++counter_[0];
    used_ = 0;
  }
  return output_[used_++];
}

uint32_t RandomStream::below(uint32_t bound) {
  MB_ASSERT(bound >= 1, "random: bound is 0");
  // 2^32 mod bound: values below it would be drawn once too often.
  const uint32_t unfair = (0u - bound) % bound;
  for (;;) {
    const uint64_t product = uint64_t{next_u32()} * bound;
    if (static_cast<uint32_t>(product) >= unfair) return static_cast<uint32_t>(product >> 32);
  }
}

int64_t RandomStream::integer(int64_t low, int64_t high) {
  MB_ASSERT(low <= high && high - low < 0xFFFFFFFFll, "random: range [{}, {}]", low, high);
  return low + below(static_cast<uint32_t>(high - low + 1));
}

float RandomStream::uniform() {
  return static_cast<float>(next_u32() >> 8) * 0x1p-24f;
}

double RandomStream::uniform_double() {
  const uint64_t high = next_u32() >> 5, low = next_u32() >> 6;
  return static_cast<double>((high << 26) | low) * 0x1p-53;
}

double RandomStream::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform_double()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform_double());
}

}  // namespace minibert
