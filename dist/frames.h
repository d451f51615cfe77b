// frames.h: messages of the rendezvous: a list of strings as bytes, with a mark and a length in front.
// Easy to break: what comes in may be anything, from anybody, so a reader gives up at the first byte
// that is wrong and at the first length that is too large. Test: ctest -R dist_frames.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace minibert {

using Fields = std::vector<std::string>;

/// The mark, the length of the rest (4 bytes, as all lengths: least significant first), then each
/// field: length, bytes.
std::string to_frame(const Fields& fields);
/// Takes the first frame out of what has come so far; nothing if it is not all there yet. Errors:
/// CommError if it can't become a frame of at most `limit` bytes.
std::optional<Fields> take_frame(std::string& bytes, size_t limit);
/// A whole number in decimal digits, as fields hold it. Errors: CommError.
int number_of(const std::string& field);

}  // namespace minibert
