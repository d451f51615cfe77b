// op_info.h: one description an op. From it are made: the test against the reference, the gradient
// check, the test of what is saved (tests/autograd/op_info_test.cpp), `minibert gradcheck` and
// `minibert bench`. Adding an op: its sample and its entry in op_infos_simple.cpp or
// op_infos_layers.cpp. Easy to break: samples hold the sizes 0, 1 and odd ones.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/formula.h"
#include "autograd/variable.h"

namespace minibert {

using Variables = std::vector<Variable>;

/// How exact a forward pass is. Tests map it to tests/tolerance.h.
enum class ToleranceClass { exact, elementwise, reduction };

/// Inputs of one size and what to do with them. The callables hold everything that isn't
/// differentiable (indices, labels, dropout). Only `forward` works on the sample's device.
struct OpSample {
  std::string sizes;           // "T=37 H=24"
  std::vector<Tensor> inputs;  // on the host, one for each of OpInfo::inputs; undefined: left out
  std::function<Variable(const Variables&)> forward;
  Formula reference;
  /// The same from simple ops; empty for ops that are simple.
  std::function<Variable(const Variables&)> composed = {};
  int64_t saved_bytes = 0;  // held for backward, beside inputs and result
  Device device = Device::cpu;

  /// The inputs where `forward` wants them.
  std::vector<Tensor> inputs_there() const;
};

/// What an input is in a model: the gradient of a parameter is f32, that of an activation has the
/// compute type.
enum class Role { activation, parameter };
struct OpInput {
  std::string name;
  Role role;
};

struct OpInfo {
  std::string name, formula, shapes;
  std::string saved;  // names of the tensors kept for backward, with their shapes
  std::vector<OpInput> inputs;
  ToleranceClass tolerance = ToleranceClass::exact;
  /// dtype: the compute type. Inputs that the op's contract has in f32 are f32 whatever it is.
  std::function<std::vector<OpSample>(uint64_t seed, DType dtype, Device device)> samples;
  /// Shapes of BERT-base at 8 sequences of 128 tokens, for `bench`.
  std::function<OpSample(uint64_t seed, DType dtype, Device device)> bert_base;
};

/// All ops, in order of increasing complexity.
const std::vector<OpInfo>& all_ops();
/// Errors: UsageError with the nearest name, if there is no such op.
const OpInfo& find_op(const std::string& name);

}  // namespace minibert
