// spill_array.cpp: see spill_array.h.
#include "models/text/spill_array.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
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
  if (data_ != nullptr && bytes_ > 0) ::munmap(data_, bytes_);
  ::close(file_);
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

void SpillFile::append(const void* data, size_t bytes) {
  MB_ASSERT(data_ == nullptr, "spill_array: {} is mapped", path_.string());
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(file_, at, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail_with("cannot be written");
    at += written;
    bytes -= static_cast<size_t>(written);
    bytes_ += static_cast<size_t>(written);
  }
}

bool SpillFile::adopt(size_t bytes) {
  const off_t end = ::lseek(file_, 0, SEEK_END);
  bytes_ = bytes;
  return end >= 0 && static_cast<size_t>(end) == bytes;
}

void SpillFile::sync() const {
  if (::fsync(file_) != 0) fail_with("cannot be written");
}

void SpillFile::map() {
  if (bytes_ == 0) return;
  data_ = ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file_, 0);
  if (data_ == MAP_FAILED) {
    data_ = nullptr;
    fail_with("cannot be mapped");
  }
}

void SpillFile::forget() const {
  if (data_ != nullptr) ::madvise(data_, bytes_, MADV_DONTNEED);
}

void SpillFile::fail_with(const char* what) const {
  fail<DataError>(
      "{}: {} ({}). It holds what --memory leaves no room for, about 4 bytes a token: free space "
      "there, or raise --memory.",
      path_.string(), what, std::strerror(errno));
}

}  // namespace minibert
