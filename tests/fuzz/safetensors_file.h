// safetensors_file.h: mutations of a safetensors file that keep its header's length right, else
// nothing behind it would be reached. Included by safetensors_fuzz.cpp and checkpoint_fuzz.cpp.
#pragma once

#include "tests/fuzz/fuzz.h"

namespace minibert::fuzz {

inline constexpr size_t kLengthBytes = 8;

inline std::string safetensors_file(const std::string& header, const std::string& data) {
  std::string bytes(kLengthBytes, '\0');
  put<uint64_t>(bytes, 0, header.size());
  return bytes + header + data;
}

/// Mutates the header or, once in four, the data.
inline std::string mutated_safetensors(const std::string& bytes, size_t room, unsigned seed) {
  if (bytes.size() < kLengthBytes) return mutated(bytes, room);
  const size_t size = std::min<uint64_t>(get<uint64_t>(bytes, 0), bytes.size() - kLengthBytes);
  std::string header = bytes.substr(kLengthBytes, size), data = bytes.substr(kLengthBytes + size);
  std::string& one = seed % 4 == 0 ? data : header;
  one = mutated(one, room);
  return safetensors_file(header, data);
}

}  // namespace minibert::fuzz
