// spill_array.h: an array that is appended to, then read, and goes to a file once it is larger than its
// share of memory. Called by examples.h (token ids of a corpus) and example_shuffle.cpp. Easy to break:
// a file's pages count as this process's memory while they are mapped, so readers call forget() now and
// then; the file is removed with the array. Test: ctest -R spill_array.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <vector>

namespace minibert {

/// A file of bytes: appended to, then mapped.
class SpillFile {
 public:
  /// Errors, here and below: DataError with the path (disk full, permissions).
  explicit SpillFile(std::filesystem::path path, bool existing = false);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  void append(const void* data, size_t bytes);
  /// Takes an existing file as it is. False if it has not exactly this many bytes.
  bool adopt(size_t bytes);
  /// Writes it through to the disk.
  void sync() const;
  /// After it nothing may be appended.
  void map();
  const void* data() const { return data_; }
  /// Gives the mapped pages back; the next access reads them again.
  void forget() const;

 private:
  [[noreturn]] void fail_with(const char* what) const;
  std::filesystem::path path_;
  int file_ = -1;
  size_t bytes_ = 0;
  void* data_ = nullptr;
};

template <typename T>
class SpillArray {
 public:
  SpillArray() = default;
  /// memory: bytes that it may hold before it goes to the file `path`.
  SpillArray(std::filesystem::path path, int64_t memory)
      : path_(std::move(path)),
        limit_(static_cast<size_t>(memory) / 2 / sizeof(T) + 1) {}  // it doubles when it grows

  void append(std::span<const T> values) {
    memory_.insert(memory_.end(), values.begin(), values.end());
    size_ += static_cast<int64_t>(values.size());
    if (memory_.size() >= (file_ ? std::min(limit_, kBuffer) : limit_)) spill();
  }
  void push_back(const T& value) { append({&value, 1}); }
  /// Must precede reading where the array may have gone to its file. Nothing may be appended after it.
  void seal() {
    if (!file_ || mapped_) return;
    spill();
    map();
  }
  /// As seal(), but in its file however small it is, and through to the disk: for adopt().
  void store() {
    if (!mapped_) spill();
    file_->sync();
    map();
  }
  /// Takes the file that an array of this path and size left when its process was killed. False if it
  /// is not there or has another size.
  bool adopt(int64_t size) {
    if (!std::filesystem::exists(path_)) return false;
    file_ = std::make_unique<SpillFile>(path_, /* existing= */ true);
    if (!file_->adopt(static_cast<size_t>(size) * sizeof(T))) return false;
    size_ = size;
    map();
    return true;
  }
  int64_t size() const { return size_; }
  const T* data() const { return file_ ? static_cast<const T*>(file_->data()) : memory_.data(); }
  const T& operator[](int64_t at) const { return data()[at]; }
  std::span<const T> values() const { return {data(), static_cast<size_t>(size_)}; }
  bool spilled() const { return file_ != nullptr; }
  void forget() const {
    if (file_) file_->forget();
  }

 private:
  static constexpr size_t kBuffer = (size_t{1} << 20) / sizeof(T);
  void spill() {
    if (!file_) file_ = std::make_unique<SpillFile>(path_);
    file_->append(memory_.data(), memory_.size() * sizeof(T));
    memory_.clear();
    if (memory_.capacity() > 2 * kBuffer) memory_ = {};
  }

  void map() {
    if (!mapped_) file_->map();
    mapped_ = true;
    memory_ = {};
  }

  std::filesystem::path path_;
  bool mapped_ = false;
  size_t limit_ = std::numeric_limits<size_t>::max();
  std::vector<T> memory_;
  std::unique_ptr<SpillFile> file_;
  int64_t size_ = 0;
};

}  // namespace minibert
