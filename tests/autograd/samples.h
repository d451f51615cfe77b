// samples.h: what the tests made from OpInfo share: variables from the inputs of a sample, each op
// with each compute type on a device, what a sample's formula gives, and the checks that hold on
// every device.
#pragma once

#include <vector>

#include "autograd/gradcheck.h"
#include "autograd/op_samples.h"
#include "autograd/tape.h"
#include "tests/tolerance.h"

namespace minibert::testing {

inline std::vector<Variable> constants_of(const OpSample& sample) {
  std::vector<Variable> result;
  for (const Tensor& t : sample.inputs_there())
    result.push_back(t.defined() ? Variable(t) : Variable());
  return result;
}

inline std::vector<Variable> leaves_of(const OpSample& sample) {
  std::vector<Variable> result;
  for (const Tensor& t : sample.inputs_there())
    result.push_back(t.defined() ? Variable::leaf(t) : Variable());
  return result;
}

/// An op in a compute type.
struct OpCase {
  OpInfo op;
  DType dtype;
  Device device = Device::cpu;

  std::vector<OpSample> samples(uint64_t seed) const { return op.samples(seed, dtype, device); }
};

/// These ops, each in all compute types.
inline std::vector<OpCase> in_each_type(const std::vector<OpInfo>& ops,
                                        Device device = Device::cpu) {
  std::vector<OpCase> cases;
  for (const OpInfo& op : ops)
    for (DType dtype : {DType::f32, DType::bf16, DType::f16}) cases.push_back({op, dtype, device});
  return cases;
}

/// "layer_norm_bf16"
inline std::string name_of_case(const ::testing::TestParamInfo<OpCase>& info) {
  return info.param.op.name + "_" + name_of(info.param.dtype);
}

/// What a sample's formula gives, and how far from it a result may be: the table's figure for the
/// op, and twice the error of plain loops in the compute type.
struct Expected {
  std::vector<float> y;
  double tolerance;
};

inline double tolerance_of(ToleranceClass c) {
  switch (c) {
    case ToleranceClass::exact:
      return Tolerance::exact;
    case ToleranceClass::elementwise:
      return Tolerance::elementwise;
    case ToleranceClass::reduction:
      return Tolerance::reduction;
  }
  return 0;
}

/// result_type: of the op's result. A loss is f32 whatever the compute type.
inline Expected expected_of(const OpCase& test, const OpSample& sample, DType result_type) {
  std::vector<Doubles> inputs;
  for (const Tensor& t : sample.inputs) {
    const std::vector<float> values = t.defined() ? floats_of(t) : std::vector<float>();
    inputs.emplace_back(values.begin(), values.end());
  }
  const Doubles exact = value_of(sample.reference, inputs);
  const Doubles plain = value_of(sample.reference, inputs, rounding_to(test.dtype));
  std::vector<float> y(exact.begin(), exact.end()), rounded;
  for (double value : plain) rounded.push_back(static_cast<float>(rounding_to(result_type)(value)));
  const double share = test.dtype == DType::f32 ? 0 : share_of_rounding(y, rounded);
  return {y, tolerance_of(test.op.tolerance) + share};
}

// ---- Checks of a sample ------------------------------------------------------------------------
inline constexpr uint64_t kSeed = 20190412;

inline void expect_forward_as_near_as_plain_loops(const OpCase& test, const OpSample& sample) {
  const Tensor y = copy_on(Device::cpu, sample.forward(constants_of(sample)).value());
  const Expected expected = expected_of(test, sample, y.dtype());
  EXPECT_TRUE(near("y", floats_of(y), expected.y, expected.tolerance));
}

inline void expect_gradients_of_the_formula(const OpCase& test, const OpSample& sample) {
  // All elements in f32; of the other types it is the rounding that is new.
  const int64_t most = test.dtype == DType::f32 ? 1024 : 200;
  for (const GradcheckResult& result : gradcheck(test.op, sample, {kSeed, most}))
    EXPECT_TRUE(result.passed()) << result.str();
}

/// The result of recording and running backward with dy = y, and the gradients of all inputs, on
/// the sample's device.
inline std::vector<Tensor> result_and_gradients(const OpSample& sample) {
  const Variables leaves = leaves_of(sample);
  const Variable y = sample.forward(leaves);
  std::vector<Tensor> all = {y.value().clone()};
  run_tape(y, all[0], {}, true);
  for (const Variable& leaf : leaves) all.push_back(leaf.defined() ? leaf.grad() : Tensor());
  return all;
}

/// A backward that computes one gradient with the help of another's buffer breaks here.
/// bias_tolerance: of the inputs named "bias", where another kernel computes that gradient alone.
inline void expect_each_gradient_alone_as_together(const OpCase& test, const OpSample& sample,
                                                   double bias_tolerance = 0) {
  const std::vector<Tensor> all = result_and_gradients(sample);
  const std::vector<Tensor> inputs = sample.inputs_there();
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    Variables one = constants_of(sample);
    one[i] = Variable::leaf(inputs[i]);
    run_tape(sample.forward(one), all[0], {}, true);
    const std::string& name = test.op.inputs[i].name;
    EXPECT_TRUE(near(name, copy_on(Device::cpu, one[i].grad()), copy_on(Device::cpu, all[i + 1]),
                     name == "bias" ? bias_tolerance : 0));
  }
}

}  // namespace minibert::testing
