// optimizer_policies.cpp: the table of optimizers, the table of knobs, and what goes together.
#include "optim/optimizer_policies.h"

#include <cmath>

#include <fmt/format.h>
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
    {.name = "sgd",
     .policies = {.direction = Direction::momentum,
                  .decay = DecayPlace::gradient,
                  .clipping = GradientClipping::global,
                  .eps = 0,
                  .gradient_averaging = false},
     .summary = "stochastic gradient descent with momentum beta1 (PyTorch's torch.optim.SGD)",
     .formula = "m = beta1 m + g + decay w;  w -= lr m",
     .source = "torch.optim.SGD, dampening 0"},
    {.name = "adamw-google",
     .policies = {.ratio_of = RatioOf::update, .clipping = GradientClipping::global},
     .summary = "AdamW without bias correction (google-research/bert, optimization.py)",
     .formula = "r = m / (sqrt(v) + eps);  w -= lr (r + decay w)",
     .source = "google-research/bert, optimization.py"},
    {.name = "adamw",
     .policies = {.decay = DecayPlace::weight,
                  .bias_correction = BiasCorrection::moments,
                  .clipping = GradientClipping::global,
                  .eps = 1e-8f},
     .summary = "AdamW with bias correction (PyTorch's torch.optim.AdamW)",
     .formula = "w *= 1 - lr decay;  r = m^ / (sqrt(v^) + eps);  w -= lr r",
     .source = "torch.optim.AdamW; arXiv 1711.05101, algorithm 2"},
    {.name = "lars",
     .policies = {.direction = Direction::momentum,
                  .decay = DecayPlace::gradient,
                  .ratio_of = RatioOf::update,
                  .adapts = Adapts::all,
                  .eps = 0},
     .summary = "LARS as the LAMB paper has it: the ratio of the momentum (arXiv 1904.00962, "
                "algorithm 1)",
     .formula = "m = beta1 m + (1 - beta1) (g + decay w);  w -= lr |w| / |m| m",
     .source = "arXiv 1904.00962, algorithm 1"},
    {.name = "lars-mlperf",
     .policies = {.direction = Direction::momentum,
                  .decay = DecayPlace::gradient,
                  .ratio_of = RatioOf::gradient,
                  .rate_in_momentum = true,
                  .adapts = Adapts::decayed,
                  .eps = 0,
                  .gradient_averaging = false,
                  .trust_coefficient = 0.001},
     .summary = "LARS of MLPerf's ResNet: the ratio of the gradient, the rate in the momentum "
                "(mlcommons/training, resnet-tf2, lars_optimizer.py)",
     .formula = "t = k |w| / (|g| + decay |w| + eps);  m = beta1 m + lr t (g + decay w);  w -= m",
     .source = "mlcommons/training, retired_benchmarks/resnet-tf2, lars_optimizer.py"},
    {.name = "lamb-v3",
     .policies = {.ratio_of = RatioOf::update,
                  .adapts = Adapts::decayed,
                  .clipping = GradientClipping::global},
     .summary =
         "LAMB without bias correction (arXiv 1904.00962, version 3; google-research/albert)",
     .formula = "r = m / (sqrt(v) + eps);  u = r + decay w;  w -= lr |w| / |u| u",
     .source = "arXiv 1904.00962v3; google-research/albert, lamb_optimizer.py"},
    {.name = "lamb",
     .policies = {.ratio_of = RatioOf::update,
                  .adapts = Adapts::decayed,
                  .bias_correction = BiasCorrection::moments,
                  .clipping = GradientClipping::global},
     .summary =
         "LAMB, paper v5: bias correction, decay inside the ratio, no clamp; tensors without "
         "decay have ratio 1 (arXiv 1904.00962, algorithm 2, and its authors' code)",
     .formula = "r = m^ / (sqrt(v^) + eps);  u = r + decay w;  w -= lr |w| / |u| u",
     .source = "arXiv 1904.00962v5, algorithm 2; TensorFlow Addons, lamb.py"},
    {.name = "lamb-mlperf",
     .policies = {.ratio_of = RatioOf::update,
                  .adapts = Adapts::decayed,
                  .bias_correction = BiasCorrection::moments,
                  .clipping = GradientClipping::global},
     .summary = "LAMB of MLPerf's BERT: the policies of lamb, clipped after gradients are summed "
                "(mlcommons/training, lamb_optimizer_v1.py)",
     .formula = "as lamb",
     .source = "mlcommons/training, retired_benchmarks/bert, lamb_optimizer_v1.py"},
    {.name = "lamb-apex",
     .policies = {.ratio_of = RatioOf::update,
                  .adapts = Adapts::nonzero_decay,
                  .bias_correction = BiasCorrection::moments,
                  .clipping = GradientClipping::global},
     .summary = "LAMB of NVIDIA's apex: tensors whose decay is 0 have ratio 1 (FusedLAMB)",
     .formula = "as lamb",
     .source = "NVIDIA/apex, optimizers/fused_lamb.py, csrc/multi_tensor_lamb.cu"},
    {.name = "nvlamb",
     .policies = {.ratio_of = RatioOf::update,
                  .adapts = Adapts::all,
                  .bias_correction = BiasCorrection::moments,
                  .clipping = GradientClipping::global},
     .summary =
         "NVLAMB: every tensor has a trust ratio, biases too (apex FusedLAMB with use_nvlamb)",
     .formula = "as lamb",
     .source = "NVIDIA/apex, optimizers/fused_lamb.py, use_nvlamb=True"},
    {.name = "lamb-deepspeed",
     .policies = {.ratio_of = RatioOf::update,
                  .adapts = Adapts::all,
                  .bias_correction = BiasCorrection::step_size,
                  .eps = 1e-8f,
                  .trust_ratio_min = 0.01,
                  .trust_ratio_max = 10},
     .summary = "LAMB of DeepSpeed: bias correction in the step size, ratio in 0.01 .. 10, no "
                "clipping (FusedLamb)",
     .formula = "r = m / (sqrt(v) + eps);  u = r + decay w;  w -= lr c clamp(|w| / |u|) u",
     .source = "microsoft/DeepSpeed, csrc/lamb/fused_lamb_cuda_kernel.cu"},
    {.name = "lamb-clamped",
     .policies = {.ratio_of = RatioOf::update, .adapts = Adapts::all, .weight_norm_max = 10},
     .summary =
         "LAMB with |w| clamped to 0 .. 10: no bias correction, no clipping (torch-optimizer's "
         "Lamb, cybertronai/pytorch-lamb)",
     .formula = "r = m / (sqrt(v) + eps);  u = r + decay w;  w -= lr clamp(|w|) / |u| u",
     .source = "jettify/pytorch-optimizer, torch_optimizer/lamb.py"},
    {.name = "lans",
     .policies = {.direction = Direction::lans,
                  .ratio_of = RatioOf::update,
                  .adapts = Adapts::all,
                  .bias_correction = BiasCorrection::moments},
     .summary =
         "LANS: each tensor's gradient has the norm 1, and the update's two terms a ratio each "
         "(arXiv 2006.13484, algorithm 2)",
     .formula =
         "g = g / |g|;  u = m^ / (sqrt(v^) + eps) + decay w;  q = g / (sqrt(v^) + eps) + decay "
         "w;  w -= lr |w| (beta1 u / |u| + (1 - beta1) q / |q|)",
     .source = "arXiv 2006.13484, algorithm 2"},
};

// ---- Words -------------------------------------------------------------------------------------
template <typename Value>
struct Word {
  const char* text;
  Value value;
};
constexpr Word<Adapts> kAdapts[] = {{"none", Adapts::none},
                                    {"all", Adapts::all},
                                    {"decayed", Adapts::decayed},
                                    {"nonzero_decay", Adapts::nonzero_decay}};
constexpr Word<BiasCorrection> kCorrections[] = {{"none", BiasCorrection::none},
                                                 {"moments", BiasCorrection::moments},
                                                 {"step_size", BiasCorrection::step_size}};
constexpr Word<GradientClipping> kClippings[] = {{"none", GradientClipping::none},
                                                 {"global", GradientClipping::global},
                                                 {"tensor", GradientClipping::tensor}};
constexpr Word<bool> kSwitch[] = {{"on", true}, {"off", false}};

template <typename Value, size_t N>
std::vector<std::string> choices_of(const Word<Value> (&words)[N]) {
  std::vector<std::string> choices{"auto"};
  for (const Word<Value>& word : words) choices.push_back(word.text);
  return choices;
}
template <typename Value, size_t N>
std::string text_of(const Word<Value> (&words)[N], Value value) {
  for (const Word<Value>& word : words)
    if (word.value == value) return word.text;
  MB_ASSERT(false, "optimizer: a policy without a word");
  return "";
}
template <typename Value, size_t N>
void set_word(std::optional<Value>& knob, const Word<Value> (&words)[N], const std::string& text) {
  knob.reset();
  for (const Word<Value>& word : words)
    if (word.text == text) knob = word.value;
  MB_ASSERT(knob || text == "auto", "optimizer: \"{}\" is no word of its knob", text);
}

std::string number(double value) {
  return fmt::format("{:g}", value);
}
std::string bound(double value) {
  return value > 0 ? number(value) : "none";
}

bool is_momentum(const OptimizerPolicies& p) {
  return p.direction == Direction::momentum;
}
bool has_ratio(const OptimizerPolicies& p) {
  return p.ratio_of != RatioOf::none && p.adapts != Adapts::none;
}

// ---- What goes together ------------------------------------------------------------------------
void check_bounds(const std::string& name, const char* what, double least, double most) {
  MB_CHECK(most == 0 || least <= most,
           "optimizer: {0}_min is {1:g} and {0}_max {2:g} with {3}, expected a minimum that is not "
           "above the maximum (0: no bound).",
           what, least, most, name);
}

void check_ratio(const std::string& name, const OptimizerPolicies& p, const OptimizerKnobs& k) {
  MB_CHECK(
      !k.adapts || *k.adapts == Adapts::none || p.ratio_of != RatioOf::none,
      "optimizer: adapt is {}, but {} has no trust ratio. {}", text_of(kAdapts, p.adapts), name,
      is_momentum(p) ? "Use lars or lars-mlperf."
                     : "Its decay lies outside the update: use adamw-google or a row of LAMB.");
  const bool bounds = k.trust_coefficient || k.weight_norm_min || k.weight_norm_max ||
                      k.trust_ratio_min || k.trust_ratio_max;
  MB_CHECK(
      !bounds || has_ratio(p),
      "optimizer: trust_coefficient, weight_norm_min, weight_norm_max, trust_ratio_min and "
      "trust_ratio_max act on a trust ratio, but {} adapts no tensor here. Leave them at auto, "
      "or set adapt to all or decayed with an optimizer that has a ratio.",
      name);
  MB_CHECK(p.trust_coefficient > 0 && std::isfinite(p.trust_coefficient),
           "optimizer: trust_coefficient is {:g}, expected more than 0", p.trust_coefficient);
  for (const double bound :
       {p.weight_norm_min, p.weight_norm_max, p.trust_ratio_min, p.trust_ratio_max})
    MB_CHECK(
        bound >= 0 && std::isfinite(bound),
        "optimizer: a bound of the weight norm or of the trust ratio is {:g}, expected 0 (none) "
        "or more",
        bound);
  check_bounds(name, "weight_norm", p.weight_norm_min, p.weight_norm_max);
  check_bounds(name, "trust_ratio", p.trust_ratio_min, p.trust_ratio_max);
}

void check_direction(const std::string& name, const OptimizerPolicies& p,
                     std::optional<float> eps) {
  MB_CHECK(!eps || !is_momentum(p) || p.ratio_of == RatioOf::gradient,
           "optimizer: eps is {:g}, but {} divides by nothing that could be 0. Leave epsilon at 0 "
           "(the optimizer's own).",
           *eps, name);
  MB_CHECK(
      !is_momentum(p) || p.bias_correction == BiasCorrection::none,
      "optimizer: bias_correction is {}, but {} has no moments of Adam's to correct. Set it to "
      "none or auto.",
      text_of(kCorrections, p.bias_correction), name);
  MB_CHECK(!is_momentum(p) || !p.epsilon_inside_root,
           "optimizer: epsilon_inside_root is on, but {} takes no root. Set it to off or auto.",
           name);
  MB_CHECK(!p.nesterov || (is_momentum(p) && (p.ratio_of != RatioOf::update || !has_ratio(p))),
           "optimizer: nesterov is on, but {}. Use it with sgd or lars-mlperf.",
           is_momentum(p) ? name + "'s ratio is of the momentum itself"
                          : name + " is no momentum method");
}

void check_clipping(const std::string& name, const OptimizerPolicies& p, const OptimizerKnobs& k,
                    float max_grad_norm) {
  const bool asked = k.clipping && *k.clipping != GradientClipping::none;
  MB_CHECK(!asked || max_grad_norm > 0,
           "optimizer: gradient_clipping is {} with max_grad_norm 0, expected a norm to clip to. "
           "Give max_grad_norm, or set gradient_clipping to none.",
           text_of(kClippings, p.clipping));
  MB_CHECK(!asked || p.direction != Direction::lans,
           "optimizer: gradient_clipping is {}, but {} gives each tensor's gradient the norm 1, "
           "which undoes clipping. Set it to none or auto.",
           text_of(kClippings, p.clipping), name);
}

template <typename Value, typename Given>
void override_with(Value& value, const std::optional<Given>& given) {
  if (given) value = *given;
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

int moment_count(const OptimizerPolicies& policies) {
  return is_momentum(policies) ? 1 : 2;
}

const std::vector<OptimizerKnob>& optimizer_knobs() {
  using P = OptimizerPolicies;
  static const std::vector<OptimizerKnob> knobs{
      {"adapt", choices_of(kAdapts),
       "which tensors have a trust ratio |w| / |update|: all; decayed: those with weight decay, by "
       "name; nonzero_decay: those whose decay is not 0",
       [](const P& p) {
         return text_of(kAdapts, p.ratio_of == RatioOf::none ? Adapts::none : p.adapts);
       }},
      {"bias_correction", choices_of(kCorrections),
       "where 1 - beta^t corrects the moments' start at zero: in the moments, or in the step size "
       "(which then scales decay too), or nowhere",
       [](const P& p) { return is_momentum(p) ? "" : text_of(kCorrections, p.bias_correction); }},
      {"gradient_clipping", choices_of(kClippings),
       "what max_grad_norm bounds: the norm of all gradients together, that of each tensor, or "
       "nothing",
       [](const P& p) { return text_of(kClippings, p.clipping); }},
      {"epsilon_inside_root", choices_of(kSwitch), "on: sqrt(v + epsilon); off: sqrt(v) + epsilon",
       [](const P& p) { return is_momentum(p) ? "" : text_of(kSwitch, p.epsilon_inside_root); }},
      {"gradient_averaging", choices_of(kSwitch),
       "on: the first moment takes (1 - beta1) g; off: all of g",
       [](const P& p) { return text_of(kSwitch, p.gradient_averaging); }},
      {"nesterov", choices_of(kSwitch), "on: Nesterov's momentum, beta1 m + g (sgd, lars-mlperf)",
       [](const P& p) { return is_momentum(p) ? text_of(kSwitch, p.nesterov) : ""; }},
      {"trust_coefficient",
       {},
       "the trust ratio is multiplied by it",
       [](const P& p) { return has_ratio(p) ? number(p.trust_coefficient) : ""; }},
      {"weight_norm_min",
       {},
       "|w| in the trust ratio is at least this; 0 = no bound",
       [](const P& p) { return has_ratio(p) ? bound(p.weight_norm_min) : ""; }},
      {"weight_norm_max",
       {},
       "|w| in the trust ratio is at most this; 0 = no bound",
       [](const P& p) { return has_ratio(p) ? bound(p.weight_norm_max) : ""; }},
      {"trust_ratio_min",
       {},
       "the trust ratio is at least this; 0 = no bound",
       [](const P& p) { return has_ratio(p) ? bound(p.trust_ratio_min) : ""; }},
      {"trust_ratio_max",
       {},
       "the trust ratio is at most this; 0 = no bound",
       [](const P& p) { return has_ratio(p) ? bound(p.trust_ratio_max) : ""; }},
  };
  return knobs;
}

void set_knob(OptimizerKnobs& knobs, const std::string& key, const std::string& word) {
  if (key == "adapt") return set_word(knobs.adapts, kAdapts, word);
  if (key == "bias_correction") return set_word(knobs.bias_correction, kCorrections, word);
  if (key == "gradient_clipping") return set_word(knobs.clipping, kClippings, word);
  if (key == "epsilon_inside_root") return set_word(knobs.epsilon_inside_root, kSwitch, word);
  if (key == "gradient_averaging") return set_word(knobs.gradient_averaging, kSwitch, word);
  if (key == "nesterov") return set_word(knobs.nesterov, kSwitch, word);
  MB_ASSERT(false, "optimizer: {} is no knob that takes words", key);
}

OptimizerPolicies policies_in_force(const OptimizerVariant& variant, const OptimizerKnobs& knobs,
                                    std::optional<float> eps, float max_grad_norm) {
  OptimizerPolicies p = variant.policies;
  override_with(p.adapts, knobs.adapts);
  override_with(p.bias_correction, knobs.bias_correction);
  override_with(p.clipping, knobs.clipping);
  override_with(p.eps, eps);
  override_with(p.epsilon_inside_root, knobs.epsilon_inside_root);
  override_with(p.gradient_averaging, knobs.gradient_averaging);
  override_with(p.nesterov, knobs.nesterov);
  override_with(p.trust_coefficient, knobs.trust_coefficient);
  override_with(p.weight_norm_min, knobs.weight_norm_min);
  override_with(p.weight_norm_max, knobs.weight_norm_max);
  override_with(p.trust_ratio_min, knobs.trust_ratio_min);
  override_with(p.trust_ratio_max, knobs.trust_ratio_max);
  check_ratio(variant.name, p, knobs);
  check_direction(variant.name, p, eps);
  check_clipping(variant.name, p, knobs, max_grad_norm);
  if (max_grad_norm == 0) p.clipping = GradientClipping::none;
  return p;
}

UpdateRule update_rule(const OptimizerPolicies& p, double beta1, double beta2) {
  UpdateRule rule{.direction = p.direction,
                  .beta1 = beta1,
                  .beta2 = beta2,
                  .eps = p.eps,
                  .eps_inside_root = p.epsilon_inside_root,
                  .averages = p.gradient_averaging,
                  .decay_first = p.decay == DecayPlace::weight,
                  .nesterov = p.nesterov,
                  .rate_in_momentum = p.rate_in_momentum,
                  .ratio_of = p.ratio_of,
                  .trust = {.weight_norm_min = p.weight_norm_min,
                            .weight_norm_max = p.weight_norm_max,
                            .ratio_min = p.trust_ratio_min,
                            .ratio_max = p.trust_ratio_max,
                            .coefficient = p.trust_coefficient,
                            .eps = p.ratio_of == RatioOf::gradient ? p.eps : 0}};
  // Without a ratio one pass will do; lans needs two whatever it adapts.
  if (!has_ratio(p) && p.direction != Direction::lans) rule.ratio_of = RatioOf::none;
  return rule;
}

std::string describe(const OptimizerPolicies& policies) {
  std::vector<std::string> parts;
  for (const OptimizerKnob& knob : optimizer_knobs()) {
    const std::string value = knob.value(policies);
    if (!value.empty()) parts.push_back(fmt::format("{} {}", knob.key, value));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace minibert
