// byte_size.h: a number of bytes as people write it: 64MB, 1.5 GB, 16GiB. Called for every flag
// that takes one, so that a unit means the same everywhere. Test: ctest -R core_byte_size.
#pragma once

#include <cstdint>
#include <string>

namespace minibert {

/// What a number without a unit is.
enum class BareSize { bytes, refused };

/// Bytes of "3.2 GB": a number, then B; KB, MB, GB, TB (powers of 1,000); KiB, MiB, GiB, TiB, or, as in
/// dd, K, M, G, T alone (powers of 1,024). Case does not matter. A fraction of a byte is cut off.
/// Errors: UsageError naming `flag`, for anything else and for negative numbers.
int64_t parse_byte_size(const std::string& text, const std::string& flag, BareSize bare);

}  // namespace minibert
