// gradcheck.cpp: analytic gradients by the tape, numeric ones by central differences (gradcheck.h).
#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/op_samples.h"
#include "autograd/tape.h"

namespace minibert {
namespace {

using Function = std::function<Variable(const std::vector<Variable>&)>;

// ---- Analytic ----------------------------------------------------------------------------------

struct Analytic {
  std::vector<Tensor> gradients;
  std::vector<std::string> faults;
};

void run_once(const Function& forward, const std::vector<Variable>& leaves, const Tensor& dy) {
  const Variable y = forward(leaves);
  run_tape(y, dy, {}, /* run_hooks= */ true);
}

// Whether every element of `twice` is twice that of `once`, up to rounding of one addition.
bool is_double(const Tensor& twice, const Tensor& once) {
  const auto two = twice.span<float>(), one = once.span<float>();
  double largest = 0, error = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    largest = std::max(largest, std::abs(2.0 * one[i]));
    const double difference = std::abs(two[i] - 2.0 * one[i]);
    error = std::isnan(difference) ? INFINITY : std::max(error, difference);
  }
  return error <= kGradientTolerance * largest;
}

// Gradients of all inputs. Buffers start as NaN, so one that isn't overwritten is seen; a second
// run must double them; and dy must come out as it went in.
Analytic analytic_gradients(const Function& forward, const std::vector<Tensor>& inputs,
                            const Tensor& dy) {
  std::vector<Variable> leaves(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    const Tensor buffer = Tensor::empty(inputs[i].shape());
    std::fill_n(buffer.data<float>(), buffer.numel(), std::numeric_limits<float>::quiet_NaN());
    leaves[i] = Variable::leaf(inputs[i], buffer);
  }
  const Tensor dy_copy = dy.clone();
  Analytic result{std::vector<Tensor>(inputs.size()), std::vector<std::string>(inputs.size())};
  run_once(forward, leaves, dy);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!leaves[i].defined()) continue;
    if (!leaves[i].grad().defined()) {
      leaves[i].state()->gradient.fill_zero();  // nothing depends on it
      leaves[i].state()->fresh = false;
    }
    result.gradients[i] = leaves[i].grad().clone();
  }
  run_once(forward, leaves, dy);
  const bool dy_kept =
      std::equal(dy.span<float>().begin(), dy.span<float>().end(), dy_copy.span<float>().begin());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!leaves[i].defined()) continue;
    if (!is_double(leaves[i].grad(), result.gradients[i]))
      result.faults[i] = "a second backward does not add to the first";
    if (!dy_kept) result.faults[i] = "backward writes into dy";
  }
  return result;
}

// ---- Numeric -----------------------------------------------------------------------------------

std::vector<Doubles> to_doubles(const std::vector<Tensor>& tensors) {
  std::vector<Doubles> result;
  for (const Tensor& t : tensors) {
    if (!t.defined()) {
      result.emplace_back();
      continue;
    }
    const auto values = t.span<float>();
    result.emplace_back(values.begin(), values.end());
  }
  return result;
}

double dot(const Doubles& y, const Tensor& dy) {
  const auto weight = dy.span<float>();
  MB_ASSERT(y.size() == weight.size(), "gradcheck: the reference gives {} elements, expected {}",
            y.size(), weight.size());
  double total = 0;
  for (size_t i = 0; i < y.size(); ++i) total += y[i] * weight[i];
  return total;
}

// <f(x), dy> as a function of one element of one input, the others held.
using Probe = std::function<double(double)>;

// Fourth-order central difference: the error of the formula is about step^4.
double difference(const Probe& f, double x, double step) {
  const double near = f(x + step) - f(x - step), far = f(x + 2 * step) - f(x - 2 * step);
  return (8 * near - far) / (12 * step);
}

double numeric_by_reference(const OpSample& op, std::vector<Doubles>& values, const Tensor& dy,
                            size_t input, int64_t element) {
  double& place = values[input][static_cast<size_t>(element)];
  const double x = place;
  const double slope = difference(
      [&](double moved) {
        place = moved;
        return dot(op.reference(values), dy);
      },
      x, 1e-3);
  place = x;
  return slope;
}

// f32 values: a larger step, so that rounding of y is small beside the difference.
double numeric_by_forward(const OpSample& op, const Tensor& dy, size_t input, int64_t element) {
  NoGrad no_grad;
  std::vector<Variable> inputs;
  for (const Tensor& t : op.inputs) inputs.push_back(t.defined() ? Variable(t) : Variable());
  const Tensor moved = op.inputs[input].clone();
  inputs[input] = Variable(moved);
  float& place = moved.data<float>()[element];
  return difference(
      [&](double x) {
        place = static_cast<float>(x);
        return dot(to_doubles({op.forward(inputs).value()})[0], dy);
      },
      place, 1.0 / 32);  // steps that f32 holds without rounding, near 1
}

std::vector<int64_t> chosen_elements(int64_t numel, const GradcheckOptions& options) {
  std::vector<int64_t> chosen;
  if (numel <= options.most_elements) {
    for (int64_t i = 0; i < numel; ++i) chosen.push_back(i);
    return chosen;
  }
  RandomStream random(options.seed, StreamPurpose::user, 0);
  for (int64_t i = 0; i < options.most_elements; ++i)
    chosen.push_back(random.integer(0, numel - 1));
  return chosen;
}

GradcheckResult compare(const OpSample& op, const Analytic& analytic, const Tensor& dy,
                        size_t input, const GradcheckOptions& options) {
  GradcheckResult result;
  result.input = static_cast<int>(input);
  result.tolerance = op.reference ? kGradientTolerance : kDifferenceTolerance;
  result.fault = analytic.faults[input];
  std::vector<Doubles> values = to_doubles(op.inputs);
  double largest = 0, error = 0;
  for (int64_t i : chosen_elements(op.inputs[input].numel(), options)) {
    const double numeric = op.reference ? numeric_by_reference(op, values, dy, input, i)
                                        : numeric_by_forward(op, dy, input, i);
    const double gradient = analytic.gradients[input].data<float>()[i];
    const double off = std::isfinite(gradient) ? std::abs(gradient - numeric) : INFINITY;
    largest = std::max(largest, std::abs(numeric));
    ++result.elements;
    if (off <= error) continue;
    error = off;
    result.worst = i;
    result.gradient = gradient;
    result.difference = numeric;
  }
  // A gradient that is zero by mathematics leaves only rounding: measured against dy's size, 1.
  result.error = error / (largest > 1e-6 ? largest : 1.0);
  return result;
}

}  // namespace

std::string GradcheckResult::str() const {
  return fmt::format(
      "input {}: largest error {:.2g} of {} elements, allowed {:.1g}; element {}: gradient {:.9g}, "
      "difference {:.9g}{}{}",
      input, error, elements, tolerance, worst, gradient, difference, fault.empty() ? "" : "; ",
      fault);
}

std::vector<GradcheckResult> gradcheck(
    const Function& forward, const std::vector<Tensor>& inputs,
    const std::function<Doubles(const std::vector<Doubles>&)>& reference,
    const GradcheckOptions& options) {
  OpSample op;
  op.inputs = inputs;
  op.forward = forward;
  op.reference = reference;
  std::vector<Variable> constants;
  for (const Tensor& t : inputs) constants.push_back(t.defined() ? Variable(t) : Variable());
  const Shape shape = forward(constants).shape();
  const Tensor dy = SampleMaker(options.seed).values(shape);
  const Analytic analytic = analytic_gradients(forward, inputs, dy);
  std::vector<GradcheckResult> results;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].defined()) results.push_back(compare(op, analytic, dy, i, options));
  return results;
}

}  // namespace minibert
