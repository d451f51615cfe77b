// samples.h: variables from the inputs of an OpSample, for the tests made from OpInfo.
#pragma once

#include <vector>

#include "autograd/op_info.h"

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

}  // namespace minibert::testing
