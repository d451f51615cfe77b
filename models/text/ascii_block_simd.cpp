// ascii_block_simd.cpp: see ascii_block.h. Compiled once per instruction set (core/simd.h).
#include <hwy/highway.h>
#include <string.h>

#include "models/text/ascii_block.h"

namespace minibert::MB_SIMD_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Bytes = hn::CappedTag<uint8_t, AsciiBlock::kBytes>;
using ByteVec = hn::Vec<Bytes>;

/// Bytes from `first` to `last`.
HWY_INLINE hn::Mask<Bytes> in_range(ByteVec v, uint8_t first, uint8_t last) {
  const Bytes d;
  return hn::Lt(hn::Sub(v, hn::Set(d, first)), hn::Set(d, static_cast<uint8_t>(last - first + 1)));
}

HWY_INLINE uint64_t bits_of(hn::Mask<Bytes> mask) {
  const Bytes d;
  uint64_t bits = 0;
  uint8_t stored[8] = {};  // StoreMaskBits may write 8
  hn::StoreMaskBits(d, mask, stored);
  memcpy(&bits, stored, sizeof(bits));
  return bits;
}

}  // namespace

void read_ascii_block(const char* text, size_t size, bool lowercase, AsciiBlock& block) {
  const Bytes d;
  auto* const lowered = reinterpret_cast<uint8_t*>(block.text);
  const auto* from = reinterpret_cast<const uint8_t*>(text);
  if (size < AsciiBlock::kBytes) {
    memset(lowered, ' ', AsciiBlock::kBytes);
    memcpy(lowered, text, size);
    from = lowered;
  }
  const ByteVec case_bit = hn::Set(d, 0x20);
  block.letters = block.punctuation = block.other = 0;
  for (size_t i = 0; i < AsciiBlock::kBytes; i += hn::Lanes(d)) {
    const ByteVec v = hn::LoadU(d, from + i);
    const auto upper = in_range(v, 'A', 'Z');
    const auto letters = hn::Or(in_range(hn::Or(v, case_bit), 'a', 'z'), in_range(v, '0', '9'));
    const auto printable = in_range(v, '!', '~');
    const auto blanks = hn::Or(hn::Or(hn::Eq(v, hn::Set(d, ' ')), hn::Eq(v, hn::Set(d, '\r'))),
                               in_range(v, '\t', '\n'));
    block.letters |= bits_of(letters) << i;
    block.punctuation |= bits_of(hn::AndNot(letters, printable)) << i;
    block.other |= bits_of(hn::Not(hn::Or(printable, blanks))) << i;
    const ByteVec lower = hn::IfThenElse(upper, hn::Or(v, case_bit), v);
    hn::Store(lowercase ? lower : v, d, lowered + i);
  }
  // Views end before these bytes, but find() of whole words reads them.
  memset(block.text + AsciiBlock::kBytes, 0, AsciiBlock::kReadable);
}

}  // namespace minibert::MB_SIMD_NAMESPACE
