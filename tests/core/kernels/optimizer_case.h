// optimizer_case.h: a step's inputs, and where its results go on the host: what the optimizer's tests
// share, on the CPU and on CUDA.
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "core/kernels/optimizer.h"
#include "tests/core/kernels/kernel_fixture.h"

namespace minibert::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Buffers and tables of a step, and what it writes.
class Step {
 public:
  Step(std::vector<OptimizerTensor> given, int64_t size, DType compute)
      : tensors(std::move(given)), pieces(cut_into_pieces(tensors, size)) {
    masters = random_tensor({size}, 1, 0.05f);
    working = compute == DType::f32 ? masters : masters.to(compute);
    gradients = random_tensor({size}, 2, 0.01f);
    first_moment = random_tensor({size}, 3, 0.01f);
    // Momentum of a tensor of one element must not cancel to nothing, or its norm has no digits.
    for (size_t i = 0; i < first_moment.span<float>().size(); ++i)
      first_moment.span<float>()[i] =
          std::copysign(first_moment.span<float>()[i], gradients.span<float>()[i]);
    second_moment = random_tensor({size}, 4, 0.01f);
    for (float& v : second_moment.span<float>()) v *= v;
    piece_squares.resize(pieces.size(), -1);
    tensor_squares.resize(tensors.size(), -1);
    piece_sums.resize(pieces.size(), {-1, -1, -1});
    norms.resize(tensors.size(), {-1, -1, -1, -1});
    state.gradient_scale = 0.4f, state.learning_rate = 0.01f;
    state.m_correction = 1.3f, state.v_correction = 2.7f, state.step_correction = 0.9f;
    state.applied = 1;
    rule = {.ratio_of = RatioOf::update};  // LAMB's
    for (size_t k = 0; k < tensors.size(); ++k)
      gradient_scales.push_back(0.3f + 0.1f * static_cast<float>(k % 4));
  }
  Step clone() const {
    Step copy = *this;
    for (Tensor* t : {&copy.masters, &copy.gradients, &copy.first_moment, &copy.second_moment})
      *t = t->clone();
    copy.working = working.dtype() == DType::f32 ? copy.masters : working.clone();
    return copy;
  }
  Step with(const UpdateRule& other) const {
    Step copy = clone();
    copy.rule = other;
    return copy;
  }

  OptimizerTables tables() const {
    return {tensors.data(), pieces.data(), static_cast<int32_t>(tensors.size()),
            static_cast<int32_t>(pieces.size())};
  }
  PieceRange all() const { return piece_range(pieces, 0, pieces.size()); }
  OptimizerArgs args() { return args(all()); }
  OptimizerArgs args(PieceRange range) {
    return {masters,
            working,
            gradients,
            first_moment,
            has_second_moment(rule) ? Operand(second_moment) : Operand{},
            tables(),
            range,
            piece_sums.data(),
            norms.data(),
            rule,
            &state,
            rule.direction == Direction::lans ? gradient_scales.data() : nullptr};
  }
  SquareSumsArgs squares(const Tensor& x) {
    return {x, tables(), all(), piece_squares.data(), tensor_squares.data()};
  }
  /// The passes that the rule needs, as optim/optimizer.cpp queues them.
  void run() {
    if (rule.ratio_of == RatioOf::none) return optimizer_step(args());
    const bool of_update = rule.ratio_of == RatioOf::update;
    of_update ? optimizer_moments(args()) : optimizer_norms(args());
    optimizer_ratios(args());
    of_update ? optimizer_apply(args()) : optimizer_step(args());
  }
  const std::vector<double>& square_sums(const Tensor& x) {
    piece_square_sums(squares(x));
    tensor_square_sums(squares(x));
    return tensor_squares;
  }
  /// Whether an element belongs to a tensor.
  std::vector<bool> used() const {
    std::vector<bool> used(static_cast<size_t>(masters.numel()), false);
    for (const OptimizerTensor& t : tensors)
      std::fill(used.begin() + t.offset, used.begin() + t.offset + t.count, true);
    return used;
  }

  std::vector<OptimizerTensor> tensors;
  std::vector<OptimizerPiece> pieces;
  Tensor masters, working, gradients, first_moment, second_moment;
  std::vector<double> piece_squares, tensor_squares;
  std::vector<SquareSums> piece_sums;
  std::vector<TensorNorms> norms;
  std::vector<float> gradient_scales;  // [tensors], of lans alone
  StepState state;
  UpdateRule rule;
};

struct NamedRule {
  const char* name;
  UpdateRule rule;
};
/// Each direction, ratio and option at least once.
inline std::vector<NamedRule> test_rules() {
  const auto momentum = Direction::momentum;
  return {
      {"adamw, Google's", {}},
      {"adamw, PyTorch's", {.eps = 1e-8f, .decay_first = true}},
      {"lamb", {.ratio_of = RatioOf::update}},
      {"lamb, eps inside, bounds",
       {.eps = 1e-8f,
        .eps_inside_root = true,
        .averages = false,
        .ratio_of = RatioOf::update,
        .trust =
            {.weight_norm_min = 0.5, .weight_norm_max = 1, .ratio_min = 0.02, .ratio_max = 0.1}}},
      {"lans", {.direction = Direction::lans, .ratio_of = RatioOf::update}},
      {"lars", {.direction = momentum, .ratio_of = RatioOf::update}},
      {"lars of the gradient",
       {.direction = momentum,
        .averages = false,
        .rate_in_momentum = true,
        .ratio_of = RatioOf::gradient,
        .trust = {.coefficient = 0.001, .eps = 0.01}}},
      {"the same, Nesterov's",
       {.direction = momentum,
        .averages = false,
        .nesterov = true,
        .rate_in_momentum = true,
        .ratio_of = RatioOf::gradient}},
      {"sgd", {.direction = momentum, .averages = false}},
      {"sgd, Nesterov's", {.direction = momentum, .averages = false, .nesterov = true}},
  };
}

/// Tensors of these numbers of elements, `gap` elements of NaN before each and after the last.
inline Step random_step(std::span<const int64_t> counts, int64_t gap, DType compute = DType::f32) {
  std::vector<OptimizerTensor> tensors;
  int64_t size = gap;
  for (const int64_t count : counts) {
    const bool decays = tensors.size() % 3 != 1;
    tensors.push_back(
        {.offset = size, .count = count, .decay = decays ? 0.01f : 0.0f, .adapt = decays});
    size += count + gap;
  }
  Step step(tensors, size, compute);
  const std::vector<bool> used = step.used();
  for (const Tensor* buffer :
       {&step.masters, &step.gradients, &step.first_moment, &step.second_moment}) {
    for (int64_t i = 0; i < size; ++i) {
      if (!used[static_cast<size_t>(i)]) buffer->data<float>()[i] = kNaN;
    }
  }
  if (compute != DType::f32) step.working = step.masters.to(compute);
  return step;
}

inline bool same_norms(const std::vector<TensorNorms>& a, const std::vector<TensorNorms>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.weight == y.weight && x.update == y.update && x.trust_ratio == y.trust_ratio &&
           x.gradient_ratio == y.gradient_ratio;
  });
}

}  // namespace minibert::testing
