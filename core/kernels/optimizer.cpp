// optimizer.cpp: the plain optimizer steps, and the callers of the fast ones.
#include "core/kernels/optimizer.h"

#include <cmath>

#include "core/dispatch.h"
#include "core/parallel.h"

namespace minibert {
namespace {

void check_buffer(const char* op, const char* what, const Tensor& buffer, int64_t size) {
  MB_CHECK(buffer.defined() && buffer.dtype() == DType::f32 && buffer.numel() == size,
           "{}: {} is {} {}, expected f32 [{}] as weights", op, what,
           buffer.defined() ? name_of(buffer.dtype()) : "undefined", buffer.shape().str(), size);
}

void check_ranges(const char* op, const std::vector<OptimizerTensor>& tensors, int64_t size) {
  for (const OptimizerTensor& t : tensors) {
    MB_CHECK(t.offset >= 0 && t.count >= 0 && t.count <= size - t.offset,
             "{}: a tensor is [{}, {}), expected a range of the buffers' {} elements", op, t.offset,
             t.offset + t.count, size);
  }
}

void check(const char* op, const OptimizerStepArgs& args) {
  const int64_t size = args.weights.defined() ? args.weights.numel() : 0;
  check_buffer(op, "weights", args.weights, size);
  check_buffer(op, "gradients", args.gradients, size);
  check_buffer(op, "first_moment", args.first_moment, size);
  check_buffer(op, "second_moment", args.second_moment, size);
  check_ranges(op, args.tensors, size);
}

int64_t elements(const std::vector<OptimizerTensor>& tensors) {
  int64_t n = 0;
  for (const OptimizerTensor& t : tensors) n += t.count;
  return n;
}

// ---- 6. Reference
// ---------------------------------------------------------------------------------------------------

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

// ---- 7. Fast CPU
// ---------------------------------------------------------------------------------------------------

void lamb_step(const OptimizerStepArgs& args, std::vector<TensorNorms>& norms, Stream stream) {
  check("lamb_step", args);
  const double n = static_cast<double>(elements(args.tensors));
  dispatch("lamb_step", args.weights.device(), 30 * n, 40 * n,
           [&] { lamb_step_reference(args, norms); });
}

void adamw_step(const OptimizerStepArgs& args, bool decay_first, Stream stream) {
  check("adamw_step", args);
  const double n = static_cast<double>(elements(args.tensors));
  dispatch("adamw_step", args.weights.device(), 15 * n, 28 * n,
           [&] { adamw_step_reference(args, decay_first); });
}

std::vector<double> tensor_norms(const Tensor& buffer, const std::vector<OptimizerTensor>& tensors,
                                 Stream stream) {
  const int64_t size = buffer.defined() ? buffer.numel() : 0;
  check_buffer("tensor_norms", "buffer", buffer, size);
  check_ranges("tensor_norms", tensors, size);
  std::vector<double> norms;
  const double n = static_cast<double>(elements(tensors));
  dispatch("tensor_norms", buffer.device(), 2 * n, 4 * n,
           [&] { norms = tensor_norms_reference(buffer, tensors); });
  return norms;
}

}  // namespace minibert
