// recompute.cpp: activations traded for time. The forward pass runs fn without saving and notes
// which leaves it used; backward runs fn again, recording, and a small tape of its own. Easy to
// break: the outer tape must know the leaves, or their hooks would run before this contribution.
// Test: ctest -R autograd_recompute.
#include "autograd/tape.h"

namespace minibert {
namespace {

using Function = std::function<Variable(const std::vector<Variable>&)>;

// Leaves are passed as they are; everything else is cut from the graph that it came from.
std::vector<Variable> cut(const std::vector<Variable>& inputs) {
  std::vector<Variable> result;
  for (const Variable& input : inputs)
    result.push_back(!input.defined() || input.is_leaf() ? input : Variable(input.value()));
  return result;
}

void run_again(const Function& fn, const std::vector<Variable>& saved, const Tensor& dy,
               std::vector<GradientTarget>& targets) {
  std::vector<Variable> inputs = saved;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!targets[i].wanted()) continue;  // a constant; or a leaf, whose edge is among those found
    inputs[i] = Variable::leaf(inputs[i].value());
    // Not f32 as a parameter's: the outer tape's buffer, in the type of the value.
    inputs[i].state()->gradient = targets[i].buffer;
    inputs[i].state()->fresh = !targets[i].accumulate;
  }
  Variable y;
  {
    RecordingScope scope(RecordingMode::on);
    y = fn(inputs);
  }
  if (y.requires_grad()) run_tape(y, dy, {}, /* run_hooks= */ false);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (targets[i].wanted() && inputs[i].state()->fresh) targets[i].buffer.fill_zero();
  }
}

}  // namespace

Variable recompute(const Function& fn, const std::vector<Variable>& inputs) {
  if (!grad_enabled()) return fn(inputs);
  std::vector<std::shared_ptr<Variable::State>> found;
  std::vector<Variable> saved = cut(inputs);
  Tensor value;
  {
    RecordingScope scope(RecordingMode::discover, &found);
    const Variable y = fn(saved);
    note_leaves("recompute", {y});  // fn may return a leaf as it is
    value = y.value();
  }
  std::vector<Variable> edges;
  for (const Variable& input : inputs) edges.push_back(input.is_leaf() ? Variable{} : input);
  for (const auto& leaf : found) edges.push_back(Variable(leaf));
  if (!will_record(edges)) return Variable(std::move(value));
  auto node = make_node("recompute", value, edges,
                        [fn, saved](const Tensor& dy, std::vector<GradientTarget>& targets) {
                          run_again(fn, saved, dy, targets);
                        });
  node->writes_leaves = true;
  return variable_of(std::move(value), std::move(node));
}

}  // namespace minibert
