// checksum.h: zlib's CRC-32, the checksum of every file that minibert writes.
// Called by the writers and readers of shards, manifests, safetensors files and checkpoints. Easy
// to break: a writer sums the bytes in memory, not bytes read back, so that a reader can detect
// what the disk changed. Test: ctest -R text_checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace minibert {

/// CRC-32 of `size` bytes; `start` is the CRC-32 of the bytes before them.
uint32_t crc32_of(const void* data, size_t size, uint32_t start = 0);

/// Eight hexadecimal digits, as in manifests.
std::string to_hex(uint32_t crc32);

/// Length in bytes and CRC-32 of a file.
struct FileSum {
  int64_t bytes = 0;
  uint32_t crc32 = 0;

  void add(const void* data, size_t size);
  bool operator==(const FileSum&) const = default;
};

}  // namespace minibert
