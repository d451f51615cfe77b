// optimizer.cpp: the table of variants and the one update loop.
#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/nearest_name.h"

namespace minibert {
namespace {

// In order of increasing complexity. Why LAMB's row leaves tensors without decay unadapted:
// algorithm 2 of the paper speaks of every layer, but its authors' code (google-research/albert,
// the ResNet code) and TensorFlow Addons, which the abstract names as *the* implementation, exclude
// from the trust ratio what they exclude from decay, and an author says so when asked
// (mgrankin/over9000 issue 12). phi is the identity, as the authors answered too
// (cybertronai/pytorch-lamb issue 5).
constexpr OptimizerVariant kVariants[] = {
    {.name = "adamw-google",
     .kind = OptimizerKind::adamw,
     .bias_correction = false,
     .adapt_undecayed = false,
     .decay_first = false,
     .eps = 1e-6f,
     .summary = "AdamW without bias correction (google-research/bert, optimization.py)"},
    {.name = "adamw",
     .kind = OptimizerKind::adamw,
     .bias_correction = true,
     .adapt_undecayed = false,
     .decay_first = true,
     .eps = 1e-8f,
     .summary = "AdamW with bias correction (PyTorch's torch.optim.AdamW)"},
    {.name = "lamb",
     .kind = OptimizerKind::lamb,
     .bias_correction = true,
     .adapt_undecayed = false,
     .decay_first = false,
     .eps = 1e-6f,
     .summary =
         "LAMB, paper v5: bias correction, decay inside the ratio, no clamp; tensors without "
         "decay have ratio 1 (arXiv 1904.00962, algorithm 2, and its authors' code)"},
};

bool matches(const std::string& name, const std::vector<std::string>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const std::string& part) { return name.find(part) != std::string::npos; });
}

bool not_finite(double norm) {
  return !std::isfinite(norm);
}

void check(const OptimizerOptions& o, float eps) {
  MB_CHECK(o.beta1 >= 0 && o.beta1 < 1, "optimizer: beta1 is {}, expected 0 <= beta1 < 1", o.beta1);
  MB_CHECK(o.beta2 >= 0 && o.beta2 < 1, "optimizer: beta2 is {}, expected 0 <= beta2 < 1", o.beta2);
  MB_CHECK(std::isfinite(eps) && eps > 0, "optimizer: eps is {}, expected more than 0", eps);
  MB_CHECK(std::isfinite(o.weight_decay) && o.weight_decay >= 0,
           "optimizer: weight_decay is {}, expected 0 or more", o.weight_decay);
  MB_CHECK(std::isfinite(o.max_grad_norm) && o.max_grad_norm >= 0,
           "optimizer: max_grad_norm is {}, expected 0 (off) or more", o.max_grad_norm);
}

}  // namespace

std::span<const OptimizerVariant> optimizer_variants() {
  return kVariants;
}

const OptimizerVariant& optimizer_variant(const std::string& name) {
  std::vector<std::string> known;
  for (const OptimizerVariant& variant : kVariants) {
    if (name == variant.name) return variant;
    known.push_back(variant.name);
  }
  fail<UsageError>("optimizer: name is \"{}\", expected one of {}.{}", name, fmt::join(known, ", "),
                   did_you_mean(name, known));
}

Optimizer::Optimizer(Arena& arena, OptimizerOptions options)
    : arena_(arena), options_(std::move(options)), variant_(optimizer_variant(options_.name)) {
  check(options_, eps());
  arena_.with_gradients();
  const Shape size = {arena_.table().size()};
  first_moment_ = Tensor::zeros(size, DType::f32, MemoryCategory::optimizer_state);
  second_moment_ = Tensor::zeros(size, DType::f32, MemoryCategory::optimizer_state);
  for (const ParameterSlice& slice : arena_.table().slices()) {
    // By name, as the authors' code has it: a weight decay of 0 still leaves matrices adapted.
    const bool decays = !matches(slice.name, options_.no_decay);
    tensors_.push_back({.offset = slice.offset,
                        .count = slice.used(),
                        .decay = decays ? options_.weight_decay : 0.0f,
                        .adapt = decays || variant_.adapt_undecayed});
  }
}

Optimizer::StepReport Optimizer::step(float learning_rate) {
  MB_CHECK(std::isfinite(learning_rate) && learning_rate >= 0,
           "optimizer: learning rate is {}, expected 0 or more", learning_rate);
  StepReport report;
  const std::vector<double> norms = tensor_norms(arena_.gradients(), tensors_);
  double squares = 0;
  for (double norm : norms) squares += norm * norm;
  report.grad_norm = std::sqrt(squares);
  if (!std::isfinite(report.grad_norm)) {
    const auto last = std::find_if(norms.rbegin(), norms.rend(), not_finite);
    report.bad_gradient = arena_.table()[static_cast<int>(norms.rend() - last) - 1].name;
    return report;
  }
  if (options_.max_grad_norm > 0)
    report.clip_factor =
        static_cast<float>(1 / std::max(1.0, report.grad_norm / options_.max_grad_norm));

  const OptimizerStepArgs args = step_args(learning_rate, report.clip_factor);
  if (variant_.kind == OptimizerKind::lamb) {
    lamb_step(args, norms_);
  } else {
    adamw_step(args, variant_.decay_first);
  }
  ++applied_steps_;
  report.applied = true;
  return report;
}

OptimizerStepArgs Optimizer::step_args(float learning_rate, float clip_factor) const {
  OptimizerStepArgs args{.weights = arena_.weights(),
                         .gradients = arena_.gradients(),
                         .first_moment = first_moment_,
                         .second_moment = second_moment_,
                         .tensors = tensors_,
                         .adam = {.beta1 = options_.beta1,
                                  .beta2 = options_.beta2,
                                  .eps = eps(),
                                  .gradient_scale = clip_factor},
                         .learning_rate = learning_rate};
  if (variant_.bias_correction) {
    const double t = static_cast<double>(applied_steps_ + 1);
    args.adam.m_correction = static_cast<float>(1 / (1 - std::pow(options_.beta1, t)));
    args.adam.v_correction = static_cast<float>(1 / (1 - std::pow(options_.beta2, t)));
  }
  return args;
}

void Optimizer::set_applied_steps(int64_t steps) {
  MB_CHECK(steps >= 0, "optimizer: applied steps are {}, expected 0 or more", steps);
  applied_steps_ = steps;
}

std::string Optimizer::first_non_finite_weight() const {
  const std::vector<double> norms = tensor_norms(arena_.weights(), tensors_);
  const auto first = std::find_if(norms.begin(), norms.end(), not_finite);
  return first == norms.end() ? "" : arena_.table()[static_cast<int>(first - norms.begin())].name;
}

std::string Optimizer::describe() const {
  return fmt::format(
      "{}: {}; beta1 {}, beta2 {}, eps {:g}, weight decay {:g} except [{}], gradient clipping {}",
      variant_.name, variant_.summary, options_.beta1, options_.beta2, eps(), options_.weight_decay,
      fmt::join(options_.no_decay, ", "),
      options_.max_grad_norm > 0 ? fmt::format("to norm {:g}", options_.max_grad_norm) : "off");
}

std::vector<std::pair<std::string, Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, Tensor>> state;
  for (const ParameterSlice& slice : arena_.table().slices()) {
    state.emplace_back(slice.name + ".exp_avg", first_moment_.slice(slice.offset, slice.shape));
    state.emplace_back(slice.name + ".exp_avg_sq", second_moment_.slice(slice.offset, slice.shape));
  }
  return state;
}

void Optimizer::load_state(const std::vector<std::pair<std::string, Tensor>>& saved) {
  std::map<std::string, Tensor> given(saved.begin(), saved.end());
  const auto wanted = state();
  for (const auto& [name, tensor] : wanted) {
    const auto found = given.find(name);
    MB_CHECK_AS(CheckpointError, found != given.end(),
                "optimizer state: \"{}\" is missing, expected {} tensors, two a parameter", name,
                wanted.size());
    const Tensor& source = found->second;
    MB_CHECK_AS(
        CheckpointError,
        source.defined() && source.dtype() == DType::f32 && source.shape() == tensor.shape(),
        "optimizer state: \"{}\" is {} {}, expected f32 {} as the parameter", name,
        name_of(source.dtype()), source.shape().str(), tensor.shape().str());
    given.erase(found);
  }
  MB_CHECK_AS(CheckpointError, given.empty(),
              "optimizer state: \"{}\" belongs to no parameter of this model",
              given.begin()->first);
  for (const auto& [name, source] : saved) given.emplace(name, source);
  for (const auto& [name, tensor] : wanted) tensor.copy_from(given.at(name));
}

}  // namespace minibert
