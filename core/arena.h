// arena.h: all parameters of a model in flat buffers with one table of named, aligned slices.
// Created by nn (modules declare their parameters); read by optim (each of its passes is one launch
// over everything) and by models/training (a checkpoint is a few large writes). The f32 masters are
// the weights: they are drawn, loaded, saved and updated. Layers compute with the working copy, in
// the compute type E, which refresh() rounds from the masters; where E is f32 the two are one
// buffer. Easy to break: whoever writes masters calls refresh(); slices that must lie side by side
// (query, key, value) are declared one after the other with `adjacent`; padding rows of the
// vocabulary are zero and outside norms (`used`). Test: ctest -R core_arena.
#pragma once

#include <cstdint>
#include <span>
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
  bool master =
      false;  // layers read the f32 master, whatever the compute type (LayerNorm's vectors:
              // near a weight of 1, bf16's steps are 0.4 to 0.8 %)
  /// Leading elements that count; those after them are padding, always zero.
  int64_t used() const { return shape.numel(); }
};

/// Table of slices. Declare everything, then make buffers of `size()` elements.
class ParameterTable {
 public:
  /// Slices start on multiples of 64 elements (256 bytes in f32) unless `adjacent` to the one
  /// before. Returns the slice's number. Errors: UsageError if the name is taken.
  int add(std::string name, Shape shape, Shape storage, bool adjacent = false, bool master = false);
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

/// Flat buffers of a model: f32 masters, the working copy in E, and f32 gradients. Optimizers own
/// their moments, laid out by the same table.
class Arena {
 public:
  explicit Arena(ParameterTable table, DType compute = DType::f32, Device device = Device::cpu);
  const ParameterTable& table() const { return table_; }
  DType compute() const { return working_.dtype(); }
  Device device() const { return masters_.device(); }

  const Tensor& masters() const { return masters_; }  // [size] f32, zero at first
  const Tensor& working() const { return working_; }  // [size] E; the masters themselves for f32
  /// [size] f32, zero at first; undefined before the first call of with_gradients().
  const Tensor& gradients() const { return gradients_; }
  /// Allocates gradients if they are not there yet. Inference never calls it.
  void with_gradients();
  /// What layers compute with: elements [offset, offset + storage.numel()) of the working copy, or
  /// of the masters where `master`.
  Tensor weight(int64_t offset, Shape storage, bool master) const;
  Tensor weight(int number) const;    // of one slice, shaped as `storage`
  Tensor gradient(int number) const;  // shaped as `storage`

  // ---- The host's door: the only way for values of parameters in and out ------------------------
  /// Copies the used elements of a slice's master. Errors: InternalError unless values.size() is
  /// `used`.
  void read(int number, std::span<float> values) const;
  /// Sets them, and padding to zero. The working copy follows at refresh().
  void write(int number, std::span<const float> values);
  /// Rounds the masters into the working copy, and says that weights changed.
  void refresh();
  /// Says that weights changed: the optimizer, which writes both copies itself.
  void touch() { ++version_; }
  /// Grows with each change of the weights: the key of what is cached about them.
  int64_t version() const { return version_; }

 private:
  ParameterTable table_;
  Tensor masters_, working_, gradients_;
  int64_t version_ = 0;
};

}  // namespace minibert
