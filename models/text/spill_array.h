// spill_array.h: an array that is appended to, then read, and goes to a file once it is larger than its
// share of memory. Called by document_set.h (token ids of a corpus) and example_shuffle.cpp. Easy to break:
// the file is read, not mapped: of a page for each random place the kernel would map 16, which count as this
// process's memory until they are given back, and both take longer than a read; the file is removed with the
// array. Test: ctest -R spill_array.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "models/text/write_behind.h"

namespace minibert {

/// A file of bytes: appended to, then read.
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
  /// Copies `bytes` bytes from `offset` on. Safe on many threads.
  void read(void* to, size_t bytes, size_t offset) const;

 private:
  [[noreturn]] void fail_with(const char* what) const;
  std::filesystem::path path_;
  int file_ = -1;
  size_t bytes_ = 0;
  WriteBehind behind_;
};

template <typename T>
class SpillArray {
 public:
  SpillArray() = default;
  /// memory: bytes that it may hold before it goes to the file `path`; one block more at a time.
  /// to_store: store() will follow, so what is in memory is written on the way.
  SpillArray(std::filesystem::path path, int64_t memory, bool to_store = false)
      : path_(std::move(path)),
        most_(static_cast<size_t>(memory) / sizeof(T)),
        block_(std::clamp(most_, kLeastBlock, kBlock)),
        to_store_(to_store) {}

  void append(std::span<const T> values) {
    size_ += static_cast<int64_t>(values.size());
    while (!values.empty()) {
      std::vector<T>& block = block_with_room();
      const size_t count = std::min(values.size(), block_ - block.size());
      block.insert(block.end(), values.begin(), values.begin() + static_cast<ptrdiff_t>(count));
      values = values.subspan(count);
    }
    if (in_memory_ && static_cast<size_t>(size_) > most_) {
      write_blocks();
      in_memory_ = false;
      blocks_.resize(1);
      clear_block();
    }
  }
  void push_back(const T& value) { append({&value, 1}); }
  /// Must precede reading where the array may have gone to its file. Nothing may be appended after it.
  void seal() {
    if (in_memory_) return;
    write_blocks();
    blocks_ = {};
  }
  /// As seal(), and the file is there however small the array is, and on the disk: for adopt().
  void store() {
    in_memory_ ? write_blocks() : seal();
    file_->sync();
  }
  /// Takes the file that an array of this path and size left when its process was killed. False if it
  /// is not there or has another size.
  bool adopt(int64_t size) {
    if (!std::filesystem::exists(path_)) return false;
    file_ = std::make_unique<SpillFile>(path_, /* existing= */ true);
    if (!file_->adopt(static_cast<size_t>(size) * sizeof(T))) return false;
    size_ = size;
    in_memory_ = static_cast<size_t>(size) <= most_;
    if (in_memory_) read_blocks();
    return true;
  }
  int64_t size() const { return size_; }
  /// Copies values at .. at + count - 1. Safe on many threads.
  void read(int64_t at, int64_t count, T* to) const {
    auto begin = static_cast<size_t>(at), left = static_cast<size_t>(count);
    if (!in_memory_) return file_->read(to, left * sizeof(T), begin * sizeof(T));
    while (left > 0) {
      const std::vector<T>& block = blocks_[begin / block_];
      const size_t offset = begin % block_, some = std::min(left, block_ - offset);
      to = std::copy_n(block.data() + offset, some, to);
      begin += some;
      left -= some;
    }
  }
  T operator[](int64_t at) const {
    T value;
    read(at, 1, &value);
    return value;
  }
  bool spilled() const { return !in_memory_; }

 private:
  static constexpr size_t kBlock = (size_t{1} << 20) / sizeof(T);
  static constexpr size_t kLeastBlock = (size_t{4} << 10) / sizeof(T);

  /// In memory the blocks are the array, and all but the last are full; else there is one, for the end.
  std::vector<T>& block_with_room() {
    if (!blocks_.empty() && blocks_.back().size() < block_) return blocks_.back();
    if (!in_memory_ || to_store_) write_blocks();
    if (in_memory_) {
      blocks_.emplace_back().reserve(block_);
    } else {
      clear_block();
    }
    return blocks_.back();
  }
  void write_blocks() {
    if (!file_) file_ = std::make_unique<SpillFile>(path_);
    for (; written_ < blocks_.size(); ++written_)
      file_->append(blocks_[written_].data(), blocks_[written_].size() * sizeof(T));
  }
  void clear_block() {
    blocks_[0].clear();
    written_ = 0;
  }
  void read_blocks() {
    for (size_t at = 0; at < static_cast<size_t>(size_); at += block_) {
      std::vector<T>& block = blocks_.emplace_back();
      block.resize(std::min(block_, static_cast<size_t>(size_) - at));
      file_->read(block.data(), block.size() * sizeof(T), at * sizeof(T));
    }
  }

  std::filesystem::path path_;
  size_t most_ = std::numeric_limits<size_t>::max();  // values in memory
  size_t block_ = kBlock;                             // values a block
  bool to_store_ = false, in_memory_ = true;
  std::vector<std::vector<T>> blocks_;
  size_t written_ = 0;  // blocks that are in the file, too
  std::unique_ptr<SpillFile> file_;
  int64_t size_ = 0;
};

}  // namespace minibert
