// optimizer.cpp: the plain optimizer steps, and the callers of the fast ones.
#include "core/kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/reference.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

// One piece each, in a step that is applied.
MB_SIMD_DECLARE(double, square_sum_piece, (const SquareSumsArgs& args, const OptimizerPiece& piece))
MB_SIMD_DECLARE(SquareSums, optimizer_norms_piece,
                (const OptimizerArgs& args, const OptimizerPiece& piece))
MB_SIMD_DECLARE(SquareSums, optimizer_moments_piece,
                (const OptimizerArgs& args, const OptimizerPiece& piece))
MB_SIMD_DECLARE(void, optimizer_apply_piece,
                (const OptimizerArgs& args, const OptimizerPiece& piece))
MB_SIMD_DECLARE(void, optimizer_step_piece,
                (const OptimizerArgs& args, const OptimizerPiece& piece))

namespace {

void check_tables(const char* op, const OptimizerTables& tables, const PieceRange& range) {
  MB_ASSERT((tables.tensors != nullptr || tables.tensor_count == 0) &&
                (tables.pieces != nullptr || tables.piece_count == 0),
            "{}: a table is not given", op);
  MB_ASSERT(range.first >= 0 && range.count >= 0 && range.count <= tables.piece_count - range.first,
            "{}: pieces are {} from {} on, but there are {}", op, range.count, range.first,
            tables.piece_count);
}

void check(const char* op, const SquareSumsArgs& args) {
  check_rank(op, "x", args.x, 1);
  check_tables(op, args.tables, args.range);
}

void check(const char* op, const OptimizerArgs& args) {
  check_rank(op, "masters", args.masters, 1);
  const Shape size = shape_of(args.masters);
  check_tensor(op, "gradients", args.gradients, size, "one per element of masters");
  check_tensor(op, "first_moment", args.first_moment, size, "one per element of masters");
  if (has_second_moment(args.rule))
    check_tensor(op, "second_moment", args.second_moment, size, "one per element of masters");
  check_compute(op, "working", args.working, 1);
  check_tensor(op, "working", args.working, size, "one per element of masters",
               args.working.dtype());
  MB_CHECK(args.working.dtype() != DType::f32 || args.working.raw() == args.masters.raw(),
           "{}: working is a second f32 buffer, expected the masters (f32 needs no copy)", op);
  check_tables(op, args.tables, args.range);
  MB_ASSERT(args.state != nullptr, "{}: state is not given", op);
  MB_ASSERT(args.rule.ratio_of == RatioOf::none || (args.piece_sums && args.norms),
            "{}: a ratio needs piece_sums and norms", op);
}

}  // namespace

std::vector<OptimizerPiece> cut_into_pieces(std::span<OptimizerTensor> tensors, int64_t size) {
  std::vector<OptimizerPiece> pieces;
  int64_t free = 0;  // first element after the tensors so far
  for (size_t k = 0; k < tensors.size(); ++k) {
    OptimizerTensor& t = tensors[k];
    MB_CHECK(t.offset >= free && t.count >= 0 && t.count <= size - t.offset,
             "optimizer: tensor {} is [{}, {}), expected a range from {} on (the end of the tensor "
             "before it) within the buffers' {} elements",
             k, t.offset, t.offset + t.count, free, size);
    free = t.offset + t.count;
    t.first_piece = static_cast<int32_t>(pieces.size());
    for (int64_t begin = t.offset; begin < free;) {
      const int64_t border = (begin / kOptimizerChunk + 1) * kOptimizerChunk;
      const int64_t end = std::min(border, free);
      pieces.push_back({begin, static_cast<int32_t>(end - begin), static_cast<int32_t>(k)});
      begin = end;
    }
    t.pieces = static_cast<int32_t>(pieces.size()) - t.first_piece;
  }
  return pieces;
}

PieceRange piece_range(std::span<const OptimizerPiece> pieces, size_t first, size_t end) {
  PieceRange range{static_cast<int32_t>(first), static_cast<int32_t>(end - first), 0};
  for (const OptimizerPiece& piece : pieces.subspan(first, end - first))
    range.elements += piece.count;
  return range;
}

// ---- 3. Cost -----------------------------------------------------------------------------------
namespace {

// Bytes of writing the working copy of one weight.
double copy_bytes_of(const OptimizerArgs& args) {
  return args.working.dtype() == DType::f32 ? 0.0
                                            : static_cast<double>(size_of(args.working.dtype()));
}

}  // namespace

Cost piece_square_sums_cost(const SquareSumsArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  return {2 * n, 4 * n};
}
Cost tensor_square_sums_cost(const SquareSumsArgs& args) {
  const double pieces = args.tables.piece_count, tensors = args.tables.tensor_count;
  return {pieces, sizeof(double) * (pieces + tensors)};
}
Cost gradient_scales_cost(const GradientScalesArgs& args) {
  const double tensors = args.tables.tensor_count;
  return {5 * tensors, (sizeof(double) + sizeof(float)) * tensors};
}
Cost optimizer_norms_cost(const OptimizerArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  return {5 * n, 8 * n};
}
Cost optimizer_moments_cost(const OptimizerArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  return {15 * n, (has_second_moment(args.rule) ? 24 : 16) * n};
}
Cost optimizer_ratios_cost(const OptimizerArgs& args) {
  const double pieces = args.tables.piece_count, tensors = args.tables.tensor_count;
  return {2 * pieces, sizeof(SquareSums) * pieces + sizeof(TensorNorms) * tensors};
}
Cost optimizer_apply_cost(const OptimizerArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  const double reads_gradient = args.rule.direction == Direction::lans ? 4 : 0;
  const double bytes = (has_second_moment(args.rule) ? 16 : 12) + reads_gradient;
  return {15 * n, (bytes + copy_bytes_of(args)) * n};
}
Cost optimizer_step_cost(const OptimizerArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  return {15 * n, ((has_second_moment(args.rule) ? 28 : 20) + copy_bytes_of(args)) * n};
}

// ---- 6. Reference ------------------------------------------------------------------------------
namespace {

// Section 1 for one tensor, letter by letter, in double.
class TensorReference {
 public:
  TensorReference(const OptimizerArgs& args, int32_t number)
      : args_(args),
        rule_(args.rule),
        state_(*args.state),
        t_(args.tables.tensors[number]),
        norms_(args.norms ? args.norms + number : nullptr),
        a_(gradient_share(args.rule)),
        s_(static_cast<double>(state_.learning_rate) * state_.step_correction),
        c_(args.gradient_scales ? args.gradient_scales[number] : state_.gradient_scale),
        u_(static_cast<size_t>(t_.count)),
        q_(u_) {}

  void step() {
    TensorNorms norms;
    if (rule_.ratio_of == RatioOf::gradient) norms = norms_from(gradients());
    const double rate = s_ * norms.trust_ratio;
    for (int64_t i = 0; i < t_.count; ++i)
      rule_.direction == Direction::momentum ? momentum(i, rate) : adam(i);
    if (rule_.ratio_of == RatioOf::update) norms = norms_from(u_);
    for (int64_t i = 0; i < t_.count; ++i) put_weight(i, updated(i, norms));
    if (rule_.ratio_of != RatioOf::none) *norms_ = norms;
  }

 private:
  double gradient(int64_t i) const { return get(args_.gradients, t_.offset + i) * c_; }
  double weight(int64_t i) const { return get(args_.masters, t_.offset + i); }
  void put_weight(int64_t i, double w) {
    put(args_.masters, t_.offset + i, w);
    put(args_.working, t_.offset + i, weight(i));
  }

  void adam(int64_t i) {
    const int64_t at = t_.offset + i;
    const double g = gradient(i), b1 = rule_.beta1, b2 = rule_.beta2, eps = rule_.eps;
    put(args_.first_moment, at, b1 * get(args_.first_moment, at) + a_ * g);
    put(args_.second_moment, at, b2 * get(args_.second_moment, at) + (1 - b2) * g * g);
    const double v = get(args_.second_moment, at) * state_.v_correction;
    const double root = rule_.eps_inside_root ? std::sqrt(v + eps) : std::sqrt(v) + eps;
    const double decay = rule_.decay_first ? 0 : t_.decay * weight(i);
    u_[static_cast<size_t>(i)] = get(args_.first_moment, at) * state_.m_correction / root + decay;
    q_[static_cast<size_t>(i)] = g / root + decay;
  }
  void momentum(int64_t i, double rate) {
    const int64_t at = t_.offset + i;
    const double d = gradient(i) + t_.decay * weight(i);
    const double added = a_ * d * (rule_.rate_in_momentum ? rate : 1);
    put(args_.first_moment, at, rule_.beta1 * get(args_.first_moment, at) + added);
    const double m = get(args_.first_moment, at);
    u_[static_cast<size_t>(i)] = rule_.nesterov ? rule_.beta1 * m + added : m;
  }

  double updated(int64_t i, const TensorNorms& norms) const {
    const double w = weight(i), u = u_[static_cast<size_t>(i)], q = q_[static_cast<size_t>(i)];
    if (rule_.rate_in_momentum) return w - u;
    if (rule_.decay_first)
      return w * (1 - static_cast<double>(state_.learning_rate) * t_.decay) - s_ * u;
    if (rule_.direction == Direction::lans)
      return w - s_ * (rule_.beta1 * norms.trust_ratio * u + a_ * norms.gradient_ratio * q);
    return w - s_ * norms.trust_ratio * u;
  }

  std::vector<double> gradients() const {
    std::vector<double> g(u_.size());
    for (int64_t i = 0; i < t_.count; ++i) g[static_cast<size_t>(i)] = gradient(i);
    return g;
  }
  TensorNorms norms_from(const std::vector<double>& update) const {
    SquareSums sums;
    for (int64_t i = 0; i < t_.count; ++i) {
      sums.weight += weight(i) * weight(i);
      sums.update += update[static_cast<size_t>(i)] * update[static_cast<size_t>(i)];
      sums.gradient_update += q_[static_cast<size_t>(i)] * q_[static_cast<size_t>(i)];
    }
    return norms_of(rule_, t_, sums);
  }

  const OptimizerArgs& args_;
  const UpdateRule& rule_;
  const StepState& state_;
  const OptimizerTensor& t_;
  TensorNorms* norms_;
  double a_, s_, c_;
  std::vector<double> u_, q_;
};

}  // namespace

void square_sums_reference(const SquareSumsArgs& args) {
  for (int32_t k = 0; k < args.tables.tensor_count; ++k) {
    const OptimizerTensor& t = args.tables.tensors[k];
    double squares = 0;
    for (int64_t i = t.offset; i < t.offset + t.count; ++i)
      squares += get(args.x, i) * get(args.x, i);
    args.tensor_sums[k] = squares;
  }
}

void optimizer_reference(const OptimizerArgs& args) {
  if (args.state->applied == 0) return;
  for (int32_t k = 0; k < args.tables.tensor_count; ++k) TensorReference(args, k).step();
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
namespace {

// body(number of the piece, piece) for each piece of the range.
template <typename Body>
void parallel_pieces(const OptimizerTables& tables, const PieceRange& range, const Body& body) {
  parallel_blocks(range.count, [&](int64_t block) {
    const int64_t i = range.first + block;
    body(i, tables.pieces[i]);
  });
}

void add_pieces(const SquareSumsArgs& args) {
  for (int32_t k = 0; k < args.tables.tensor_count; ++k) {
    const OptimizerTensor& t = args.tables.tensors[k];
    double sum = 0;
    for (int32_t i = 0; i < t.pieces; ++i) sum += args.piece_sums[t.first_piece + i];
    args.tensor_sums[k] = sum;
  }
}

void ratios_cpu(const OptimizerArgs& args) {
  for (int32_t k = 0; k < args.tables.tensor_count; ++k) {
    const OptimizerTensor& t = args.tables.tensors[k];
    SquareSums sums;
    for (int32_t i = 0; i < t.pieces; ++i) {
      sums.weight += args.piece_sums[t.first_piece + i].weight;
      sums.update += args.piece_sums[t.first_piece + i].update;
      sums.gradient_update += args.piece_sums[t.first_piece + i].gradient_update;
    }
    args.norms[k] = norms_of(args.rule, t, sums);
  }
}

}  // namespace

void piece_square_sums(const SquareSumsArgs& args) {
  check("piece_square_sums", args);
  dispatch(
      "piece_square_sums", args.x.device(), [&] { return piece_square_sums_cost(args); },
      [&] {
        parallel_pieces(args.tables, args.range, [&](int64_t i, const OptimizerPiece& piece) {
          args.piece_sums[i] = MB_SIMD(square_sum_piece)(args, piece);
        });
      },
      [&](Stream stream) { piece_square_sums_cuda(args, stream); });
}

void tensor_square_sums(const SquareSumsArgs& args) {
  check("tensor_square_sums", args);
  dispatch(
      "tensor_square_sums", args.x.device(), [&] { return tensor_square_sums_cost(args); },
      [&] { add_pieces(args); }, [&](Stream stream) { tensor_square_sums_cuda(args, stream); });
}

void gradient_scales(const GradientScalesArgs& args) {
  MB_ASSERT(args.tensor_sums && args.scales && args.state, "gradient_scales: a pointer is null");
  dispatch(
      "gradient_scales", args.device, [&] { return gradient_scales_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        for (int32_t k = 0; k < args.tables.tensor_count; ++k)
          args.scales[k] = gradient_scale(args, args.tensor_sums[k]);
      },
      [&](Stream stream) { gradient_scales_cuda(args, stream); });
}

// The passes run over everything, not tensor by tensor: what a cache-sized group of tensors saves in
// memory traffic was measured to be less than what its two extra barriers cost on a busy machine.
void optimizer_norms(const OptimizerArgs& args) {
  check("optimizer_norms", args);
  MB_ASSERT(args.rule.ratio_of == RatioOf::gradient, "optimizer_norms: no ratio of the gradient");
  dispatch(
      "optimizer_norms", args.masters.device(), [&] { return optimizer_norms_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        parallel_pieces(args.tables, args.range, [&](int64_t i, const OptimizerPiece& piece) {
          args.piece_sums[i] = MB_SIMD(optimizer_norms_piece)(args, piece);
        });
      },
      [&](Stream stream) { optimizer_norms_cuda(args, stream); });
}

void optimizer_moments(const OptimizerArgs& args) {
  check("optimizer_moments", args);
  MB_ASSERT(args.rule.ratio_of == RatioOf::update, "optimizer_moments: no ratio of the update");
  dispatch(
      "optimizer_moments", args.masters.device(), [&] { return optimizer_moments_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        parallel_pieces(args.tables, args.range, [&](int64_t i, const OptimizerPiece& piece) {
          args.piece_sums[i] = MB_SIMD(optimizer_moments_piece)(args, piece);
        });
      },
      [&](Stream stream) { optimizer_moments_cuda(args, stream); });
}

void optimizer_ratios(const OptimizerArgs& args) {
  check("optimizer_ratios", args);
  MB_ASSERT(args.rule.ratio_of != RatioOf::none, "optimizer_ratios: the rule has none");
  dispatch(
      "optimizer_ratios", args.masters.device(), [&] { return optimizer_ratios_cost(args); },
      [&] {
        if (args.state->applied != 0) ratios_cpu(args);
      },
      [&](Stream stream) { optimizer_ratios_cuda(args, stream); });
}

void optimizer_apply(const OptimizerArgs& args) {
  check("optimizer_apply", args);
  MB_ASSERT(args.rule.ratio_of == RatioOf::update, "optimizer_apply: no ratio of the update");
  dispatch(
      "optimizer_apply", args.masters.device(), [&] { return optimizer_apply_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        parallel_pieces(args.tables, args.range, [&](int64_t, const OptimizerPiece& piece) {
          MB_SIMD(optimizer_apply_piece)(args, piece);
        });
      },
      [&](Stream stream) { optimizer_apply_cuda(args, stream); });
}

void optimizer_step(const OptimizerArgs& args) {
  check("optimizer_step", args);
  MB_ASSERT(args.rule.ratio_of != RatioOf::update && args.rule.direction != Direction::lans,
            "optimizer_step: the rule needs two passes");
  dispatch(
      "optimizer_step", args.masters.device(), [&] { return optimizer_step_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        parallel_pieces(args.tables, args.range, [&](int64_t, const OptimizerPiece& piece) {
          MB_SIMD(optimizer_step_piece)(args, piece);
        });
      },
      [&](Stream stream) { optimizer_step_cuda(args, stream); });
}

}  // namespace minibert
