// spill_array.cpp: see spill_array.h.
#include "models/text/spill_array.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"

namespace minibert {

SpillFile::SpillFile(std::filesystem::path path, bool existing) : path_(std::move(path)) {
  std::error_code ignored;  // open() says what is wrong
  std::filesystem::create_directories(path_.parent_path(), ignored);
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | (existing ? 0 : O_TRUNC) | O_CLOEXEC, 0600);
  if (file_ < 0) fail_with("cannot be created");
}

SpillFile::~SpillFile() {
  ::close(file_);
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

void SpillFile::append(const void* data, size_t bytes) {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(file_, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_with("cannot be written");
    at += written;
    bytes -= static_cast<size_t>(written);
    bytes_ += static_cast<size_t>(written);
  }
  behind_.wrote(file_, static_cast<int64_t>(bytes_));
}

bool SpillFile::adopt(size_t bytes) {
  const off_t end = ::lseek(file_, 0, SEEK_END);
  bytes_ = bytes;
  return end >= 0 && static_cast<size_t>(end) == bytes;
}

void SpillFile::sync() const {
  if (::fsync(file_) != 0) fail_with("cannot be written");
}

void SpillFile::read(void* to, size_t bytes, size_t offset) const {
  MB_ASSERT(offset + bytes <= bytes_, "spill_array: {} bytes at {} of {} in {}", bytes, offset,
            bytes_, path_.string());
  auto* at = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t got = ::pread(file_, at, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail_with("cannot be read");
    at += got;
    offset += static_cast<size_t>(got);
    bytes -= static_cast<size_t>(got);
  }
}

void SpillFile::fail_with(const char* what) const {
  fail<DataError>(
      "{}: {} ({}). It holds what --memory leaves no room for, 2 to 4 bytes a token, and "
      "8 more with --shuffle: free space there, or raise --memory.",
      path_.string(), what, std::strerror(errno));
}

}  // namespace minibert
