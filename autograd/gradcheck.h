// gradcheck.h: compares an op's gradients with central differences. Used by tests, by `minibert
// gradcheck`, and by whoever writes an op (docs/new_op.md). With a reference in double the
// differences are good to nine digits, so an error of one part in 100,000 is seen; without one the
// op's own f32 forward is differenced, and only errors above 2e-3 are. In bf16 and f16 the
// differences are those of the reference at the same, already rounded inputs, since values of 16
// bits have too few digits; allowed is, on top, twice the error of plain loops that store in that
// type (autograd/formula.h), and where those round at all, no less than one rounding. Easy to break
// in an op, and seen here: overwriting where it should add, leaving a wanted gradient unwritten,
// writing into dy, rounding a parameter's gradient. Test: ctest -R autograd_gradcheck.
#pragma once

#include <string>
#include <vector>

#include "autograd/op_info.h"

namespace minibert {

/// Largest error allowed, relative to the largest gradient of the tensor.
inline constexpr double kGradientTolerance = 6e-6;    // against differences of a double reference
inline constexpr double kDifferenceTolerance = 2e-3;  // against differences of f32 values

struct GradcheckResult {
  int input = 0;         // which input, 0-based
  int64_t elements = 0;  // how many of its elements were probed
  double error = 0;      // largest |gradient - difference| / largest |difference|
  double tolerance = 0;
  int64_t worst = 0;                    // element with the largest error,
  double gradient = 0, difference = 0;  // and its two values
  std::string fault;  // what else is wrong: "does not add where it should", or empty
  bool passed() const { return fault.empty() && error <= tolerance; }
  /// "input 1: element 7: gradient 2.5, expected 2.0 ..." for people.
  std::string str() const;
};

struct GradcheckOptions {
  uint64_t seed = 1;
  int64_t most_elements = 1024;  // probed of each input; larger inputs: a random choice
};

/// Checks d<forward(inputs), c>/d(input) for a random c, for each defined input. `forward` must be
/// a function of its inputs alone. `reference` (double) may be empty if all inputs are f32. roles:
/// one for each input; without them, inputs of 16 bits are activations and the others parameters. All
/// inputs are checked as leaves, and activations as results of another op too, where their gradient
/// has their type. Errors: whatever forward throws; UsageError if the result does not depend on the
/// inputs, and for inputs of 16 bits without a reference.
std::vector<GradcheckResult> gradcheck(const std::function<Variable(const Variables&)>& forward,
                                       const std::vector<Tensor>& inputs,
                                       const Formula& reference = {},
                                       const GradcheckOptions& options = {},
                                       const std::vector<Role>& roles = {});

/// The same for a sample of this op.
std::vector<GradcheckResult> gradcheck(const OpInfo& op, const OpSample& sample,
                                       const GradcheckOptions& options = {});

}  // namespace minibert
