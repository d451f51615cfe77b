// variable.cpp: making variables, and recording ops as nodes. The run in reverse is tape.cpp.
#include "autograd/variable.h"

#include <algorithm>
#include <atomic>

#include "autograd/tape.h"
#include "core/kernels/elementwise.h"

namespace minibert {
namespace {

using StatePtr = std::shared_ptr<Variable::State>;

thread_local RecordingMode t_mode = RecordingMode::on;
thread_local std::vector<StatePtr>* t_found = nullptr;
thread_local OpObserver t_observer;
std::atomic<uint64_t> g_next_number{1};

// Dead nodes wait in a list while one of them is being deleted, since a chain of 100,000 would
// overflow the stack if each deleted the one before it.
thread_local Node* t_dead = nullptr;
thread_local bool t_burying = false;

void bury(Node* node) {
  node->next_dead = t_dead;
  t_dead = node;
  if (t_burying) return;
  t_burying = true;
  while (t_dead != nullptr) {
    Node* next = t_dead;
    t_dead = next->next_dead;
    delete next;
  }
  t_burying = false;
}

bool any_requires_grad(const std::vector<Variable>& variables) {
  return std::any_of(variables.begin(), variables.end(),
                     [](const Variable& v) { return v.defined() && v.requires_grad(); });
}

void check_leaf(const Variable& variable, const char* what) {
  MB_CHECK(variable.defined() && variable.is_leaf(),
           "{}: the variable is {}, expected a leaf (Variable::leaf)", what,
           variable.defined() ? "a constant or the result of an op" : "undefined");
}

}  // namespace

RecordingMode recording_mode() {
  return t_mode;
}

RecordingScope::RecordingScope(RecordingMode mode, std::vector<StatePtr>* found)
    : mode_before_(t_mode), found_before_(t_found) {
  t_mode = mode;
  t_found = found;
}

RecordingScope::~RecordingScope() {
  t_mode = mode_before_;
  t_found = found_before_;
}

ObserverScope::ObserverScope(OpObserver observer) : before_(std::move(t_observer)) {
  t_observer = std::move(observer);
}

ObserverScope::~ObserverScope() {
  t_observer = std::move(before_);
}

void observe(const char* op, const char* what, const Tensor& value) {
  if (t_observer && value.defined()) t_observer(op, what, value);
}

bool grad_enabled() {
  return t_mode == RecordingMode::on;
}

bool will_record(const std::vector<Variable>& inputs) {
  return grad_enabled() && any_requires_grad(inputs);
}

Variable::Variable(Tensor value) : state_(std::make_shared<State>()) {
  state_->value = std::move(value);
}

Variable Variable::leaf(Tensor value, Tensor gradient, std::string name) {
  MB_CHECK(value.defined(), "leaf {}: the value is undefined, expected a tensor", name);
  if (gradient.defined()) {
    MB_CHECK(gradient.shape() == value.shape() && gradient.dtype() == DType::f32,
             "leaf {}: gradient is {} {}, expected f32 {} as the value", name,
             name_of(gradient.dtype()), gradient.shape().str(), value.shape().str());
  }
  auto state = std::make_shared<State>();
  state->value = std::move(value);
  state->gradient = std::move(gradient);
  state->name = std::move(name);
  state->leaf = state->requires_grad = true;
  return Variable(std::move(state));
}

const Tensor& Variable::value() const {
  MB_CHECK(defined(), "variable: value() of an undefined variable, expected a defined one");
  if (state_->read_hook) state_->read_hook();
  return state_->value;
}

const Shape& Variable::shape() const {
  MB_CHECK(defined(), "variable: shape() of an undefined variable, expected a defined one");
  return state_->value.shape();
}

bool Variable::requires_grad() const {
  return defined() && state_->requires_grad;
}

bool Variable::is_leaf() const {
  return defined() && state_->leaf;
}

const std::string& Variable::name() const {
  static const std::string kNone;
  return defined() ? state_->name : kNone;
}

const Tensor& Variable::grad() const {
  static const Tensor kNone;
  check_leaf(*this, "grad");
  return state_->fresh ? kNone : state_->gradient;
}

const Tensor& Variable::gradient_buffer() const {
  check_leaf(*this, "gradient_buffer");
  return state_->gradient;
}

void Variable::reset_grad() const {
  check_leaf(*this, "reset_grad");
  state_->fresh = true;
}

void Variable::on_final_gradient(std::function<void(const Variable&)> hook) const {
  check_leaf(*this, "on_final_gradient");
  state_->hook = std::move(hook);
}

void Variable::on_read(std::function<void()> hook) const {
  check_leaf(*this, "on_read");
  state_->read_hook = std::move(hook);
}

void Variable::backward(float seed, const std::vector<Variable>& touch) const {
  MB_CHECK(defined() && value().numel() == 1,
           "backward: the variable is {}, expected a scalar (a loss)",
           defined() ? shape().str() : "undefined");
  MB_CHECK(value().dtype() == DType::f32, "backward: the loss is {}, expected f32",
           name_of(value().dtype()));
  const Tensor dy = value().like(shape());
  fill(dy, seed);
  run_tape(*this, dy, touch, /* run_hooks= */ true);
}

NoGrad::NoGrad() : scope_(std::make_unique<RecordingScope>(RecordingMode::off)) {}
NoGrad::~NoGrad() = default;

void note_leaves(const char* name, const std::vector<Variable>& inputs) {
  if (t_mode != RecordingMode::discover) return;
  for (const Variable& input : inputs) {
    if (!input.defined() || !input.requires_grad()) continue;
    MB_CHECK(input.is_leaf(),
             "recompute: {} uses a variable {} made outside by {}, expected it among recompute's "
             "inputs. Pass it there, so that its gradient can flow out",
             name, input.shape().str(), input.state()->node->name);
    if (std::find(t_found->begin(), t_found->end(), input.state()) == t_found->end())
      t_found->push_back(input.state());
  }
}

std::shared_ptr<Node> make_node(const char* name, const Tensor& value,
                                const std::vector<Variable>& inputs, BackwardFunction backward) {
  std::shared_ptr<Node> node(new Node, &bury);
  node->name = name;
  node->number = g_next_number.fetch_add(1, std::memory_order_relaxed);
  node->shape = value.shape();
  node->dtype = value.dtype();
  node->device = value.device();
  node->backward = std::move(backward);
  for (const Variable& input : inputs) {
    Edge& edge = node->edges.emplace_back();
    node->input_shapes.push_back(input.defined() ? input.shape() : Shape{});
    if (!input.requires_grad()) continue;
    if (input.is_leaf())
      edge.leaf = input.state();
    else
      edge.node = input.state()->node;
  }
  return node;
}

Variable variable_of(Tensor value, std::shared_ptr<Node> node) {
  auto state = std::make_shared<Variable::State>();
  state->value = std::move(value);
  state->requires_grad = node != nullptr;
  state->node = std::move(node);
  return Variable(std::move(state));
}

Variable make_result(const char* name, Tensor value, std::vector<Variable> inputs,
                     BackwardFunction backward) {
  observe(name, "result", value);
  note_leaves(name, inputs);
  if (!will_record(inputs)) return Variable(std::move(value));
  auto node = make_node(name, value, inputs, std::move(backward));
  return variable_of(std::move(value), std::move(node));
}

}  // namespace minibert
