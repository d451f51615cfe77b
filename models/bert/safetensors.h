// safetensors.h: the file format of weights: 8 bytes of header length, a JSON header with name,
// dtype, shape and byte range of each tensor, then the bytes. Called by hugging_face.h (models),
// models/training (optimizer state) and tests (goldens). Easy to break: nothing in a header is
// trusted; every range is checked against the file before any of its bytes are read, and data is
// read with pread, so a failing disk or a shrinking file is an error and not a SIGBUS. Source:
// huggingface/safetensors README, "Format". Test: ctest -R safetensors.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "models/text/checksum.h"

namespace minibert {

/// One tensor of a file, as its header describes it.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;            // "F32", "BF16", "F16", "F64", "I64", "I32", "U8", "BOOL", ...
  std::vector<int64_t> shape;   // of any rank
  uint64_t begin = 0, end = 0;  // bytes, from the end of the header
  int64_t numel() const;
  /// "[30522, 768]"
  std::string shape_str() const;
};

/// An open file with a checked header: lengths, JSON, no duplicate key, known dtypes, ranges that
/// cover the data without holes or overlaps and agree with dtype and shape, file length.
/// Errors  DataError naming file, tensor, what was found and what was expected.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return path_; }
  /// In the order of their bytes in the file.
  const std::vector<SafetensorsEntry>& entries() const { return entries_; }
  /// nullptr if the file has no tensor of that name.
  const SafetensorsEntry* find(const std::string& name) const;
  /// The header's "__metadata__"; empty if that is absent or null.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// A copy in the file's own dtype. Errors: DataError if the tensor is missing, has more than 4
  /// dimensions, or its dtype is none of F32, BF16, F16, I32, U8 and BOOL (read as U8).
  Tensor read(const std::string& name, MemoryCategory category = MemoryCategory::data) const;
  /// Reads into f32, converting F16, BF16 and F64. Errors: DataError if the tensor is missing, of
  /// another dtype, or out.size() is not its number of elements.
  void read_f32(const std::string& name, std::span<float> out) const;
  /// Reads I64, I32 or U8 as 64-bit integers. Errors as above.
  std::vector<int64_t> read_integers(const std::string& name) const;

 private:
  const SafetensorsEntry& require(const std::string& name) const;
  void read_bytes(const SafetensorsEntry& entry, uint64_t from, void* out, size_t bytes) const;

  std::string path_;
  std::shared_ptr<int> descriptor_;  // closed with the last copy
  uint64_t data_start_ = 0;          // bytes
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to write, and its name in the file.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// Writes a file that `safetensors` reads, flushes it to the disk (fsync) and closes it. Tensors
/// are stored in the given order, wider elements first, so that each is aligned. __metadata__ is
/// {"format": "pt"} and `metadata`. Not atomic: write to a temporary name and rename. Returns
/// length and checksum of the bytes in memory.
/// Errors  CheckpointError naming the path and the system's reason (disk full, no permission);
///         UsageError for a duplicate name or an undefined tensor.
FileSum write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                          const std::map<std::string, std::string>& metadata = {});

}  // namespace minibert
