// optimizer.h: multi-tensor optimizer step over an arena: two passes over memory for LAMB, one for
// AdamW, and the square sums of all gradients. Called by optim/optimizer.cpp once a global step,
// around step_decide (step.h), whose results in the StepState steer it. Easy to get wrong: eps is
// added outside the root; 1 - beta is computed in double; an element outside every tensor's range
// (gaps, vocabulary padding) is neither read nor written; a skipped step writes nothing at all.
// Sources: arXiv 1904.00962 algorithm 2 (LAMB, v5), arXiv 1711.05101 (AdamW).
// Test: ctest -R core_kernels_optimizer. Its share of a training step: minibert bench step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/operand.h"
#include "core/profile.h"
#include "core/step_state.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   for each element      g' = g c     m = b1 m + (1 - b1) g'     v = b2 v + (1 - b2) g'^2
//                         r = (m cm) / (sqrt(v cv) + eps)
//                         c is state.gradient_scale, cm and cv the bias corrections
//   AdamW, Google's       w -= lr (r + decay w)
//   AdamW, PyTorch's      w = w (1 - lr decay) - lr r     equal to Google's but for rounding
//   LAMB                  u = r + decay w     ratio = |w| / |u|   (1 where |w| or |u| is 0)
//                         w -= lr ratio u     |.| the L2 norm over one tensor; phi is the identity
//   No bias correction is cm = cv = 1; bias correction cm = 1 / (1 - b1^t), cv = 1 / (1 - b2^t).
//   w is the master; the working copy is w rounded to E, in the same pass.
//   Unless state.applied, no call but the square sums' does anything.
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   masters gradients first_moment second_moment   [size] f32, flat buffers of one arena
//   working   [size] E (f32, bf16, f16); for f32 the masters themselves
//   tensors   ranges [offset, offset + count) in ascending order; count may be 0
//   pieces    tensors cut at the borders of chunks: element k * kOptimizerChunk of the buffers is
//             the first of chunk k, whatever tensor lies there
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory:  AdamW 28 bytes a weight (reads w g m v, writes w m v);
//   LAMB 24 (reads w g m v, writes m v) and 16 (reads w m v, writes w): 40; square sums 4.
//   A working copy of its own: 2 more. About 15 FLOP a weight and pass.
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Element arithmetic in f32. Squares are summed in double: f32 would overflow at 1e19 and lose an
//   embedding's norm. Each piece has its own sum; a tensor's pieces are added in order. A piece
//   depends on the arena's layout alone, so threads do not change bits, nor do ranks that share the
//   buffers out at chunk borders and exchange piece sums. Instruction sets differ in the last bit
//   (fused multiply-add, number of lanes). CUDA: m, v and AdamW's weights have the bits of the
//   instruction sets that fuse; a piece's sum has a tree of its own, so norms, and through the ratio
//   LAMB's weights, agree with the CPU's within rounding alone.
//
// ---- 5. Interface ------------------------------------------------------------------------------
inline constexpr int64_t kOptimizerChunk = 16384;  // elements: 64 KiB in each of four buffers

/// What differs from tensor to tensor. Offsets in elements of the flat buffers; only `count`
/// leading elements take part.
struct OptimizerTensor {
  int64_t offset = 0, count = 0;
  float decay = 0;                      // decoupled weight decay
  bool adapt = true;                    // LAMB: trust ratio |w| / |update|; false: 1
  int32_t first_piece = 0, pieces = 0;  // set by cut_into_pieces
};
/// A tensor's share of one chunk.
struct OptimizerPiece {
  int64_t offset = 0;
  int32_t count = 0, tensor = 0;
};
/// All pieces of all tensors, in order; tells each tensor where its own are.
/// Errors  UsageError for a range outside [0, size) or one that starts before its predecessor ends.
std::vector<OptimizerPiece> cut_into_pieces(std::span<OptimizerTensor> tensors, int64_t size);

/// Both tables in the device's memory.
struct OptimizerTables {
  const OptimizerTensor* tensors = nullptr;
  const OptimizerPiece* pieces = nullptr;
  int32_t tensor_count = 0, piece_count = 0;
};
/// The pieces that a call works on: all of them, or a rank's share.
struct PieceRange {
  int32_t first = 0, count = 0;
  int64_t elements = 0;  // in these pieces
};
/// Pieces first .. end - 1.
PieceRange piece_range(std::span<const OptimizerPiece> pieces, size_t first, size_t end);

// ---- Square sums: of gradients, for step_decide; of weights ------------------------------------
struct SquareSumsArgs {
  Operand x;  // [size] f32
  OptimizerTables tables;
  PieceRange range;
  double* piece_sums = nullptr;   // [piece_count]
  double* tensor_sums = nullptr;  // [tensor_count]
};
/// piece_sums of the range: NaN or infinite exactly if an element is.
/// Errors  UsageError unless x is f32 of rank 1.
void piece_square_sums(const SquareSumsArgs& args);
/// tensor_sums from all piece_sums, in order.
void tensor_square_sums(const SquareSumsArgs& args);

// ---- The update --------------------------------------------------------------------------------
struct SquareSums {
  double weight = 0, update = 0;
};
/// Norms of one tensor, for the trust ratio and the log.
struct TensorNorms {
  double weight = 0, update = 0;  // L2; weight as it was before the update
  float trust_ratio = 1;
};
struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999;  // double: 1 - 0.999f is 1.3e-5 away from 0.001
  float eps = 1e-6f;
  bool decay_first = false;  // AdamW: PyTorch's order, w *= 1 - lr decay before the direction
};
struct OptimizerArgs {
  Operand masters, working;                        // [size] f32; [size] E
  Operand gradients, first_moment, second_moment;  // [size] f32
  OptimizerTables tables;
  PieceRange range;
  SquareSums* piece_sums = nullptr;  // [piece_count]; LAMB alone
  TensorNorms* norms = nullptr;      // [tensor_count]; LAMB alone; stays as it is in a skipped step
  AdamOptions adam;
  const StepState* state = nullptr;  // applied, gradient_scale, learning_rate, corrections
};
/// LAMB in three calls. The range's moments, and its piece_sums of |w|^2 and |update|^2;
/// then norms from all piece_sums; then the range's weights, whose update is recomputed from m, v, w.
/// Errors  UsageError for buffers of different sizes or types, a working copy in f32 that is not the
/// masters.
void lamb_moments(const OptimizerArgs& args);
void lamb_ratios(const OptimizerArgs& args);
void lamb_apply(const OptimizerArgs& args);
/// AdamW in one call. Errors as lamb_moments.
void adamw_step(const OptimizerArgs& args);

MB_INLINE float trust_ratio(bool adapt, double weight_norm, double update_norm) {
  if (!adapt || weight_norm == 0 || update_norm == 0) return 1;
  return static_cast<float>(weight_norm / update_norm);
}

// References know neither pieces nor ranges: whole tensors, in double.
void square_sums_reference(const SquareSumsArgs& args);  // tensor_sums
void lamb_reference(const OptimizerArgs& args);          // all three calls
void adamw_reference(const OptimizerArgs& args);

Cost piece_square_sums_cost(const SquareSumsArgs& args);
Cost tensor_square_sums_cost(const SquareSumsArgs& args);
Cost lamb_moments_cost(const OptimizerArgs& args);
Cost lamb_ratios_cost(const OptimizerArgs& args);
Cost lamb_apply_cost(const OptimizerArgs& args);
Cost adamw_step_cost(const OptimizerArgs& args);

void piece_square_sums_cuda(const SquareSumsArgs& args, Stream stream);
void tensor_square_sums_cuda(const SquareSumsArgs& args, Stream stream);
void lamb_moments_cuda(const OptimizerArgs& args, Stream stream);
void lamb_ratios_cuda(const OptimizerArgs& args, Stream stream);
void lamb_apply_cuda(const OptimizerArgs& args, Stream stream);
void adamw_step_cuda(const OptimizerArgs& args, Stream stream);
/// Rung 1 .. kLambRungs of optimizer.cu, the last of which lamb_moments_cuda and lamb_apply_cuda
/// run; for tests.
inline constexpr int kLambRungs = 3;
void lamb_moments_cuda_rung(const OptimizerArgs& args, Stream stream, int rung);
void lamb_apply_cuda_rung(const OptimizerArgs& args, Stream stream, int rung);

}  // namespace minibert
