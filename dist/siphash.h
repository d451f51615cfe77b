// siphash.h: SipHash-2-4, a keyed hash of 64 bits: who knows the key can compute it, others can't.
// By it ranks prove that they know the run's secret without sending it. It keeps strangers and
// mistakes out; it does not encrypt. Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
// Test: ctest -R dist_siphash.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace minibert {

struct SipKey {
  uint64_t low = 0, high = 0;
};

uint64_t siphash(const SipKey& key, std::string_view text);
/// A key made of a secret of any length.
SipKey sip_key(std::string_view secret);
/// 32 digits that nobody can guess, from the system: a secret, a challenge.
std::string random_text();

}  // namespace minibert
