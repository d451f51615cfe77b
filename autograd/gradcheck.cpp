// gradcheck.cpp: analytic gradients by the tape, numeric ones by central differences (gradcheck.h).
#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "autograd/op_samples.h"
#include "autograd/tape.h"

namespace minibert {
namespace {

using Function = std::function<Variable(const Variables&)>;

// What is checked.
struct Subject {
  const Function& forward;
  const std::vector<Tensor>& inputs;
  const Formula& reference;
  std::vector<Role> roles;
  DType dtype;  // the compute type
  Tensor dy;

  bool has_activations() const {
    return std::find(roles.begin(), roles.end(), Role::activation) != roles.end();
  }
};

Doubles to_doubles(const Tensor& t) {
  if (!t.defined()) return {};
  const Tensor wide = copy_on(Device::cpu, t).to(DType::f32);
  return Doubles(wide.span<float>().begin(), wide.span<float>().end());
}

std::vector<Doubles> to_doubles(const std::vector<Tensor>& tensors) {
  std::vector<Doubles> result;
  for (const Tensor& t : tensors) result.push_back(to_doubles(t));
  return result;
}

Variables constants_of(const std::vector<Tensor>& tensors) {
  Variables result;
  for (const Tensor& t : tensors) result.push_back(t.defined() ? Variable(t) : Variable());
  return result;
}

// ---- Analytic ----------------------------------------------------------------------------------

// Leaves whose gradients start as NaN, so that one that isn't overwritten is seen.
Variables leaves_of(const std::vector<Tensor>& tensors) {
  Variables leaves(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].defined()) continue;
    const Tensor buffer = Tensor::empty(tensors[i].shape());
    std::fill_n(buffer.data<float>(), buffer.numel(), std::numeric_limits<float>::quiet_NaN());
    leaves[i] = Variable::leaf(tensors[i], copy_on(tensors[i].device(), buffer));
  }
  return leaves;
}

// Gradients of the leaves after backward from y. One that nothing depends on is 0.
std::vector<Doubles> run(const Variable& y, const Tensor& dy, const Variables& leaves) {
  Variables defined;
  std::copy_if(leaves.begin(), leaves.end(), std::back_inserter(defined),
               [](const Variable& leaf) { return leaf.defined(); });
  run_tape(y, dy, defined, /* run_hooks= */ true);
  std::vector<Doubles> gradients;
  for (const Variable& leaf : leaves)
    gradients.push_back(leaf.defined() ? to_doubles(leaf.grad()) : Doubles());
  return gradients;
}

// Whether every element of `twice` is twice that of `once`, up to rounding of one addition.
bool is_double(const Doubles& twice, const Doubles& once) {
  double largest = 0, error = 0;
  for (size_t i = 0; i < once.size(); ++i) {
    largest = std::max(largest, std::abs(2 * once[i]));
    const double difference = std::abs(twice[i] - 2 * once[i]);
    error = std::isnan(difference) ? INFINITY : std::max(error, difference);
  }
  return error <= kGradientTolerance * largest;
}

struct Analytic {
  std::vector<Doubles> gradients;
  std::vector<std::string> faults;
};

// All inputs are leaves. A second run must double their gradients; dy must come out as it went in.
Analytic leaf_gradients(const Subject& subject) {
  const Variables leaves = leaves_of(subject.inputs);
  const Tensor& dy = subject.dy;
  const Tensor before = dy.host_copy();
  Analytic result{run(subject.forward(leaves), dy, leaves), {}};
  const std::vector<Doubles> twice = run(subject.forward(leaves), dy, leaves);
  const Tensor after = dy.host_copy();
  const auto bytes = static_cast<size_t>(dy.bytes());
  const bool dy_kept = bytes == 0 || std::memcmp(after.raw(), before.raw(), bytes) == 0;
  for (size_t i = 0; i < leaves.size(); ++i) {
    std::string& fault = result.faults.emplace_back();
    if (!is_double(twice[i], result.gradients[i]))
      fault = "a second backward does not add to the first";
    if (!dy_kept) fault = "backward writes into dy";
  }
  return result;
}

// The result of an op that does nothing, so that the gradient of x has x's type.
Variable interior(const Variable& x) {
  return make_result(
      "interior", x.value(), {x},
      [](const Tensor& dy, std::vector<GradientTarget>& inputs) { inputs[0].pass(dy); });
}

// Activations are results of an op and used twice: the first contribution to their gradient is
// written in the compute type, the second is added. Half of the sum is what one use gives.
std::vector<Doubles> interior_gradients(const Subject& subject) {
  const Variables leaves = leaves_of(subject.inputs);
  Variables inputs = leaves;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].defined() && subject.roles[i] == Role::activation)
      inputs[i] = interior(leaves[i]);
  const Variable twice = add(subject.forward(inputs), subject.forward(inputs));
  std::vector<Doubles> gradients = run(twice, subject.dy, leaves);
  for (Doubles& gradient : gradients)
    for (double& x : gradient) x /= 2;
  return gradients;
}

// ---- Numeric -----------------------------------------------------------------------------------

using Elements = std::vector<std::vector<int64_t>>;  // of each input, those that are probed

Elements chosen_elements(const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  Elements chosen;
  for (const Tensor& t : inputs) {
    const int64_t numel = t.defined() ? t.numel() : 0;
    std::vector<int64_t>& elements = chosen.emplace_back(static_cast<size_t>(numel));
    std::iota(elements.begin(), elements.end(), 0);
    if (numel <= options.most_elements) continue;
    RandomStream random(options.seed, StreamPurpose::user, 0);
    for (int64_t i = 0; i < options.most_elements; ++i)  // each at most once
      std::swap(elements[i], elements[random.integer(i, numel - 1)]);
    elements.resize(static_cast<size_t>(options.most_elements));
  }
  return chosen;
}

// Without a reference: f32 values, so a larger step, beside which rounding of y is small.
std::vector<Doubles> differences_of_forward(const Subject& subject, const Elements& elements) {
  NoGrad no_grad;
  Variables inputs = constants_of(subject.inputs);
  const Doubles dy = to_doubles(subject.dy);
  std::vector<Doubles> gradients = to_doubles(subject.inputs);
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (!inputs[k].defined()) continue;
    const Variable given = inputs[k];
    const Tensor copy = given.value().clone();
    inputs[k] = Variable(copy);
    for (int64_t i : elements[k]) {
      float& place = copy.data<float>()[i];
      const float x = place;
      const auto moved = [&](double to) {
        place = static_cast<float>(to);
        const Doubles y = to_doubles(subject.forward(inputs).value());
        return std::inner_product(y.begin(), y.end(), dy.begin(), 0.0);
      };
      // A step that f32 holds without rounding, near 1.
      gradients[k][static_cast<size_t>(i)] = difference(moved, x, 1.0 / 32);
      place = x;
    }
    inputs[k] = given;
  }
  return gradients;
}

std::vector<Doubles> exact_gradients(const Subject& subject, const Elements& elements) {
  if (subject.reference.empty()) return differences_of_forward(subject, elements);
  return gradients_of(subject.reference, to_doubles(subject.inputs), to_doubles(subject.dy),
                      elements);
}

// What plain loops give that store in the compute type, the gradients of activations too.
std::vector<Doubles> plain_gradients(const Subject& subject, const Elements& elements) {
  const Rounding round = rounding_to(subject.dtype);
  std::vector<Doubles> gradients = gradients_of(subject.reference, to_doubles(subject.inputs),
                                                to_doubles(subject.dy), elements, round);
  for (size_t i = 0; i < gradients.size(); ++i)
    if (subject.roles[i] == Role::activation)
      std::transform(gradients[i].begin(), gradients[i].end(), gradients[i].begin(), round);
  return gradients;
}

// ---- Comparison --------------------------------------------------------------------------------

// Largest error of the elements, relative to the largest of them; kept in `result`, with its place,
// if it exceeds the one there.
void compare(const Doubles& gradient, const Doubles& expected, const std::vector<int64_t>& elements,
             GradcheckResult& result) {
  double largest = 0;
  for (int64_t i : elements) largest = std::max(largest, std::abs(expected[i]));
  // A gradient that is zero by mathematics leaves only rounding: measured against dy's size, 1.
  const double unit = largest > 1e-6 ? largest : 1.0;
  for (int64_t i : elements) {
    const bool finite = std::isfinite(gradient[i]);
    const double error = finite ? std::abs(gradient[i] - expected[i]) / unit : INFINITY;
    if (error <= result.error) continue;
    result.error = error;
    result.worst = i;
    result.gradient = gradient[i];
    result.difference = expected[i];
  }
}

// What storing in this type may cost a number, relative to it. The least that is allowed where
// plain loops round: of a few elements they may get all right by luck.
double one_rounding(DType dtype) {
  return dtype == DType::bf16 ? 0x1p-8 : 0x1p-11;
}

std::vector<GradcheckResult> check(const Subject& subject, const GradcheckOptions& options) {
  const Elements elements = chosen_elements(subject.inputs, options);
  const std::vector<Doubles> expected = exact_gradients(subject, elements);
  const Analytic as_leaves = leaf_gradients(subject);
  std::vector<Doubles> as_results, plain;
  if (subject.has_activations()) as_results = interior_gradients(subject);
  if (subject.dtype != DType::f32) plain = plain_gradients(subject, elements);
  std::vector<GradcheckResult> results;
  for (size_t i = 0; i < subject.inputs.size(); ++i) {
    if (!subject.inputs[i].defined()) continue;
    GradcheckResult& result = results.emplace_back();
    result.input = static_cast<int>(i);
    result.elements = static_cast<int64_t>(elements[i].size());
    result.fault = as_leaves.faults[i];
    result.tolerance = subject.reference.empty() ? kDifferenceTolerance : kGradientTolerance;
    compare(as_leaves.gradients[i], expected[i], elements[i], result);
    if (!as_results.empty()) compare(as_results[i], expected[i], elements[i], result);
    if (plain.empty()) continue;
    GradcheckResult of_plain;
    compare(plain[i], expected[i], elements[i], of_plain);
    if (of_plain.error > 1e-8)  // more than the differences' own error: something was rounded
      result.tolerance += std::max(2 * of_plain.error, one_rounding(subject.dtype));
  }
  return results;
}

bool is_narrow(const Tensor& t) {
  return t.defined() && t.dtype() != DType::f32;
}

}  // namespace

std::string GradcheckResult::str() const {
  return fmt::format(
      "input {}: largest error {:.2g} of {} elements, allowed {:.1g}; element {}: gradient {:.9g}, "
      "difference {:.9g}{}{}",
      input, error, elements, tolerance, worst, gradient, difference, fault.empty() ? "" : "; ",
      fault);
}

std::vector<GradcheckResult> gradcheck(const Function& forward, const std::vector<Tensor>& inputs,
                                       const Formula& reference, const GradcheckOptions& options,
                                       const std::vector<Role>& roles) {
  const auto narrow = std::find_if(inputs.begin(), inputs.end(), is_narrow);
  Subject subject{forward, inputs, reference, roles, DType::f32, {}};
  if (narrow != inputs.end()) subject.dtype = narrow->dtype();
  MB_CHECK(subject.dtype == DType::f32 || !reference.empty(),
           "gradcheck: an input is {} and there is no reference, expected one: values of 16 bits "
           "have too few digits to be differenced. Pass the formula in double",
           name_of(subject.dtype));
  for (size_t i = roles.size(); i < inputs.size(); ++i)
    subject.roles.push_back(is_narrow(inputs[i]) ? Role::activation : Role::parameter);
  const Tensor y = forward(constants_of(inputs)).value();
  MB_CHECK(y.device() == Device::cpu || !reference.empty(),
           "gradcheck: the op runs on device {} and there is no reference, expected one: values "
           "there can't be moved one by one. Pass the formula in double",
           name_of(y.device()));
  const Tensor dy = SampleMaker(~options.seed, y.dtype()).values(y.shape());  // not as the inputs
  subject.dy = copy_on(y.device(), dy);
  return check(subject, options);
}

std::vector<GradcheckResult> gradcheck(const OpInfo& op, const OpSample& sample,
                                       const GradcheckOptions& options) {
  std::vector<Role> roles;
  for (const OpInput& input : op.inputs) roles.push_back(input.role);
  return gradcheck(sample.forward, sample.inputs_there(), sample.reference, options, roles);
}

}  // namespace minibert
