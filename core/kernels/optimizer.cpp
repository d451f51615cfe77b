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
MB_SIMD_DECLARE(SquareSums, lamb_moments_piece,
                (const OptimizerArgs& args, const OptimizerPiece& piece))
MB_SIMD_DECLARE(void, lamb_apply_piece, (const OptimizerArgs& args, const OptimizerPiece& piece))
MB_SIMD_DECLARE(void, adamw_piece, (const OptimizerArgs& args, const OptimizerPiece& piece))

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
  check_tensor(op, "second_moment", args.second_moment, size, "one per element of masters");
  check_compute(op, "working", args.working, 1);
  check_tensor(op, "working", args.working, size, "one per element of masters",
               args.working.dtype());
  MB_CHECK(args.working.dtype() != DType::f32 || args.working.raw() == args.masters.raw(),
           "{}: working is a second f32 buffer, expected the masters (f32 needs no copy)", op);
  check_tables(op, args.tables, args.range);
  MB_ASSERT(args.state != nullptr, "{}: state is not given", op);
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
Cost lamb_moments_cost(const OptimizerArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  return {15 * n, 24 * n};
}
Cost lamb_ratios_cost(const OptimizerArgs& args) {
  const double pieces = args.tables.piece_count, tensors = args.tables.tensor_count;
  return {2 * pieces, sizeof(SquareSums) * pieces + sizeof(TensorNorms) * tensors};
}
Cost lamb_apply_cost(const OptimizerArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  return {15 * n, (16 + copy_bytes_of(args)) * n};
}
Cost adamw_step_cost(const OptimizerArgs& args) {
  const double n = static_cast<double>(args.range.elements);
  return {15 * n, (28 + copy_bytes_of(args)) * n};
}

// ---- 6. Reference ------------------------------------------------------------------------------
namespace {

// Updates m and v of element i and returns the Adam direction, all in double.
double adam_direction(const OptimizerArgs& args, int64_t i) {
  const AdamOptions& a = args.adam;
  const StepState& s = *args.state;
  const double g = get(args.gradients, i) * s.gradient_scale;
  put(args.first_moment, i, a.beta1 * get(args.first_moment, i) + (1 - a.beta1) * g);
  put(args.second_moment, i, a.beta2 * get(args.second_moment, i) + (1 - a.beta2) * g * g);
  const double v = get(args.second_moment, i) * s.v_correction;
  return get(args.first_moment, i) * s.m_correction / (std::sqrt(v) + a.eps);
}

void put_weight(const OptimizerArgs& args, int64_t i, double weight) {
  put(args.masters, i, weight);
  put(args.working, i, get(args.masters, i));
}

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

void lamb_reference(const OptimizerArgs& args) {
  if (args.state->applied == 0) return;
  for (int32_t k = 0; k < args.tables.tensor_count; ++k) {
    const OptimizerTensor& t = args.tables.tensors[k];
    std::vector<double> update(static_cast<size_t>(t.count));
    double weight_squares = 0, update_squares = 0;
    for (int64_t i = 0; i < t.count; ++i) {
      const double weight = get(args.masters, t.offset + i);
      const double u = adam_direction(args, t.offset + i) + t.decay * weight;
      update[static_cast<size_t>(i)] = u;
      weight_squares += weight * weight;
      update_squares += u * u;
    }
    TensorNorms& norm = args.norms[k];
    norm.weight = std::sqrt(weight_squares);
    norm.update = std::sqrt(update_squares);
    norm.trust_ratio = trust_ratio(t.adapt, norm.weight, norm.update);
    const double step = static_cast<double>(args.state->learning_rate) * norm.trust_ratio;
    for (int64_t i = 0; i < t.count; ++i) {
      const double weight = get(args.masters, t.offset + i);
      put_weight(args, t.offset + i, weight - step * update[static_cast<size_t>(i)]);
    }
  }
}

void adamw_reference(const OptimizerArgs& args) {
  if (args.state->applied == 0) return;
  const double lr = args.state->learning_rate;
  for (int32_t k = 0; k < args.tables.tensor_count; ++k) {
    const OptimizerTensor& t = args.tables.tensors[k];
    for (int64_t i = t.offset; i < t.offset + t.count; ++i) {
      const double w = get(args.masters, i), direction = adam_direction(args, i);
      put_weight(args, i,
                 args.adam.decay_first ? w * (1 - lr * t.decay) - lr * direction
                                       : w - lr * (direction + static_cast<double>(t.decay) * w));
    }
  }
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
    }
    const double weight = std::sqrt(sums.weight), update = std::sqrt(sums.update);
    args.norms[k] = {weight, update, trust_ratio(t.adapt, weight, update)};
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

// LAMB's passes run over everything, not tensor by tensor: what a cache-sized group of tensors saves
// in memory traffic was measured to be less than what its two extra barriers cost on a busy machine.
void lamb_moments(const OptimizerArgs& args) {
  check("lamb_moments", args);
  dispatch(
      "lamb_moments", args.masters.device(), [&] { return lamb_moments_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        parallel_pieces(args.tables, args.range, [&](int64_t i, const OptimizerPiece& piece) {
          args.piece_sums[i] = MB_SIMD(lamb_moments_piece)(args, piece);
        });
      },
      [&](Stream stream) { lamb_moments_cuda(args, stream); });
}

void lamb_ratios(const OptimizerArgs& args) {
  check("lamb_ratios", args);
  dispatch(
      "lamb_ratios", args.masters.device(), [&] { return lamb_ratios_cost(args); },
      [&] {
        if (args.state->applied != 0) ratios_cpu(args);
      },
      [&](Stream stream) { lamb_ratios_cuda(args, stream); });
}

void lamb_apply(const OptimizerArgs& args) {
  check("lamb_apply", args);
  dispatch(
      "lamb_apply", args.masters.device(), [&] { return lamb_apply_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        parallel_pieces(args.tables, args.range, [&](int64_t, const OptimizerPiece& piece) {
          MB_SIMD(lamb_apply_piece)(args, piece);
        });
      },
      [&](Stream stream) { lamb_apply_cuda(args, stream); });
}

void adamw_step(const OptimizerArgs& args) {
  check("adamw_step", args);
  dispatch(
      "adamw_step", args.masters.device(), [&] { return adamw_step_cost(args); },
      [&] {
        if (args.state->applied == 0) return;
        parallel_pieces(args.tables, args.range, [&](int64_t, const OptimizerPiece& piece) {
          MB_SIMD(adamw_piece)(args, piece);
        });
      },
      [&](Stream stream) { adamw_step_cuda(args, stream); });
}

}  // namespace minibert
