// arena.h: all parameters of a model in flat buffers with one table of named, aligned slices.
// Made by nn (modules declare their parameters), read by optim (two launches over everything),
// models/training (a checkpoint is a few large writes) and later dist (a gradient bucket is a
// slice, a shard is a range of slices). Easy to break: slices that must lie side by side (query,
// key, value) are declared one after the other with `adjacent`; padding rows of the vocabulary are
// zero and outside norms (`used`). Test: ctest -R core_arena.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace minibert {

/// One named parameter: elements [offset, offset + storage.numel()) of every flat buffer.
struct ParameterSlice {
  std::string name;    // Hugging Face name, "bert.encoder.layer.0.attention.self.query.weight"
  Shape shape;         // as stored in files
  Shape storage;       // as stored here: the vocabulary axis is padded to a multiple of 64 rows
  int64_t offset = 0;  // elements
  /// Leading elements that count; those behind are padding, always zero.
  int64_t used() const { return shape.numel(); }
};

/// Table of slices. Declare everything, then make buffers of `size()` elements.
class ParameterTable {
 public:
  /// Slices start on multiples of 64 elements (256 bytes in f32) unless `adjacent` to the one
  /// before. Returns the slice's number. Errors: UsageError if the name is taken.
  int add(std::string name, Shape shape, Shape storage, bool adjacent = false);
  int add(std::string name, Shape shape) { return add(std::move(name), shape, shape); }

  const std::vector<ParameterSlice>& slices() const { return slices_; }
  const ParameterSlice& operator[](int number) const {
    return slices_[static_cast<size_t>(number)];
  }
  int count() const { return static_cast<int>(slices_.size()); }
  /// Number of the slice with this name, or -1.
  int find(const std::string& name) const;
  /// Elements of a flat buffer, gaps and padding included; a multiple of 64.
  int64_t size() const;
  /// Parameters that count: the sum of `used`.
  int64_t parameters() const;

 private:
  std::vector<ParameterSlice> slices_;
};

/// Flat buffers of a model in f32: weights and gradients. Optimizers own their moments, laid out by
/// the same table.
class Arena {
 public:
  explicit Arena(ParameterTable table);
  const ParameterTable& table() const { return table_; }

  const Tensor& weights() const { return weights_; }  // [size] f32, zero at first
  /// [size] f32, zero at first; undefined before the first call of with_gradients().
  const Tensor& gradients() const { return gradients_; }
  /// Allocates gradients if they are not there yet. Inference never calls it.
  void with_gradients();
  Tensor weight(int number) const;    // shaped as `storage`
  Tensor gradient(int number) const;  // shaped as `storage`

 private:
  ParameterTable table_;
  Tensor weights_, gradients_;
};

}  // namespace minibert
