// optimizer.cpp: the one step, and what is kept around it.
#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/kernels/copy.h"

namespace minibert {
namespace {

// What norms hold before the first applied step; no L2 norm is negative.
constexpr TensorNorms kNoNorms{.weight = -1, .update = -1};

// PyTorch's names of the moments, after the parameter's.
constexpr const char* kMomentNames[] = {".exp_avg", ".exp_avg_sq"};

bool matches(const std::string& name, const std::vector<std::string>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const std::string& part) { return name.find(part) != std::string::npos; });
}

void check(const OptimizerOptions& o, const OptimizerPolicies& policies) {
  const float eps = policies.eps;
  const bool divides = policies.direction != Direction::momentum;
  MB_CHECK(o.beta1 >= 0 && o.beta1 < 1, "optimizer: beta1 is {}, expected 0 <= beta1 < 1", o.beta1);
  MB_CHECK(o.beta2 >= 0 && o.beta2 < 1, "optimizer: beta2 is {}, expected 0 <= beta2 < 1", o.beta2);
  MB_CHECK(std::isfinite(eps) && (eps > 0 || (eps == 0 && !divides)),
           "optimizer: eps is {}, expected more than 0", eps);
  MB_CHECK(std::isfinite(o.weight_decay) && o.weight_decay >= 0,
           "optimizer: weight_decay is {}, expected 0 or more", o.weight_decay);
  MB_CHECK(std::isfinite(o.max_grad_norm) && o.max_grad_norm >= 0,
           "optimizer: max_grad_norm is {}, expected 0 (off) or more", o.max_grad_norm);
}

// What the step after `row` applied ones uses, for every row of the schedule.
std::vector<StepRates> rates_of(const RunSchedule& schedule, const OptimizerOptions& o,
                                BiasCorrection correction) {
  const int64_t steps = schedule.total_steps();
  std::vector<StepRates> rates(static_cast<size_t>(steps));
  for (int64_t row = 0; row < steps; ++row) {
    StepRates& rate = rates[static_cast<size_t>(row)];
    rate.learning_rate = schedule.learning_rate(row);
    const double t = static_cast<double>(schedule.moment_step(row));
    const double m = 1 / (1 - std::pow(o.beta1, t)), v = 1 / (1 - std::pow(o.beta2, t));
    if (correction == BiasCorrection::moments) {
      rate.m_correction = static_cast<float>(m);
      rate.v_correction = static_cast<float>(v);
    } else if (correction == BiasCorrection::step_size) {
      rate.step_correction = static_cast<float>(m / std::sqrt(v));
    }
  }
  return rates;
}

}  // namespace

Optimizer::Optimizer(Arena& arena, OptimizerOptions options, const RunSchedule& schedule,
                     LossScaling scaling)
    : arena_(arena),
      options_(std::move(options)),
      variant_(optimizer_variant(options_.name)),
      policies_(policies_in_force(variant_, options_.knobs, options_.eps, options_.max_grad_norm)),
      rule_(update_rule(policies_, options_.beta1, options_.beta2)),
      scaler_(scaling) {
  check(options_, policies_);
  arena_.with_gradients();
  const auto category = MemoryCategory::optimizer_state;
  for (int k = 0; k < moment_count(policies_); ++k)
    moments_.push_back(
        Tensor::zeros({arena_.table().size()}, DType::f32, category, arena_.device()));
  rates_ = {rates_of(schedule, options_, policies_.bias_correction), category, arena_.device()};
  make_tables();
}

namespace {

/// `decays`: by name.
bool adapts(Adapts who, bool decays, float decay) {
  switch (who) {
    case Adapts::none:
      return false;
    case Adapts::all:
      return true;
    case Adapts::decayed:
      return decays;
    case Adapts::nonzero_decay:
      return decay != 0;
  }
  return false;
}

}  // namespace

void Optimizer::make_tables() {
  std::vector<OptimizerTensor> tensors;
  for (const ParameterSlice& slice : arena_.table().slices()) {
    // By name, as LAMB's authors have it: a weight decay of 0 still leaves matrices adapted.
    const bool decays = !matches(slice.name, options_.no_decay);
    const float decay = decays ? options_.weight_decay : 0.0f;
    tensors.push_back({.offset = slice.offset,
                       .count = slice.used(),
                       .decay = decay,
                       .adapt = adapts(policies_.adapts, decays, decay)});
  }
  const std::vector<OptimizerPiece> pieces = cut_into_pieces(tensors, arena_.table().size());
  parts_ = {
      {.pieces = piece_range(pieces, 0, pieces.size()), .elements = {0, arena_.table().size()}}};
  const auto category = MemoryCategory::optimizer_state;
  const Device device = arena_.device();
  tensors_ = {tensors, category, device};
  pieces_ = {pieces, category, device};
  piece_squares_ = {pieces.size(), category, device};
  tensor_squares_ = {tensors.size(), category, device};
  if (rule_.direction == Direction::lans || policies_.clipping == GradientClipping::tensor)
    gradient_scales_ = {tensors.size(), category, device};
  if (rule_.ratio_of == RatioOf::none) return;
  piece_sums_ = {pieces.size(), category, device};
  norms_ = {std::vector<TensorNorms>(tensors.size(), kNoNorms), category, device};
}

StepState Optimizer::initial_state() const {
  StepState state;
  state.loss_scale = scaler_.initial();
  return state;
}

// ---- The step ----------------------------------------------------------------------------------

void Optimizer::step(StepState* state) {
  const StepControlArgs control = control_args(state);
  square_sums(arena_.gradients());
  step_decide(control);
  scale_gradients(state);
  update(state);
  step_finish(control);
  arena_.touch();
}

/// Factors of each tensor's own, where the policies have some: from the norms in tensor_squares_.
void Optimizer::scale_gradients(const StepState* state) const {
  if (gradient_scales_.size() == 0) return;
  gradient_scales({.tables = tables(),
                   .device = arena_.device(),
                   .tensor_sums = tensor_squares_.get(),
                   .state = state,
                   .max_norm = options_.max_grad_norm,
                   .normalize = rule_.direction == Direction::lans,
                   .scales = gradient_scales_.get()});
}

/// Weights and moments. A ratio stands between two passes: the first makes the sums of its norms.
void Optimizer::update(const StepState* state) const {
  const auto each_part = [&](void (*pass)(const OptimizerArgs&)) {
    for (const Part& part : parts_) pass(update_args(state, part));
  };
  if (rule_.ratio_of != RatioOf::none) {
    if (shard_.ranks) piece_sums_.fill_zero();
    each_part(rule_.ratio_of == RatioOf::update ? optimizer_moments : optimizer_norms);
    add_up(piece_sums_.get(), sizeof(SquareSums) / sizeof(double) * piece_sums_.size());
    optimizer_ratios(update_args(state, parts_.front()));
  }
  each_part(rule_.ratio_of == RatioOf::update ? optimizer_apply : optimizer_step);
}

/// Into tensor_squares_.
void Optimizer::square_sums(const Tensor& x) const {
  SquareSumsArgs args{.x = x,
                      .tables = tables(),
                      .piece_sums = piece_squares_.get(),
                      .tensor_sums = tensor_squares_.get()};
  if (shard_.ranks) piece_squares_.fill_zero();
  for (const Part& part : parts_) {
    args.range = part.pieces;
    piece_square_sums(args);
  }
  add_up(piece_squares_.get(), piece_squares_.size());
  tensor_square_sums(args);
}

/// Sums of pieces, over ranks: each is some rank's and zero on the others, so it stays exact.
void Optimizer::add_up(void* sums, size_t count) const {
  if (!shard_.ranks) return;
  shard_.ranks->all_reduce({sums, static_cast<int64_t>(count), ElementType::f64, arena_.device()})
      .wait();
}

namespace {

/// Moments as kernels see them, by the flat buffers' offsets. Of a shard's, only the elements of the
/// call's pieces exist.
Operand as_flat(const Tensor& moments, int64_t shift, int64_t size) {
  Operand flat = moments;
  flat.pointer = static_cast<float*>(flat.pointer) + shift;
  flat.dims[0] = size;
  return flat;
}

}  // namespace

OptimizerArgs Optimizer::update_args(const StepState* state, const Part& part) const {
  const int64_t shift = part.first_moment - part.elements.offset;
  return {.masters = arena_.masters(),
          .working = arena_.working(),
          .gradients = arena_.gradients(),
          .first_moment = as_flat(moments_[0], shift, arena_.table().size()),
          .second_moment =
              moments_.size() > 1 ? as_flat(moments_[1], shift, arena_.table().size()) : Operand{},
          .tables = tables(),
          .range = part.pieces,
          .piece_sums = piece_sums_.get(),
          .norms = norms_.get(),
          .rule = rule_,
          .state = state,
          .gradient_scales = gradient_scales_.size() > 0 ? gradient_scales_.get() : nullptr};
}

StepControlArgs Optimizer::control_args(StepState* state) const {
  return {.state = state,
          .device = arena_.device(),
          .tensors = arena_.table().count(),
          .square_sums = tensor_squares_.get(),
          .max_steps = static_cast<int64_t>(rates_.size()),
          .rates = rates_.get(),
          .max_grad_norm = clip_norm(),
          .scaling = scaler_.options()};
}

/// The norm that step_decide clips all gradients to; 0: it does not.
float Optimizer::clip_norm() const {
  return policies_.clipping == GradientClipping::global ? options_.max_grad_norm : 0;
}

OptimizerTables Optimizer::tables() const {
  return {tensors_.get(), pieces_.get(), static_cast<int32_t>(tensors_.size()),
          static_cast<int32_t>(pieces_.size())};
}

// ---- A shard -----------------------------------------------------------------------------------

void Optimizer::shard(OptimizerShard shard) {
  MB_ASSERT(!shard_.ranks && shard.ranks, "optimizer: sharded twice, or over no ranks");
  shard_ = std::move(shard);
  const std::vector<OptimizerPiece> pieces = pieces_.read();
  const auto piece_at = [&](int64_t offset) {
    return static_cast<size_t>(
        std::ranges::lower_bound(pieces, offset, {}, &OptimizerPiece::offset) - pieces.begin());
  };
  parts_.clear();
  int64_t own = 0;
  for (const ElementRange& range : shard_.ranges[static_cast<size_t>(shard_.ranks->rank())]) {
    const int64_t end = range.offset + range.count;
    parts_.push_back({.pieces = piece_range(pieces, piece_at(range.offset), piece_at(end)),
                      .elements = range,
                      .first_moment = own});
    own += range.count;
  }
  for (Tensor& moments : moments_) {
    const Tensor kept =
        Tensor::zeros({own}, DType::f32, MemoryCategory::optimizer_state, arena_.device());
    for (const Part& part : parts_) {
      const Shape size = {part.elements.count};
      kept.slice(part.first_moment, size).copy_from(moments.slice(part.elements.offset, size));
    }
    moments = kept;
  }
}

/// Of all ranks, on each, in the host's memory: range by range, from its owner's device.
std::vector<Tensor> Optimizer::whole_moments() const {
  int64_t longest = 0;
  for (const auto& ranges : shard_.ranges)
    for (const ElementRange& range : ranges) longest = std::max(longest, range.count);
  const Tensor theirs =
      Tensor::empty({longest}, DType::f32, MemoryCategory::workspace, arena_.device());
  std::vector<Tensor> whole;
  for (const Tensor& own : moments_) {
    whole.push_back(Tensor::empty({arena_.table().size()}, DType::f32));
    for (int rank = 0; rank < shard_.ranks->world(); ++rank) {
      int64_t first_moment = 0;
      for (const ElementRange& range : shard_.ranges[static_cast<size_t>(rank)]) {
        if (range.count == 0) continue;
        const Shape size = {range.count};
        const Tensor moments =
            rank == shard_.ranks->rank() ? own.slice(first_moment, size) : theirs.slice(0, size);
        shard_.ranks->broadcast(Elements(moments), rank).wait();
        copy_to_host(moments, whole.back().slice(range.offset, size).raw());
        first_moment += range.count;
      }
    }
  }
  shard_.ranks->check();
  return whole;
}

// ---- What the host asks afterwards -------------------------------------------------------------

Optimizer::StepReport Optimizer::report(const StepState& state) const {
  StepReport report{.grad_norm = state.grad_norm,
                    .learning_rate = state.learning_rate,
                    .applied = state.applied != 0};
  if (state.bad_tensor >= 0) {
    report.bad_gradient = arena_.table()[state.bad_tensor].name;
  } else if (clip_norm() > 0) {
    const double excess = state.grad_norm / clip_norm();
    report.clip_factor = static_cast<float>(1 / std::max(1.0, excess));
  }
  return report;
}

std::vector<TensorNorms> Optimizer::norms() const {
  std::vector<TensorNorms> norms = norms_.read();
  if (!norms.empty() && norms.front().weight == kNoNorms.weight) norms.clear();
  return norms;
}

std::string Optimizer::first_non_finite_weight() const {
  square_sums(arena_.masters());
  const std::vector<double> squares = tensor_squares_.read();
  const auto first =
      std::find_if(squares.begin(), squares.end(), [](double sum) { return !std::isfinite(sum); });
  return first == squares.end() ? ""
                                : arena_.table()[static_cast<int>(first - squares.begin())].name;
}

std::string Optimizer::describe() const {
  const bool two = moments_.size() > 1, clips = policies_.clipping != GradientClipping::none;
  return fmt::format("{}: {}; beta1 {}{}, eps {:g}, weight decay {:g} except [{}]{}; {}",
                     variant_.name, variant_.summary, options_.beta1,
                     two ? fmt::format(", beta2 {}", options_.beta2) : "", eps(),
                     options_.weight_decay, fmt::join(options_.no_decay, ", "),
                     clips ? fmt::format(", clipped to norm {:g}", options_.max_grad_norm) : "",
                     minibert::describe(policies_));
}

// ---- Saving and loading ------------------------------------------------------------------------

std::vector<Optimizer::Moment> Optimizer::moments() const {
  const std::vector<Tensor> buffers = shard_.ranks ? whole_moments() : moments_;
  std::vector<Moment> moments;
  for (const ParameterSlice& slice : arena_.table().slices())
    for (size_t k = 0; k < buffers.size(); ++k)
      moments.push_back(
          {slice.name + kMomentNames[k], buffers[k].slice(slice.offset, slice.shape)});
  return moments;
}

std::vector<std::pair<std::string, Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, Tensor>> state;
  for (const auto& [name, values] : moments()) state.emplace_back(name, values.host_copy());
  return state;
}

namespace {

/// Momentum has one moment and Adam two: neither can go on with the other's.
void check_moment_count(const std::map<std::string, Tensor>& given, size_t own,
                        const std::string& name) {
  const bool has_second = std::ranges::any_of(
      given, [](const auto& entry) { return entry.first.ends_with(kMomentNames[1]); });
  MB_CHECK_AS(
      CheckpointError, given.empty() || has_second == (own == 2),
      "optimizer state: it is that of an optimizer with {}, but {} keeps {}. Resume with the "
      "--optimizer that wrote it, or start a new run with --init-from.",
      has_second ? "two moments (Adam's)" : "one moment (momentum)", name,
      own == 2 ? "two" : "one");
}

}  // namespace

void Optimizer::load_state(const std::vector<std::pair<std::string, Tensor>>& saved) {
  MB_ASSERT(!shard_.ranks, "optimizer: moments are loaded before they are sharded");
  std::map<std::string, Tensor> given(saved.begin(), saved.end());
  const std::vector<Moment> wanted = moments();
  check_moment_count(given, moments_.size(), variant_.name);
  for (const auto& [name, values] : wanted) {
    const auto found = given.find(name);
    MB_CHECK_AS(CheckpointError, found != given.end(),
                "optimizer state: \"{}\" is missing, expected {} tensors, {} per parameter", name,
                wanted.size(), moments_.size() == 1 ? "one" : "two");
    const Tensor& source = found->second;
    MB_CHECK_AS(
        CheckpointError,
        source.defined() && source.dtype() == DType::f32 && source.shape() == values.shape(),
        "optimizer state: \"{}\" is {} {}, expected f32 {} as the parameter", name,
        name_of(source.dtype()), source.shape().str(), values.shape().str());
    given.erase(found);
  }
  MB_CHECK_AS(CheckpointError, given.empty(),
              "optimizer state: \"{}\" belongs to no parameter of this model",
              given.begin()->first);
  given.insert(saved.begin(), saved.end());
  for (const auto& [name, values] : wanted) copy_to_device(given.at(name).raw(), values);
}

}  // namespace minibert
