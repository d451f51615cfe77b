// shard.cpp: writes one shard, and reads it memory-mapped. The format is in shard.h.
#include "models/text/shard.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "core/error.h"
#include "models/text/checksum.h"

namespace minibert {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

constexpr char kMagic[8] = {'M', 'B', 'S', 'H', 'A', 'R', 'D', '\n'};
constexpr uint32_t kFlagMasked = 1, kFlagNsp = 2;
constexpr size_t kFlushBytes = size_t{1} << 20;
constexpr int64_t kIdentityRecords = 16;  // changing it changes every identity

struct Header {
  char magic[8];
  uint32_t version, vocab_size, id_bytes, flags, sequence_length, zero;
  uint64_t examples, index_offset, file_bytes;
  uint32_t index_crc, header_crc;
};
static_assert(sizeof(Header) == 64);

struct RecordHead {
  uint32_t crc;
  uint16_t length, first_segment, masked;
  int8_t nsp_label;
  uint8_t zero;
};
static_assert(sizeof(RecordHead) == 12);

uint32_t id_bytes_for(int32_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

size_t record_bytes(size_t length, size_t masked, size_t id_bytes) {
  const size_t bytes =
      sizeof(RecordHead) + (length + masked) * id_bytes + masked * sizeof(uint16_t);
  return (bytes + 3) / 4 * 4;
}

void append_ids(std::vector<uint8_t>& out, std::span<const int32_t> ids, size_t bytes) {
  for (const int32_t id : ids) {
    const uint32_t value = static_cast<uint32_t>(id);
    const auto* start = reinterpret_cast<const uint8_t*>(&value);
    out.insert(out.end(), start, start + bytes);
  }
}

void read_ids(const uint8_t*& at, size_t count, size_t bytes, std::vector<int32_t>& ids) {
  ids.resize(count);
  for (int32_t& id : ids) {
    uint32_t value = 0;
    std::memcpy(&value, at, bytes);
    id = static_cast<int32_t>(value);
    at += bytes;
  }
}

/// Whether all numbers are in range: a faulty program may have written a file with good checksums.
bool plausible(const StoredExample& stored, int32_t vocab_size) {
  const auto in_vocabulary = [&](int32_t id) { return id >= 0 && id < vocab_size; };
  const auto length = static_cast<int32_t>(stored.example.ids.size());
  const auto& positions = stored.masked_positions;
  return std::all_of(stored.example.ids.begin(), stored.example.ids.end(), in_vocabulary) &&
         std::all_of(stored.masked_labels.begin(), stored.masked_labels.end(), in_vocabulary) &&
         std::is_sorted(positions.begin(), positions.end()) &&
         (positions.empty() || positions.back() < length) && length >= 2 &&
         stored.example.first_segment <= length && stored.example.nsp_label >= kNspNone &&
         stored.example.nsp_label <= kNspRandom;
}

}  // namespace

// ---- Writing -----------------------------------------------------------------------------------

ShardWriter::ShardWriter(std::filesystem::path path, const ShardTraits& traits)
    : path_(std::move(path)), temporary_(path_.string() + ".tmp"), traits_(traits) {
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file_ < 0) fail_write("cannot be created");
  buffer_.resize(sizeof(Header));  // room for the header, which is known last
}

ShardWriter::~ShardWriter() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void ShardWriter::fail_write(const char* what) const {
  fail<DataError>(
      "{}: {} ({}). Free some space or choose another --output; the folder of that name is "
      "unchanged.",
      temporary_.string(), what, std::strerror(errno));
}

void ShardWriter::write_all(const void* data, size_t size, int64_t offset) {
  const auto* at = static_cast<const uint8_t*>(data);
  while (size > 0) {
    const ssize_t wrote = ::pwrite(file_, at, size, offset);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) fail_write("cannot be written");
    at += wrote;
    offset += wrote;
    size -= static_cast<size_t>(wrote);
  }
}

void ShardWriter::flush() {
  const size_t skip = written_ == 0 ? sizeof(Header) : 0;
  body_crc_ = crc32_of(buffer_.data() + skip, buffer_.size() - skip, body_crc_);
  write_all(buffer_.data(), buffer_.size(), written_);
  written_ += static_cast<int64_t>(buffer_.size());
  behind_.wrote(file_, written_);
  buffer_.clear();
}

void ShardWriter::add(const StoredExample& stored) {
  const Example& example = stored.example;
  const size_t id_bytes = id_bytes_for(traits_.vocab_size);
  const size_t masked = stored.masked_positions.size();
  MB_ASSERT(std::cmp_less_equal(example.ids.size(), kLongestSequence) &&
                masked == stored.masked_labels.size(),
            "shard: example of {} tokens", example.ids.size());
  offsets_.push_back(static_cast<uint64_t>(bytes()));
  const size_t start = buffer_.size();
  const RecordHead head{0,
                        static_cast<uint16_t>(example.ids.size()),
                        static_cast<uint16_t>(example.first_segment),
                        static_cast<uint16_t>(masked),
                        example.nsp_label,
                        0};
  const auto* head_bytes = reinterpret_cast<const uint8_t*>(&head);
  buffer_.insert(buffer_.end(), head_bytes, head_bytes + sizeof head);
  append_ids(buffer_, example.ids, id_bytes);
  append_ids(buffer_, stored.masked_labels, id_bytes);
  append_ids(buffer_, stored.masked_positions, sizeof(uint16_t));
  buffer_.resize(start + record_bytes(example.ids.size(), masked, id_bytes));
  const uint32_t crc =
      crc32_of(buffer_.data() + start + sizeof crc, buffer_.size() - start - sizeof crc);
  std::memcpy(buffer_.data() + start, &crc, sizeof crc);
  if (buffer_.size() >= kFlushBytes) flush();
}

ShardWriter::Result ShardWriter::finish() {
  const uint64_t index_offset = static_cast<uint64_t>(bytes());
  offsets_.push_back(index_offset);
  const size_t index_bytes = offsets_.size() * sizeof(uint64_t);
  const auto* index = reinterpret_cast<const uint8_t*>(offsets_.data());
  buffer_.insert(buffer_.end(), index, index + index_bytes);
  offsets_.pop_back();
  flush();

  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kShardFormatVersion;
  header.vocab_size = static_cast<uint32_t>(traits_.vocab_size);
  header.id_bytes = id_bytes_for(traits_.vocab_size);
  header.flags = (traits_.masked ? kFlagMasked : 0) | (traits_.nsp ? kFlagNsp : 0);
  header.sequence_length = static_cast<uint32_t>(traits_.sequence_length);
  header.examples = static_cast<uint64_t>(examples());
  header.index_offset = index_offset;
  header.file_bytes = static_cast<uint64_t>(written_);
  header.index_crc = crc32_of(index, index_bytes);
  header.header_crc = crc32_of(&header, sizeof header - sizeof header.header_crc);
  write_all(&header, sizeof header, 0);

  const uint32_t header_part = crc32_of(&header, sizeof header);
  const auto body_bytes = static_cast<z_off_t>(written_ - static_cast<int64_t>(sizeof header));
  const Result result{written_,
                      static_cast<uint32_t>(::crc32_combine(header_part, body_crc_, body_bytes))};
  if (::fsync(file_) != 0) fail_write("cannot be synced to disk");
  if (::close(std::exchange(file_, -1)) != 0) fail_write("cannot be closed");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_write("cannot be renamed");
  return result;
}

// ---- Reading -----------------------------------------------------------------------------------

ShardReader::ShardReader(const std::filesystem::path& path) : path_(path) {
  // O_NONBLOCK: a pipe must fail, not wait.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  MB_CHECK_AS(DataError, file >= 0,
              "{}: cannot be opened ({}). Build the data again: minibert data build.",
              path.string(), std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  size_ = known ? static_cast<size_t>(status.st_size) : 0;
  void* mapped = size_ > 0 ? ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
  ::close(file);
  MB_CHECK_AS(DataError, mapped != MAP_FAILED,
              "{}: cannot be mapped into memory, size {} bytes, expected a shard. Build the data "
              "again: minibert data build.",
              path.string(), size_);
  data_ = static_cast<const uint8_t*>(mapped);
  try {
    read_header();
  } catch (...) {
    ::munmap(mapped, size_);
    throw;
  }
}

ShardReader::~ShardReader() {
  ::munmap(const_cast<uint8_t*>(data_), size_);
}

void ShardReader::fail_damaged(const std::string& what) const {
  fail<DataError>(
      "{}: {}. The file is damaged: copy it again, or build it again with minibert data build.",
      path_.string(), what);
}

void ShardReader::read_header() {
  Header header;
  if (size_ < sizeof header)
    fail_damaged(fmt::format("size is {} bytes, expected at least {}", size_, sizeof header));
  std::memcpy(&header, data_, sizeof header);
  MB_CHECK_AS(DataError, std::memcmp(header.magic, kMagic, sizeof kMagic) == 0,
              "{}: does not start with \"MBSHARD\", expected a shard. Give a folder written "
              "by minibert data build.",
              path_.string());
  const uint32_t crc = crc32_of(&header, sizeof header - sizeof header.header_crc);
  MB_CHECK_AS(DataError, header.version == kShardFormatVersion || crc != header.header_crc,
              "{}: format version is {}, expected {}. Build the data again with this version: "
              "minibert data build.",
              path_.string(), header.version, kShardFormatVersion);
  if (crc != header.header_crc) {
    fail_damaged(
        fmt::format("checksum of the header is {:08x}, expected {:08x}", crc, header.header_crc));
  }
  if (header.file_bytes != size_)
    fail_damaged(fmt::format("size is {} bytes, expected {}", size_, header.file_bytes));
  const uint64_t index_bytes = size_ - header.index_offset;
  // By division: a product with a damaged number of examples may overflow.
  if (header.index_offset > size_ || index_bytes < sizeof(uint64_t) ||
      index_bytes % sizeof(uint64_t) != 0 ||
      index_bytes / sizeof(uint64_t) - 1 != header.examples) {
    fail_damaged(fmt::format(
        "index has {} bytes, expected an offset of 8 bytes for each of {} examples, and one more",
        index_bytes, header.examples));
  }
  const uint32_t index_crc = crc32_of(data_ + header.index_offset, index_bytes);
  if (index_crc != header.index_crc) {
    fail_damaged(fmt::format("checksum of the index is {:08x}, expected {:08x}", index_crc,
                             header.index_crc));
  }
  if (std::cmp_greater(header.vocab_size, kMostIds) ||
      std::cmp_greater(header.sequence_length, kLongestSequence) ||
      header.id_bytes != id_bytes_for(static_cast<int32_t>(header.vocab_size))) {
    fail_damaged(fmt::format(
        "{} ids of {} bytes and {} tokens a sequence, expected at most {} ids and {} tokens",
        header.vocab_size, header.id_bytes, header.sequence_length, kMostIds, kLongestSequence));
  }
  traits_ = {static_cast<int32_t>(header.vocab_size), static_cast<int32_t>(header.sequence_length),
             (header.flags & kFlagMasked) != 0, (header.flags & kFlagNsp) != 0};
  examples_ = static_cast<int64_t>(header.examples);
  index_offset_ = header.index_offset;
  id_bytes_ = header.id_bytes;
}

std::span<const uint8_t> ShardReader::record(int64_t example) const {
  MB_ASSERT(example >= 0 && example < examples_, "{}: example {} of {}", path_.string(), example,
            examples_);
  uint64_t borders[2];
  std::memcpy(borders, data_ + index_offset_ + static_cast<size_t>(example) * sizeof(uint64_t),
              sizeof borders);
  if (borders[0] > borders[1] || borders[1] > index_offset_ ||
      borders[1] - borders[0] < sizeof(RecordHead)) {
    fail_damaged(fmt::format("example {} lies at {}..{}, expected inside the file", example,
                             borders[0], borders[1]));
  }
  return {data_ + borders[0], borders[1] - borders[0]};
}

int32_t ShardReader::length(int64_t example) const {
  RecordHead head;
  std::memcpy(&head, record(example).data(), sizeof head);
  return head.length;
}

int32_t ShardReader::masked(int64_t example) const {
  RecordHead head;
  std::memcpy(&head, record(example).data(), sizeof head);
  return head.masked;
}

StoredExample ShardReader::read(int64_t example) const {
  const std::span<const uint8_t> bytes = record(example);
  RecordHead head;
  std::memcpy(&head, bytes.data(), sizeof head);
  const uint32_t crc = crc32_of(bytes.data() + sizeof crc, bytes.size() - sizeof crc);
  if (crc != head.crc) {
    fail_damaged(
        fmt::format("checksum of example {} is {:08x}, expected {:08x}", example, crc, head.crc));
  }
  if (bytes.size() != record_bytes(head.length, head.masked, id_bytes_) ||
      head.length > traits_.sequence_length) {
    fail_damaged(fmt::format("example {} has {} bytes for {} tokens, expected {}", example,
                             bytes.size(), head.length,
                             record_bytes(head.length, head.masked, id_bytes_)));
  }
  StoredExample stored;
  stored.example.first_segment = head.first_segment;
  stored.example.nsp_label = head.nsp_label;
  const uint8_t* at = bytes.data() + sizeof head;
  read_ids(at, head.length, id_bytes_, stored.example.ids);
  read_ids(at, head.masked, id_bytes_, stored.masked_labels);
  read_ids(at, head.masked, sizeof(uint16_t), stored.masked_positions);
  if (!plausible(stored, traits_.vocab_size)) {
    fail_damaged(
        fmt::format("example {} holds ids or positions out of range, expected ids below {}",
                    example, traits_.vocab_size));
  }
  return stored;
}

uint32_t ShardReader::identity() const {
  uint32_t crc = crc32_of(data_, sizeof(Header));
  for (int64_t e = 0; e < examples_; e += std::max<int64_t>(1, examples_ / kIdentityRecords))
    crc = crc32_of(record(e).data(), sizeof(RecordHead::crc), crc);
  return crc;
}

uint32_t ShardReader::crc32() const {
  return crc32_of(data_, size_);
}

}  // namespace minibert
