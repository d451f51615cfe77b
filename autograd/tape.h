// tape.h: what the graph is made of, and the run through it in reverse. Internal to autograd (and
// to gradcheck, which starts from a tensor instead of a scalar); users see variable.h alone.
// A node holds edges, never the values of its inputs: a value lives as long as someone holds its
// Variable or a backward function saved it. Easy to break: nodes run in the reverse order of their
// making (`number`), which is a valid order because inputs are older than results; it is also what
// fixes the order of sums. Test: ctest -R autograd_tape.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace minibert {

struct Variable::State {
  Tensor value;
  bool requires_grad = false;
  bool leaf = false;
  std::string name;
  // Leaves only.
  Tensor gradient;    // f32, shape of value; undefined until needed unless the maker gave a slice
  bool fresh = true;  // the next contribution overwrites
  std::function<void(const Variable&)> hook;
  std::function<void()> read_hook;
  // Results only: the node that made this value.
  std::shared_ptr<Node> node;
};

/// Where the gradient of one input goes: to the node that made it, to a leaf, or nowhere.
struct Edge {
  std::shared_ptr<Node> node;
  std::shared_ptr<Variable::State> leaf;
  const void* target() const {
    return node ? static_cast<const void*>(node.get()) : static_cast<const void*>(leaf.get());
  }
};

/// One op in the graph. Has one result.
struct Node {
  const char* name = "";
  uint64_t number = 0;       // order of making
  Shape shape;               // of the result
  DType dtype = DType::f32;  // of the result, and of its gradient
  Device device = Device::cpu;
  std::vector<Edge> edges;  // one for each input
  std::vector<Shape> input_shapes;
  BackwardFunction backward;
  bool writes_leaves = false;  // recompute: its backward adds to the leaves' gradients by itself
  bool consumed = false;       // backward has run: what was saved is gone
  size_t place = 0;            // position in the running tape, 1-based; 0 = not in it
  Node* next_dead = nullptr;
};

/// What ops do with the graph: record themselves, do nothing, or only tell which leaves they use
/// (the first pass of recompute).
enum class RecordingMode { on, off, discover };
RecordingMode recording_mode();

/// Sets the mode (thread-local) while it lives; `found` collects leaves in mode `discover`.
class RecordingScope {
 public:
  explicit RecordingScope(RecordingMode mode,
                          std::vector<std::shared_ptr<Variable::State>>* found = nullptr);
  ~RecordingScope();
  RecordingScope(const RecordingScope&) = delete;
  RecordingScope& operator=(const RecordingScope&) = delete;

 private:
  RecordingMode mode_before_;
  std::vector<std::shared_ptr<Variable::State>>* found_before_;
};

/// Who looks at every value that an op makes and at every gradient that its backward wrote: the
/// search for the first one that is not finite. `what` is "result" or "gradient".
using OpObserver = std::function<void(const char* op, const char* what, const Tensor& value)>;
/// Sets the calling thread's observer while it lives. It makes each op wait for the device.
class ObserverScope {
 public:
  explicit ObserverScope(OpObserver observer);
  ~ObserverScope();
  ObserverScope(const ObserverScope&) = delete;
  ObserverScope& operator=(const ObserverScope&) = delete;

 private:
  OpObserver before_;
};
/// Tells the observer, if there is one.
void observe(const char* op, const char* what, const Tensor& value);

/// A node with its edges, not yet part of any variable. Destroyed without recursion, however long
/// the chain behind it is.
std::shared_ptr<Node> make_node(const char* name, const Tensor& value,
                                const std::vector<Variable>& inputs, BackwardFunction backward);
/// In mode `discover`: notes the leaves among the inputs of an op.
void note_leaves(const char* name, const std::vector<Variable>& inputs);
Variable variable_of(Tensor value, std::shared_ptr<Node> node);

/// Runs backward from `root` with d(loss)/d(root) = dy [shape of root]. `run_hooks` is false for
/// the tape inside recompute, whose leaves the outer tape finishes.
void run_tape(const Variable& root, const Tensor& dy, const std::vector<Variable>& touch,
              bool run_hooks);

}  // namespace minibert
