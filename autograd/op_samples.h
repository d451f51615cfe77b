// op_samples.h: what OpInfos share: random inputs from a seed, and the costs of common parts.
// Internal to autograd. Values are uniform with the given standard deviation: cheap to draw at
// BERT-base sizes.
#pragma once

#include <vector>

#include "autograd/op_info.h"
#include "autograd/ops.h"
#include "autograd/reference.h"

namespace minibert {

/// Draws the tensors of one sample, one after the other.
class SampleMaker {
 public:
  explicit SampleMaker(uint64_t seed) : seed_(seed) {}
  /// Uniform values around `mean`.
  Tensor values(Shape shape, double deviation = 1, double mean = 0);
  /// count indices in 0 .. bound-1, i32.
  Tensor indices(int64_t count, int64_t bound);
  /// Positions and sample numbers of T rows.
  RowPlaces places(int64_t T);
  /// Sequences of these lengths, with random sample numbers.
  Sequences sequences(const std::vector<int64_t>& lengths);
  /// A dropout site outside BERT.
  Dropout dropout(float p);

 private:
  RandomStream next() { return {seed_, StreamPurpose::user, ++count_}; }
  uint64_t seed_, count_ = 0;
};

/// BERT-base at 8 sequences of 128 tokens; P = 15 % of the rows, V padded to a multiple of 64.
struct BertBase {
  static constexpr int64_t B = 8, S = 128, T = B * S, H = 768, F = 3072, A = 12, P = 154, V = 30528,
                           classes = 30522;
};

/// Each tensor of `elements` floats is moved once.
inline Cost moved(double elements, double flops = 0) {
  return {flops, 4 * elements};
}
/// Product of [M, K] and [K, N].
inline Cost product(double M, double N, double K) {
  return {2 * M * N * K, 4 * (M * K + K * N + M * N)};
}
/// dx, dweight and dbias of a linear layer.
inline Cost linear_backward_cost(double T, double N, double K) {
  return product(T, K, N) + product(N, K, T) + moved(T * N, T * N);
}

}  // namespace minibert
