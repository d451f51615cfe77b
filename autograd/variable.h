// variable.h: a tensor that remembers how it was made, and the tape that runs the making backwards.
// Called by autograd's ops, nn and users. An op makes a Node: its inputs, what it saved, and a
// backward function. Easy to break: the first contribution to a gradient overwrites and later ones
// add (no memset), in the fixed order of the tape, so that the same graph gives the same bits.
// Test: ctest -R autograd_tape.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace minibert {

struct Node;
class RecordingScope;

/// A value in a computation. Copies are the same variable. Constants, leaves (parameters, with a
/// gradient buffer in f32) and results of ops.
class Variable {
 public:
  Variable() = default;
  /// A constant: no gradient flows into it.
  explicit Variable(Tensor value);
  /// A leaf. Its gradient is written into `gradient` (f32, same shape: a slice of an arena), or
  /// into a buffer made at the first backward if `gradient` is undefined.
  static Variable leaf(Tensor value, Tensor gradient = {}, std::string name = {});

  bool defined() const { return state_ != nullptr; }
  const Tensor& value() const;
  const Shape& shape() const;
  bool requires_grad() const;
  bool is_leaf() const;
  const std::string& name() const;
  /// Gradient of a leaf after backward(). Undefined tensor before the first backward, and after
  /// reset_grad().
  const Tensor& grad() const;
  /// Where a leaf's gradient is written, whatever lies there now; undefined if the first backward
  /// makes the buffer.
  const Tensor& gradient_buffer() const;
  /// For leaves: says that the next contribution overwrites. Called for each leaf at the start of
  /// an optimizer step.
  void reset_grad() const;
  /// For leaves: called when a backward's last contribution has been added, while the rest of the tape
  /// is still to run; {} removes the hook. A distributed run starts its all-reduce there, but only in
  /// its last micro-batch: the hook runs in each backward(), so once for each micro-batch, and before
  /// the last one the gradient is not yet the step's.
  void on_final_gradient(std::function<void(const Variable&)> hook) const;
  /// For leaves: called by each value(), before it returns; {} removes the hook. In a distributed run
  /// weights may still be on their way from other ranks then: whoever reads some waits for them.
  /// shape() does not count as reading.
  void on_read(std::function<void()> hook) const;

  /// Runs the tape from this scalar, with d(this)/d(this) = seed (a loss scale). Frees what was
  /// saved as it goes: a second backward through the same graph is a UsageError. Leaves of `touch`
  /// that no op reached are final too: their hooks run, and a gradient to which nothing was added
  /// since reset_grad() becomes zero.
  void backward(float seed = 1.0f, const std::vector<Variable>& touch = {}) const;

  struct State;
  const std::shared_ptr<State>& state() const { return state_; }
  explicit Variable(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

/// Whether ops record themselves (thread-local).
bool grad_enabled();
/// Switches recording off while it lives: `NoGrad guard;`
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  std::unique_ptr<RecordingScope> scope_;
};
/// Whether an op on these inputs will be recorded, so that it has to save what backward needs.
bool will_record(const std::vector<Variable>& inputs);

/// Where a backward function puts the gradient of one input.
struct GradientTarget {
  Tensor buffer;            // shape of the input; f32 for a leaf, else the input's type; undefined
                            // if the input needs no gradient
  bool accumulate = false;  // add to it, instead of overwriting
  bool may_share = false;   // set by the tape: this is the only contribution
  bool wanted() const { return buffer.defined(); }
  /// Says that the gradient is `dy` itself: shares it where it can, else copies or adds.
  void pass(const Tensor& dy);
  /// For kernels that can only overwrite, or write `dtype` alone: `kernel` fills the buffer, or one of
  /// that type, which is then added to it. Does nothing if the gradient isn't wanted.
  void write(DType dtype, const std::function<void(const Tensor&)>& kernel) const;
  /// For kernels that write `dtype` alone, but can add: `kernel` gets the buffer and whether to add to
  /// it, or a buffer of that type to overwrite, which is then added.
  void write_or_add(DType dtype, const std::function<void(const Tensor&, bool)>& kernel) const;
};
/// Backward of an op: given dy, write each wanted input's gradient (honouring `accumulate`), never
/// dy itself. Runs once, so it may overwrite or free tensors that the op itself made and gave to
/// nobody else; a captured copy of an input's value is not its own, since copies share storage.
using BackwardFunction = std::function<void(const Tensor& dy, std::vector<GradientTarget>& inputs)>;

/// Makes the result of an op. If recording is on and an input requires a gradient, the node is
/// added to the graph. `name` must be a string literal: the node keeps the pointer, for the errors
/// of the tape and of recompute.
Variable make_result(const char* name, Tensor value, std::vector<Variable> inputs,
                     BackwardFunction backward);

/// Runs fn(inputs) without saving anything inside, and runs it again when its gradient is wanted:
/// activations are traded for time. Dropout is counter-based, so the second run draws the same
/// masks. Hooks of leaves used inside fire once, when final.
Variable recompute(const std::function<Variable(const std::vector<Variable>&)>& fn,
                   const std::vector<Variable>& inputs);

}  // namespace minibert
