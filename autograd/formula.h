// formula.h: an op's formula in double, cut into steps; its value and its gradients, exact or as
// plain loops give them that store tensors in a 16-bit type. How far those loops are off is the
// measure of an op's own error. OpInfos hold formulas; gradcheck and tests evaluate them. Easy to
// break: a formula must be cut wherever plain code, one loop a simple op, would store a tensor, or
// the op is held to an accuracy that its type does not have. Test: ctest -R autograd_formula.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "core/dtype.h"

namespace minibert {

using Doubles = std::vector<double>;

/// One step: its result from the inputs and, after them, what the steps before it gave.
struct Step {
  using Forward = std::function<Doubles(const std::vector<Doubles>& tensors)>;
  /// The gradient of the last tensor x from x, the result y as it was stored, and y's gradient dy.
  using Backward = std::function<Doubles(const Doubles& x, const Doubles& y, const Doubles& dy)>;

  template <typename F>
  Step(F forward, Backward from_result = {})
      : forward(std::move(forward)), from_result(std::move(from_result)) {}

  Forward forward;
  /// For a step of one tensor whose plain backward reads the result as stored (tanh: 1 - y^2). Plain
  /// loops alone use it; exact gradients are differences of `forward`.
  Backward from_result;
};

/// The last step gives the result. Most formulas are one step.
using Formula = std::vector<Step>;

/// What storing does to a number.
using Rounding = double (*)(double);
double exact(double x);
/// To the nearest of a type. f32: exact, since the table of tolerances allows for f32.
Rounding rounding_to(DType dtype);

/// The result, with each tensor between two steps rounded. The result itself is not.
Doubles value_of(const Formula& formula, std::vector<Doubles> inputs, Rounding round = exact);

/// d<result, dy>/d(input), step by step from the last to the first, each by central differences,
/// good to nine digits. Tensors between two steps and their gradients are rounded; the inputs'
/// gradients are not. Of input k the elements in elements[k] are computed; the others are 0.
std::vector<Doubles> gradients_of(const Formula& formula, const std::vector<Doubles>& inputs,
                                  const Doubles& dy, std::vector<std::vector<int64_t>> elements,
                                  Rounding round = exact);

/// Fourth-order central difference of f at x: the error of the formula is about step^4.
double difference(const std::function<double(double)>& f, double x, double step);

}  // namespace minibert
