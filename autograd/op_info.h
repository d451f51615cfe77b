// op_info.h: one description an op. From it are made: the test against the reference, the gradient
// check, the test of what is saved (tests/autograd/op_info_test.cpp), `minibert gradcheck` and
// `minibert bench`. Adding an op: its sample and its entry in op_infos_simple.cpp or
// op_infos_layers.cpp. Easy to break: samples hold the sizes 0, 1 and odd ones.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace minibert {

using Doubles = std::vector<double>;
using Variables = std::vector<Variable>;

/// How exact a forward pass is. Tests map it to tests/tolerance.h.
enum class ToleranceClass { exact, elementwise, reduction };

/// Inputs of one size and what to do with them. The callables hold everything that isn't
/// differentiable (indices, labels, dropout).
struct OpSample {
  std::string sizes;           // "T=37 H=24"
  std::vector<Tensor> inputs;  // f32, one for each of OpInfo::inputs; undefined: left out
  std::function<Variable(const Variables&)> forward;
  std::function<Doubles(const std::vector<Doubles>&)> reference;
  /// The same from simple ops; empty for ops that are simple.
  std::function<Variable(const Variables&)> composed = {};
  int64_t saved_bytes = 0;  // held for backward, beside inputs and result
};

struct OpInfo {
  std::string name, formula, shapes;
  std::string saved;  // names of the tensors kept for backward, with their shapes
  std::vector<std::string> inputs;
  ToleranceClass tolerance = ToleranceClass::exact;
  std::function<std::vector<OpSample>(uint64_t seed)> samples;
  /// Shapes of BERT-base at 8 sequences of 128 tokens, for `bench`.
  std::function<OpSample(uint64_t seed)> bert_base;
};

/// All ops, in order of increasing complexity.
const std::vector<OpInfo>& all_ops();
/// Errors: UsageError with the nearest name, if there is no such op.
const OpInfo& find_op(const std::string& name);

}  // namespace minibert
