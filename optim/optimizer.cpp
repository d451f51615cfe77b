// optimizer.cpp: the table of variants and the one step.
#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/kernels/copy.h"
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

// What norms hold before the first applied step; no L2 norm is negative.
constexpr TensorNorms kNoNorms{.weight = -1, .update = -1};

bool matches(const std::string& name, const std::vector<std::string>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const std::string& part) { return name.find(part) != std::string::npos; });
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

// What the step after `row` applied ones uses, for every row of the schedule.
std::vector<StepRates> rates_of(const Schedule& schedule, const OptimizerOptions& o,
                                const OptimizerVariant& variant) {
  const int64_t steps = schedule.options().total_steps;
  MB_CHECK(steps >= 1, "optimizer: the schedule's total_steps are {}, expected 1 or more", steps);
  std::vector<StepRates> rates(static_cast<size_t>(steps));
  for (int64_t row = 0; row < steps; ++row) {
    StepRates& rate = rates[static_cast<size_t>(row)];
    rate.learning_rate = schedule.learning_rate(row);
    if (!variant.bias_correction) continue;
    const double t = static_cast<double>(row + 1);
    rate.m_correction = static_cast<float>(1 / (1 - std::pow(o.beta1, t)));
    rate.v_correction = static_cast<float>(1 / (1 - std::pow(o.beta2, t)));
  }
  return rates;
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

Optimizer::Optimizer(Arena& arena, OptimizerOptions options, const Schedule& schedule,
                     LossScaling scaling)
    : arena_(arena),
      options_(std::move(options)),
      variant_(optimizer_variant(options_.name)),
      scaler_(scaling) {
  check(options_, eps());
  arena_.with_gradients();
  const Shape size = {arena_.table().size()};
  const auto category = MemoryCategory::optimizer_state;
  first_moment_ = Tensor::zeros(size, DType::f32, category, arena_.device());
  second_moment_ = Tensor::zeros(size, DType::f32, category, arena_.device());
  rates_ = {rates_of(schedule, options_, variant_), category, arena_.device()};
  make_tables();
}

void Optimizer::make_tables() {
  std::vector<OptimizerTensor> tensors;
  for (const ParameterSlice& slice : arena_.table().slices()) {
    // By name, as the authors' code has it: a weight decay of 0 still leaves matrices adapted.
    const bool decays = !matches(slice.name, options_.no_decay);
    tensors.push_back({.offset = slice.offset,
                       .count = slice.used(),
                       .decay = decays ? options_.weight_decay : 0.0f,
                       .adapt = decays || variant_.adapt_undecayed});
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
  if (variant_.kind != OptimizerKind::lamb) return;
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
  if (variant_.kind == OptimizerKind::lamb) {
    if (shard_.ranks) piece_sums_.fill_zero();
    for (const Part& part : parts_) lamb_moments(update_args(state, part));
    add_up(piece_sums_.get(), 2 * piece_sums_.size());
    lamb_ratios(update_args(state, parts_.front()));
    for (const Part& part : parts_) lamb_apply(update_args(state, part));
  } else {
    for (const Part& part : parts_) adamw_step(update_args(state, part));
  }
  step_finish(control);
  arena_.touch();
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
          .first_moment = as_flat(first_moment_, shift, arena_.table().size()),
          .second_moment = as_flat(second_moment_, shift, arena_.table().size()),
          .tables = tables(),
          .range = part.pieces,
          .piece_sums = piece_sums_.get(),
          .norms = norms_.get(),
          .adam = {options_.beta1, options_.beta2, eps(), variant_.decay_first},
          .state = state};
}

StepControlArgs Optimizer::control_args(StepState* state) const {
  return {.state = state,
          .device = arena_.device(),
          .tensors = arena_.table().count(),
          .square_sums = tensor_squares_.get(),
          .max_steps = static_cast<int64_t>(rates_.size()),
          .rates = rates_.get(),
          .max_grad_norm = options_.max_grad_norm,
          .scaling = scaler_.options()};
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
  for (Tensor* moments : {&first_moment_, &second_moment_}) {
    const Tensor kept =
        Tensor::zeros({own}, DType::f32, MemoryCategory::optimizer_state, arena_.device());
    for (const Part& part : parts_) {
      const Shape size = {part.elements.count};
      kept.slice(part.first_moment, size).copy_from(moments->slice(part.elements.offset, size));
    }
    *moments = kept;
  }
}

/// Of all ranks, on each, in the host's memory: range by range, from its owner's device.
std::array<Tensor, 2> Optimizer::whole_moments() const {
  int64_t longest = 0;
  for (const auto& ranges : shard_.ranges)
    for (const ElementRange& range : ranges) longest = std::max(longest, range.count);
  const Tensor theirs =
      Tensor::empty({longest}, DType::f32, MemoryCategory::workspace, arena_.device());
  std::array<Tensor, 2> whole;
  for (size_t k = 0; k < 2; ++k) {
    whole[k] = Tensor::empty({arena_.table().size()}, DType::f32);
    for (int rank = 0; rank < shard_.ranks->world(); ++rank) {
      int64_t first_moment = 0;
      for (const ElementRange& range : shard_.ranges[static_cast<size_t>(rank)]) {
        if (range.count == 0) continue;
        const Shape size = {range.count};
        const Tensor moments = rank == shard_.ranks->rank()
                                   ? moment_buffers()[k].slice(first_moment, size)
                                   : theirs.slice(0, size);
        shard_.ranks->broadcast(Elements(moments), rank).wait();
        copy_to_host(moments, whole[k].slice(range.offset, size).raw());
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
  } else if (options_.max_grad_norm > 0) {
    const double excess = state.grad_norm / options_.max_grad_norm;
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
  return fmt::format(
      "{}: {}; beta1 {}, beta2 {}, eps {:g}, weight decay {:g} except [{}], gradient clipping {}",
      variant_.name, variant_.summary, options_.beta1, options_.beta2, eps(), options_.weight_decay,
      fmt::join(options_.no_decay, ", "),
      options_.max_grad_norm > 0 ? fmt::format("to norm {:g}", options_.max_grad_norm) : "off");
}

// ---- Saving and loading ------------------------------------------------------------------------

std::vector<Optimizer::Moment> Optimizer::moments() const {
  const auto [first, second] = shard_.ranks ? whole_moments() : moment_buffers();
  std::vector<Moment> moments;
  for (const ParameterSlice& slice : arena_.table().slices()) {
    moments.push_back({slice.name + ".exp_avg", first.slice(slice.offset, slice.shape)});
    moments.push_back({slice.name + ".exp_avg_sq", second.slice(slice.offset, slice.shape)});
  }
  return moments;
}

std::vector<std::pair<std::string, Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, Tensor>> state;
  for (const auto& [name, values] : moments()) state.emplace_back(name, values.host_copy());
  return state;
}

void Optimizer::load_state(const std::vector<std::pair<std::string, Tensor>>& saved) {
  MB_ASSERT(!shard_.ranks, "optimizer: moments are loaded before they are sharded");
  std::map<std::string, Tensor> given(saved.begin(), saved.end());
  const std::vector<Moment> wanted = moments();
  for (const auto& [name, values] : wanted) {
    const auto found = given.find(name);
    MB_CHECK_AS(CheckpointError, found != given.end(),
                "optimizer state: \"{}\" is missing, expected {} tensors, two per parameter", name,
                wanted.size());
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
