// shard.h: one binary file of examples, written once and memory-mapped for reading. Written by
// shard_build.cpp, read through ShardSet (shard_set.h) by loader.cpp and shard_inspect.cpp.
// Easy to break: a checksum covers every byte of the file, and that of a record is verified at each
// read, so a flipped bit is an error at its first use and never a wrong example.
// Test: ctest -R shard.
//
// Format 1, little-endian, all checksums zlib's crc32:
//   header   64 bytes: magic "MBSHARD\n", u32 format version, u32 vocabulary size,
//            u32 bytes per id (2 up to 65,536 entries, else 4),
//            u32 flags (1: masks are inside, 2: pairs with NSP labels), u32 sequence length,
//            u32 zero, u64 examples, u64 offset of the index, u64 bytes of the file,
//            u32 crc of the index, u32 crc of the 60 bytes before it
//   records  u32 crc of the rest of the record, u16 length, u16 first_segment, u16 masked,
//            i8 NSP label, u8 zero, ids [length], labels [masked], u16 positions [masked],
//            zeros to a multiple of 4
//   index    u64 offset of each record, then of the index itself
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "models/text/examples.h"
#include "models/text/write_behind.h"

namespace minibert {

inline constexpr uint32_t kShardFormatVersion = 1;
inline constexpr int32_t kMostIds = 1 << 24;        // of a vocabulary, as config.json's vocab_size
inline constexpr int32_t kLongestSequence = 65535;  // a record has 16 bits for it

/// What is the same for all examples of a shard.
struct ShardTraits {
  int32_t vocab_size = 0;
  int32_t sequence_length = 0;
  bool masked = false;  // static masks; else the loader draws them
  bool nsp = false;

  bool operator==(const ShardTraits&) const = default;
};

/// An example as stored; masked_* are empty for dynamic masking.
struct StoredExample {
  Example example;                        // ids as the model sees them
  std::vector<int32_t> masked_positions;  // [P], ascending
  std::vector<int32_t> masked_labels;     // [P]
};

/// Writes a shard. The file appears complete or not at all: it is written as NAME.tmp, then synced
/// and renamed by finish().
class ShardWriter {
 public:
  /// Errors  DataError if the file can't be created (folder missing, disk full).
  ShardWriter(std::filesystem::path path, const ShardTraits& traits);
  ~ShardWriter();  // removes the unfinished file
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  void add(const StoredExample& example);
  int64_t examples() const { return static_cast<int64_t>(offsets_.size()); }
  int64_t bytes() const { return written_ + static_cast<int64_t>(buffer_.size()); }

  struct Result {
    int64_t bytes = 0;
    uint32_t crc32 = 0;  // of the whole file
  };
  Result finish();

 private:
  void flush();
  void write_all(const void* data, size_t size, int64_t offset);
  [[noreturn]] void fail_write(const char* what) const;

  std::filesystem::path path_, temporary_;
  ShardTraits traits_;
  int file_ = -1;
  WriteBehind behind_{/* forgets= */ true};
  int64_t written_ = 0;
  uint32_t body_crc_ = 0;  // of all bytes after the header so far
  std::vector<uint64_t> offsets_;
  std::vector<uint8_t> buffer_;  // flushed once it is large
};

/// A shard mapped into memory. Safe to read from many threads.
class ShardReader {
 public:
  /// Checks header and index.
  /// Errors  DataError naming the file, what was found, what was expected, and the fix: the file is
  /// missing, truncated, damaged, or has another format.
  explicit ShardReader(const std::filesystem::path& path);
  ~ShardReader();
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const ShardTraits& traits() const { return traits_; }
  int64_t examples() const { return examples_; }
  int64_t bytes() const { return static_cast<int64_t>(size_); }
  /// Number of tokens of an example, without decoding it; checks only where the record lies.
  int32_t length(int64_t example) const;
  /// Number of its stored masks, in the same way.
  int32_t masked(int64_t example) const;
  /// Decodes example `example` (0-based). Errors: DataError if checksum or contents are wrong.
  StoredExample read(int64_t example) const;
  /// Checksum of the header (which holds that of the index) and of the checksums of some records:
  /// tells builds apart without reading the whole file.
  uint32_t identity() const;
  /// Checksum of the whole file, to compare with the manifest.
  uint32_t crc32() const;

 private:
  void read_header();
  std::span<const uint8_t> record(int64_t example) const;
  [[noreturn]] void fail_damaged(const std::string& what) const;

  std::filesystem::path path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  ShardTraits traits_;
  int64_t examples_ = 0;
  uint64_t index_offset_ = 0;
  uint32_t id_bytes_ = 2;
};

}  // namespace minibert
