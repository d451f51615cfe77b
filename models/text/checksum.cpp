// checksum.cpp: CRC-32 by zlib.
#include "models/text/checksum.h"

#include <fmt/format.h>
#include <zlib.h>

namespace minibert {

uint32_t crc32_of(const void* data, size_t size, uint32_t start) {
  return static_cast<uint32_t>(::crc32_z(start, static_cast<const Bytef*>(data), size));
}

std::string to_hex(uint32_t crc32) {
  return fmt::format("{:08x}", crc32);
}

void FileSum::add(const void* data, size_t size) {
  bytes += static_cast<int64_t>(size);
  crc32 = crc32_of(data, size, crc32);
}

}  // namespace minibert
