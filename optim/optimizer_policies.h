// optimizer_policies.h: the published optimizers as rows of one table of policies, the knobs by which
// a run departs from its row, and their meaning in words for --help and `train --list-optimizers`.
// Read by optim/optimizer.cpp, which turns the policies in force into the kernels' UpdateRule; an
// optimizer is nothing but its row: no code asks for a name. Easy to break: "lamb" and "adamw" give
// the bits they always gave; 0 as a bound means none. Sources: beside each row in
// optimizer_policies.cpp; docs/optimizers.md explains them. Test: ctest -R optim_optimizer.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/kernels/optimizer.h"

namespace minibert {

/// Where 1 - beta^t corrects the moments' start at zero (Adam's): each moment; or the learning rate,
/// by sqrt(1 - beta2^t) / (1 - beta1^t), so that decay is scaled too and eps is not; or nowhere.
enum class BiasCorrection { none, moments, step_size };
/// Which tensors have a trust ratio. decayed: those that no_decay does not name, even where the weight
/// decay is 0; nonzero_decay: those whose weight decay is not 0 (apex).
enum class Adapts { none, all, decayed, nonzero_decay };
/// Gradients are scaled down to max_grad_norm: all by their common norm, or each tensor by its own.
enum class GradientClipping { none, global, tensor };
/// Where weight decay enters: beside the direction, so inside the ratio's norm; into the gradient,
/// before the moments (L2 regularisation); or into the weight before the step (PyTorch's AdamW).
enum class DecayPlace { direction, gradient, weight };

/// One optimizer. The letters are those of core/kernels/optimizer.h, section 1.
struct OptimizerPolicies {
  Direction direction = Direction::adam;
  DecayPlace decay = DecayPlace::direction;
  RatioOf ratio_of = RatioOf::none;  // none: has no trust ratio, whatever `adapts` says
  bool rate_in_momentum = false;
  // ---- Knobs
  Adapts adapts = Adapts::none;
  BiasCorrection bias_correction = BiasCorrection::none;
  GradientClipping clipping = GradientClipping::none;
  float eps = 1e-6f;
  bool epsilon_inside_root = false;
  bool gradient_averaging = true;  // m takes (1 - beta1) g; false: all of g
  bool nesterov = false;
  double trust_coefficient = 1;
  double weight_norm_min = 0, weight_norm_max = 0;  // phi's bounds of |w|
  double trust_ratio_min = 0, trust_ratio_max = 0;  // of the ratio
};

struct OptimizerVariant {
  const char* name;  // as in a configuration, "lamb"
  OptimizerPolicies policies;
  const char* summary;  // one line with the source, for --help and the log
  const char* formula;  // the update of one tensor, short
  const char* source;   // where the rule was published
};

/// The table, in order of increasing complexity.
std::span<const OptimizerVariant> optimizer_variants();
/// Errors: UsageError naming the known variants.
const OptimizerVariant& optimizer_variant(const std::string& name);
/// 2: of the gradient and its square; 1: momentum alone.
int moment_count(const OptimizerPolicies& policies);

/// What the user sets beside the row; what is absent stays as the row says.
struct OptimizerKnobs {
  std::optional<Adapts> adapts;
  std::optional<BiasCorrection> bias_correction;
  std::optional<GradientClipping> clipping;
  std::optional<bool> epsilon_inside_root, gradient_averaging, nesterov;
  std::optional<double> trust_coefficient;
  std::optional<double> weight_norm_min, weight_norm_max, trust_ratio_min, trust_ratio_max;
};

/// A knob in words: its setting's key, the words it takes ("auto" first; none: a number or "auto"),
/// its meaning, and its value in a row, "" where it means nothing there.
struct OptimizerKnob {
  const char* key;
  std::vector<std::string> choices;
  const char* help;
  std::string (*value)(const OptimizerPolicies&);
};
/// In the order of OptimizerPolicies; without epsilon, which is a setting of its own.
const std::vector<OptimizerKnob>& optimizer_knobs();
/// Sets a knob that takes words. "auto" leaves it. The word is one of its choices.
void set_knob(OptimizerKnobs& knobs, const std::string& key, const std::string& word);

/// The row with the knobs' values, and what they can't mean together.
/// `eps`: the user's, if any; `max_grad_norm` 0 is no clipping.
/// Errors: UsageError naming the knob, its value, the optimizer and what to do.
OptimizerPolicies policies_in_force(const OptimizerVariant& variant, const OptimizerKnobs& knobs,
                                    std::optional<float> eps, float max_grad_norm);

/// The kernels' rule of these policies.
UpdateRule update_rule(const OptimizerPolicies& policies, double beta1, double beta2);

/// Every knob in force, on one line.
std::string describe(const OptimizerPolicies& policies);

}  // namespace minibert
