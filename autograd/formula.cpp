// formula.cpp: values and gradients of formulas in double (formula.h).
#include "autograd/formula.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace minibert {
namespace {

double to_nearest_bf16(double x) {
  return to_float(to_bf16(static_cast<float>(x)));
}
double to_nearest_f16(double x) {
  return to_float(to_f16(static_cast<float>(x)));
}

void round_all(Doubles& tensor, Rounding round) {
  std::transform(tensor.begin(), tensor.end(), tensor.begin(), round);
}

double dot(const Doubles& y, const Doubles& dy) {
  MB_ASSERT(y.size() == dy.size(), "formula: the result has {} elements, expected {} = those of dy",
            y.size(), dy.size());
  return std::inner_product(y.begin(), y.end(), dy.begin(), 0.0);
}

// The inputs and what each step gives.
std::vector<Doubles> all_tensors(const Formula& formula, std::vector<Doubles> tensors,
                                 Rounding round) {
  for (const Step& step : formula) {
    tensors.push_back(step.forward(tensors));
    if (&step != &formula.back()) round_all(tensors.back(), round);
  }
  return tensors;
}

// Whether the step reads tensor k: NaN in its place would show. Saves most of the differences.
bool reads(const Step& step, std::vector<Doubles> tensors, size_t k) {
  const Doubles y = step.forward(tensors);
  std::fill(tensors[k].begin(), tensors[k].end(), std::numeric_limits<double>::quiet_NaN());
  return step.forward(tensors) != y;
}

// Adds d<step(tensors), dy>/d(tensors[k][i]) to gradients[k][i], for the elements i of each k.
void add_differences(const Step& step, std::vector<Doubles> tensors, const Doubles& dy,
                     const std::vector<std::vector<int64_t>>& elements,
                     std::vector<Doubles>& gradients) {
  for (size_t k = 0; k < tensors.size(); ++k) {
    if (!reads(step, tensors, k)) continue;
    for (int64_t i : elements[k]) {
      double& place = tensors[k][static_cast<size_t>(i)];
      const double x = place;
      const auto moved = [&](double to) {
        place = to;
        return dot(step.forward(tensors), dy);
      };
      gradients[k][static_cast<size_t>(i)] += difference(moved, x, 1e-3);
      place = x;
    }
  }
}

}  // namespace

double exact(double x) {
  return x;
}

Rounding rounding_to(DType dtype) {
  if (dtype == DType::bf16) return to_nearest_bf16;
  return dtype == DType::f16 ? to_nearest_f16 : exact;
}

Doubles value_of(const Formula& formula, std::vector<Doubles> inputs, Rounding round) {
  return all_tensors(formula, std::move(inputs), round).back();
}

std::vector<Doubles> gradients_of(const Formula& formula, const std::vector<Doubles>& inputs,
                                  const Doubles& dy, std::vector<std::vector<int64_t>> elements,
                                  Rounding round) {
  std::vector<Doubles> tensors = all_tensors(formula, inputs, round), gradients;
  for (const Doubles& tensor : tensors) gradients.emplace_back(tensor.size(), 0.0);
  for (size_t k = inputs.size(); k < tensors.size(); ++k) {  // between the steps: all of them
    std::vector<int64_t>& all = elements.emplace_back(tensors[k].size());
    std::iota(all.begin(), all.end(), 0);
  }
  gradients.back() = dy;
  for (size_t step = formula.size(); step-- > 0;) {
    Doubles y = std::move(tensors.back()), dresult = std::move(gradients.back());
    tensors.pop_back();
    gradients.pop_back();
    round_all(y, round);
    if (step + 1 < formula.size()) round_all(dresult, round);
    if (formula[step].from_result && round != exact)
      gradients.back() = formula[step].from_result(tensors.back(), y, dresult);
    else
      add_differences(formula[step], tensors, dresult, elements, gradients);
  }
  return gradients;
}

double difference(const std::function<double(double)>& f, double x, double step) {
  const double near = f(x + step) - f(x - step), far = f(x + 2 * step) - f(x - 2 * step);
  return (8 * near - far) / (12 * step);
}

}  // namespace minibert
