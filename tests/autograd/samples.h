// samples.h: what the tests made from OpInfo share: variables from the inputs of a sample, each op
// with each compute type, and what a sample's formula gives.
#pragma once

#include <vector>

#include "autograd/op_info.h"
#include "tests/tolerance.h"

namespace minibert::testing {

inline std::vector<Variable> constants_of(const OpSample& sample) {
  std::vector<Variable> result;
  for (const Tensor& t : sample.inputs) result.push_back(t.defined() ? Variable(t) : Variable());
  return result;
}

inline std::vector<Variable> leaves_of(const OpSample& sample) {
  std::vector<Variable> result;
  for (const Tensor& t : sample.inputs)
    result.push_back(t.defined() ? Variable::leaf(t) : Variable());
  return result;
}

/// An op in a compute type.
struct OpCase {
  OpInfo op;
  DType dtype;
};

/// These ops, each in all compute types.
inline std::vector<OpCase> in_each_type(const std::vector<OpInfo>& ops) {
  std::vector<OpCase> cases;
  for (const OpInfo& op : ops)
    for (DType dtype : {DType::f32, DType::bf16, DType::f16}) cases.push_back({op, dtype});
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

}  // namespace minibert::testing
