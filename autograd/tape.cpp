// tape.cpp: the run in reverse. Collects the nodes behind the root, sorts them by age and runs the
// youngest first; each writes or adds to the gradients of its inputs. A node's saved tensors and
// its own gradient are freed as soon as it has run. A leaf is final when its last edge has been
// served: then its hook runs, while the rest of the tape is still to come.
#include "autograd/tape.h"

#include <algorithm>
#include <unordered_map>

#include "core/kernels/cast.h"

namespace minibert {

void GradientTarget::pass(const Tensor& dy) {
  if (!wanted()) return;
  if (may_share && dy.dtype() == buffer.dtype()) {
    buffer = dy.reshape(buffer.shape());
    return;
  }
  cast(dy.reshape(buffer.shape()), buffer, accumulate);
}

void GradientTarget::write(DType dtype, const std::function<void(const Tensor&)>& kernel) const {
  if (!wanted()) return;
  if (!accumulate && buffer.dtype() == dtype) return kernel(buffer);
  const Tensor contribution =
      Tensor::empty(buffer.shape(), dtype, MemoryCategory::activations, buffer.device());
  kernel(contribution);
  cast(contribution, buffer, accumulate);
}

void GradientTarget::write_or_add(DType dtype,
                                  const std::function<void(const Tensor&, bool)>& kernel) const {
  if (wanted() && buffer.dtype() == dtype) return kernel(buffer, accumulate);
  write(dtype, [&](const Tensor& contribution) { kernel(contribution, /* accumulate= */ false); });
}

namespace {

using StatePtr = std::shared_ptr<Variable::State>;

class Tape {
 public:
  Tape(const Variable& root, bool run_hooks) : run_hooks_(run_hooks) { collect(root); }

  ~Tape() {
    for (Step& step : steps_) step.node->place = 0;
  }

  void seed(const Variable& root, const Tensor& dy) {
    if (root.is_leaf()) {
      GradientTarget target = target_of({nullptr, root.state()}, {});
      target.pass(dy);
      root.state()->fresh = false;
      served(root.state());
    } else {
      step_of(*root.state()->node).gradient = dy;
    }
  }

  void run() {
    while (!order_.empty()) {
      Step& step = steps_[order_.back()];
      order_.pop_back();
      run_step(step);
    }
  }

  void touch(const std::vector<Variable>& leaves) {
    for (const Variable& leaf : leaves) {
      MB_CHECK(leaf.is_leaf(), "backward: a variable to touch is not a leaf, expected leaves only");
      if (uses_.emplace(leaf.state().get(), 0).second) finish(leaf.state());
    }
  }

 private:
  struct Step {
    std::shared_ptr<Node> node;
    Tensor gradient;  // of the node's result; undefined before the first contribution
    int uses = 0;     // edges that lead here
  };

  Step& step_of(const Node& node) { return steps_[node.place - 1]; }

  void collect(const Variable& root) {
    if (root.is_leaf()) {
      uses_[root.state().get()] = 1;
      return;
    }
    add(root.state()->node);
    for (size_t next = 0; next < steps_.size(); ++next) {
      const Node* node = steps_[next].node.get();  // steps_ grows: no reference may be kept
      for (const Edge& edge : node->edges) {
        if (edge.node) add(edge.node);
        if (edge.leaf) ++uses_[edge.leaf.get()];
      }
    }
    order_.resize(steps_.size());
    for (size_t i = 0; i < order_.size(); ++i) order_[i] = i;
    std::sort(order_.begin(), order_.end(),
              [&](size_t a, size_t b) { return steps_[a].node->number < steps_[b].node->number; });
  }

  void add(const std::shared_ptr<Node>& node) {
    MB_CHECK(!node->consumed,
             "backward: {} {} has been run before and what it saved is freed, expected a graph "
             "that is run once. Compute the loss again, or add the losses and run backward once",
             node->name, node->shape.str());
    if (node->place == 0) {
      steps_.push_back({node, {}, 0});
      node->place = steps_.size();
    }
    ++step_of(*node).uses;
  }

  void run_step(Step& step) {
    const std::shared_ptr<Node> node = step.node;
    const Tensor dy = std::move(step.gradient);
    step.gradient = {};
    std::vector<GradientTarget> targets(node->edges.size());
    std::vector<bool> repeated(node->edges.size());
    for (size_t i = 0; i < targets.size(); ++i) {
      repeated[i] = is_repeated(*node, i);
      targets[i] = repeated[i] ? own_buffer(node->edges[i], node->input_shapes[i])
                               : target_of(node->edges[i], node->input_shapes[i]);
    }
    node->consumed = true;
    node->backward(dy, targets);
    node->backward = nullptr;
    for (const GradientTarget& target : targets) observe(node->name, "gradient", target.buffer);
    for (size_t i = 0; i < targets.size(); ++i) keep(*node, i, targets, repeated[i]);
    const std::vector<Edge> edges = std::move(node->edges);
    for (const Edge& edge : edges)
      if (edge.leaf) served(edge.leaf);
  }

  // Whether an earlier input of the node is the same variable: multiply(x, x). Such an input's
  // gradient goes through a buffer of its own, so that ops may write their inputs in any order.
  static bool is_repeated(const Node& node, size_t i) {
    const void* target = node.edges[i].target();
    if (target == nullptr) return false;
    for (size_t k = 0; k < i; ++k)
      if (node.edges[k].target() == target) return true;
    return false;
  }

  GradientTarget target_of(const Edge& edge, const Shape& shape) {
    if (edge.leaf) {
      if (!edge.leaf->gradient.defined()) {
        edge.leaf->gradient = Tensor::empty(edge.leaf->value.shape(), DType::f32,
                                            MemoryCategory::gradients, edge.leaf->value.device());
      }
      return {edge.leaf->gradient, /* accumulate= */ !edge.leaf->fresh};
    }
    if (!edge.node) return {};
    const Step& step = step_of(*edge.node);
    if (step.gradient.defined()) return {step.gradient, /* accumulate= */ true};
    GradientTarget target = own_buffer(edge, shape);
    target.may_share = step.uses == 1;
    return target;
  }

  // A new buffer for the gradient along this edge: f32 for a leaf, the value's type for a result.
  static GradientTarget own_buffer(const Edge& edge, const Shape& shape) {
    const DType dtype = edge.node ? edge.node->dtype : DType::f32;
    const Device device = edge.node ? edge.node->device : edge.leaf->value.device();
    return {Tensor::empty(shape, dtype, MemoryCategory::activations, device)};
  }

  void keep(const Node& node, size_t i, std::vector<GradientTarget>& targets, bool repeated) {
    const Edge& edge = node.edges[i];
    if (repeated) {
      GradientTarget first = target_of(edge, node.input_shapes[i]);
      cast(targets[i].buffer, first.buffer, /* accumulate= */ true);
    } else if (edge.node) {
      step_of(*edge.node).gradient = std::move(targets[i].buffer);
    } else if (edge.leaf && !node.writes_leaves) {
      edge.leaf->fresh = false;
    }
  }

  void served(const StatePtr& leaf) {
    if (--uses_[leaf.get()] == 0 && run_hooks_) finish(leaf);
  }

  // The gradient of a leaf is final. If nothing was ever written to it, it is zero.
  void finish(const StatePtr& leaf) {
    if (leaf->fresh) {
      target_of({nullptr, leaf}, {}).buffer.fill_zero();
      leaf->fresh = false;
    }
    if (leaf->hook) leaf->hook(Variable(leaf));
  }

  bool run_hooks_;
  std::vector<Step> steps_;
  std::vector<size_t> order_;  // steps still to run, oldest first
  std::unordered_map<const Variable::State*, int> uses_;
};

}  // namespace

void run_tape(const Variable& root, const Tensor& dy, const std::vector<Variable>& touch,
              bool run_hooks) {
  MB_CHECK(root.requires_grad(),
           "backward: the variable {} does not depend on any leaf, expected one that does. Was it "
           "computed under NoGrad?",
           root.shape().str());
  MB_ASSERT(dy.shape() == root.shape(), "backward: seed is {}, expected {}", dy.shape().str(),
            root.shape().str());
  RecordingScope scope(RecordingMode::off);
  Tape tape(root, run_hooks);
  tape.seed(root, dy);
  tape.run();
  tape.touch(touch);
}

}  // namespace minibert
