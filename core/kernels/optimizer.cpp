// optimizer.cpp: the plain optimizer steps, and the callers of the fast ones.
#include "core/kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/optimizer_simd.h"
#include "core/parallel.h"

namespace minibert {
namespace {

void check_ranges(const char* op, const std::vector<OptimizerTensor>& tensors, int64_t size) {
  for (const OptimizerTensor& t : tensors) {
    MB_CHECK(t.offset >= 0 && t.count >= 0 && t.count <= size - t.offset,
             "{}: a tensor is [{}, {}), expected a range of the buffers' {} elements", op, t.offset,
             t.offset + t.count, size);
  }
}

void check(const char* op, const OptimizerStepArgs& args) {
  check_rank(op, "weights", args.weights, 1);
  const Shape& size = args.weights.shape();
  check_tensor(op, "gradients", args.gradients, size, "one an element of weights");
  check_tensor(op, "first_moment", args.first_moment, size, "one an element of weights");
  check_tensor(op, "second_moment", args.second_moment, size, "one an element of weights");
  check_ranges(op, args.tensors, args.weights.numel());
}

int64_t elements(const std::vector<OptimizerTensor>& tensors) {
  int64_t n = 0;
  for (const OptimizerTensor& t : tensors) n += t.count;
  return n;
}

// ---- 6. Reference ------------------------------------------------------------------------------

// Updates m and v of element i and returns the Adam direction, all in double.
double adam_direction(const OptimizerStepArgs& args, int64_t i) {
  const AdamCoefficients& a = args.adam;
  float& m = args.first_moment.data<float>()[i];
  float& v = args.second_moment.data<float>()[i];
  const double g = static_cast<double>(args.gradients.data<float>()[i]) * a.gradient_scale;
  m = static_cast<float>(a.beta1 * m + (1 - a.beta1) * g);
  v = static_cast<float>(a.beta2 * v + (1 - a.beta2) * g * g);
  return m * static_cast<double>(a.m_correction) /
         (std::sqrt(v * static_cast<double>(a.v_correction)) + a.eps);
}

float trust_ratio(bool adapt, double weight_norm, double update_norm) {
  if (!adapt || weight_norm == 0 || update_norm == 0) return 1;
  return static_cast<float>(weight_norm / update_norm);
}

}  // namespace

void lamb_step_reference(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms) {
  norms.assign(args.tensors.size(), {});
  float* w = args.weights.data<float>();
  for (size_t k = 0; k < args.tensors.size(); ++k) {
    const OptimizerTensor& t = args.tensors[k];
    std::vector<double> update(static_cast<size_t>(t.count));
    double weight_squares = 0, update_squares = 0;
    for (int64_t i = 0; i < t.count; ++i) {
      const double weight = w[t.offset + i];
      const double u = adam_direction(args, t.offset + i) + t.decay * weight;
      update[static_cast<size_t>(i)] = u;
      weight_squares += weight * weight;
      update_squares += u * u;
    }
    TensorNorms& norm = norms[k];
    norm = {std::sqrt(weight_squares), std::sqrt(update_squares), 1};
    norm.trust_ratio = trust_ratio(t.adapt, norm.weight, norm.update);
    for (int64_t i = 0; i < t.count; ++i) {
      const double step = static_cast<double>(args.learning_rate) * norm.trust_ratio;
      float& weight = w[t.offset + i];
      weight = static_cast<float>(weight - step * update[static_cast<size_t>(i)]);
    }
  }
}

void adamw_step_reference(const OptimizerStepArgs& args, bool decay_first) {
  const double lr = args.learning_rate;
  for (const OptimizerTensor& t : args.tensors) {
    for (int64_t i = t.offset; i < t.offset + t.count; ++i) {
      float& w = args.weights.data<float>()[i];
      const double direction = adam_direction(args, i);
      w = static_cast<float>(decay_first ? w * (1 - lr * t.decay) - lr * direction
                                         : w - lr * (direction + static_cast<double>(t.decay) * w));
    }
  }
}

std::vector<double> tensor_norms_reference(const Tensor& buffer,
                                           const std::vector<OptimizerTensor>& tensors) {
  std::vector<double> norms;
  for (const OptimizerTensor& t : tensors) {
    double squares = 0;
    for (int64_t i = t.offset; i < t.offset + t.count; ++i) {
      const double x = buffer.data<float>()[i];
      squares += x * x;
    }
    norms.push_back(std::sqrt(squares));
  }
  return norms;
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

// A piece of one tensor: what one thread works on at a time.
struct Piece {
  size_t tensor;
  int64_t offset, count;
};

// All tensors cut into chunks of kOptimizerChunk, in order.
std::vector<Piece> cut(const std::vector<OptimizerTensor>& tensors) {
  std::vector<Piece> pieces;
  for (size_t k = 0; k < tensors.size(); ++k) {
    for (int64_t begin = 0; begin < tensors[k].count; begin += kOptimizerChunk) {
      pieces.push_back(
          {k, tensors[k].offset + begin, std::min(kOptimizerChunk, tensors[k].count - begin)});
    }
  }
  return pieces;
}

template <typename Body>
void parallel_pieces(const std::vector<Piece>& pieces, Body&& body) {
  parallel_blocks(static_cast<int64_t>(pieces.size()),
                  [&](int64_t i) { body(static_cast<size_t>(i), pieces[static_cast<size_t>(i)]); });
}

AdamChunk chunk_of(const OptimizerStepArgs& args, const Piece& piece) {
  return {args.weights.data<float>() + piece.offset, args.gradients.data<float>() + piece.offset,
          args.first_moment.data<float>() + piece.offset,
          args.second_moment.data<float>() + piece.offset, piece.count};
}

AdamConstants constants_of(const AdamCoefficients& adam) {
  AdamConstants a;
  a.c = adam.gradient_scale;
  a.b1 = static_cast<float>(adam.beta1);
  a.one_minus_b1 = static_cast<float>(1 - adam.beta1);
  a.b2 = static_cast<float>(adam.beta2);
  a.one_minus_b2 = static_cast<float>(1 - adam.beta2);
  a.cm = adam.m_correction;
  a.cv = adam.v_correction;
  a.eps = adam.eps;
  return a;
}

// Two passes over everything, not tensor by tensor: what a cache-sized group of tensors saves in
// memory traffic was measured to be less than what its two extra barriers cost on a busy machine.
void lamb_cpu(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms) {
  norms.assign(args.tensors.size(), {});
  const std::vector<Piece> pieces = cut(args.tensors);
  std::vector<SquareSums> sums(pieces.size());
  parallel_pieces(pieces, [&](size_t i, const Piece& piece) {
    AdamConstants a = constants_of(args.adam);
    a.decay = args.tensors[piece.tensor].decay;
    sums[i] = MB_SIMD(lamb_moments)(chunk_of(args, piece), a);
  });
  for (size_t i = 0; i < pieces.size(); ++i) {
    norms[pieces[i].tensor].weight += sums[i].weight;
    norms[pieces[i].tensor].update += sums[i].update;
  }
  for (size_t k = 0; k < norms.size(); ++k) {
    norms[k].weight = std::sqrt(norms[k].weight);
    norms[k].update = std::sqrt(norms[k].update);
    norms[k].trust_ratio = trust_ratio(args.tensors[k].adapt, norms[k].weight, norms[k].update);
  }
  parallel_pieces(pieces, [&](size_t, const Piece& piece) {
    AdamConstants a = constants_of(args.adam);
    a.decay = args.tensors[piece.tensor].decay;
    a.step = args.learning_rate * norms[piece.tensor].trust_ratio;
    MB_SIMD(lamb_apply)(chunk_of(args, piece), a);
  });
}

void adamw_cpu(const OptimizerStepArgs& args, bool decay_first) {
  parallel_pieces(cut(args.tensors), [&](size_t, const Piece& piece) {
    const float decay = args.tensors[piece.tensor].decay;
    AdamConstants a = constants_of(args.adam);
    a.step = args.learning_rate;
    if (decay_first) {
      a.keep = static_cast<float>(1 - static_cast<double>(args.learning_rate) * decay);
    } else {
      a.decay = decay;
    }
    MB_SIMD(adamw_chunk)(chunk_of(args, piece), a);
  });
}

std::vector<double> tensor_norms_cpu(const Tensor& buffer,
                                     const std::vector<OptimizerTensor>& tensors) {
  const std::vector<Piece> pieces = cut(tensors);
  std::vector<double> sums(pieces.size()), norms(tensors.size(), 0.0);
  parallel_pieces(pieces, [&](size_t i, const Piece& piece) {
    sums[i] = MB_SIMD(square_sum)(buffer.data<float>() + piece.offset, piece.count);
  });
  for (size_t i = 0; i < pieces.size(); ++i) norms[pieces[i].tensor] += sums[i];
  for (double& norm : norms) norm = std::sqrt(norm);
  return norms;
}

}  // namespace

void lamb_step(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms, Stream stream) {
  check("lamb_step", args);
  const double n = static_cast<double>(elements(args.tensors));
  dispatch("lamb_step", args.weights.device(), 30 * n, 40 * n, [&] { lamb_cpu(args, norms); });
}

void adamw_step(const OptimizerStepArgs& args, bool decay_first, Stream stream) {
  check("adamw_step", args);
  const double n = static_cast<double>(elements(args.tensors));
  dispatch("adamw_step", args.weights.device(), 15 * n, 28 * n,
           [&] { adamw_cpu(args, decay_first); });
}

std::vector<double> tensor_norms(const Tensor& buffer, const std::vector<OptimizerTensor>& tensors,
                                 Stream stream) {
  check_type("tensor_norms", "buffer", buffer);
  check_ranges("tensor_norms", tensors, buffer.numel());
  std::vector<double> norms;
  const double n = static_cast<double>(elements(tensors));
  dispatch("tensor_norms", buffer.device(), 2 * n, 4 * n,
           [&] { norms = tensor_norms_cpu(buffer, tensors); });
  return norms;
}

}  // namespace minibert
