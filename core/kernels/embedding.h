// embedding.h: sum of rows of up to three tables, and the deterministic scatter of its gradient.
// Called by autograd/embedding.cpp.
// Easy to get wrong: a row that occurs many times (a segment, [CLS]) must get its terms in one
// order whatever the threads do, so no two threads ever add to one element.
// Source: BERT's word + position + segment embeddings. Test: ctest -R core_kernels_embedding.
#pragma once

#include "core/operand.h"
#include "core/profile.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   forward    y_n = sum_k table_k[index_k[n]]
//   backward   dtable_k[r] = sum over the real positions n with index_k[n] = r of dy_n
//              the same dy for each table, so backward takes one table at a time
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   table_k [rows_k, H] E     index_k [N] i32     y dy [N, H] E     E = f32, bf16 or f16
//   dtable [rows, H] f32      order [N], row [U], start [U+1] i32: core/row_groups.h
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory:  forward (count + 1) N H elements;  backward N H elements of dy, and f32 reads
//   and writes of the rows hit (at most N H of each, which is what is counted), + rows H floats
//   written where dtable is zeroed first; the indices beside that
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   sums in f32, tables in order 0, 1, 2; backward in ascending position, kept in registers per
//   row. Same bits for every thread count and instruction set, and on CUDA.
// ---- 5. Interface ------------------------------------------------------------------------------
/// y[n] = sum over tables k of table_k[index_k[n]].
/// Shapes  table_k [rows_k, H]; index_k [N] i32, 0 .. rows_k-1 (not checked here: they are the
///         device's; tail rows have a valid one too); y [N, H].  Tables beyond `count` are ignored.
/// Errors  UsageError for shapes or types that disagree.
struct EmbeddingForward {
  static constexpr int kMaxTables = 3;
  int count = 0;
  Operand table[kMaxTables], index[kMaxTables];
  Operand y;
};
/// dtable[row[u]] += sum of dy[n] over n = order[start[u]] .. order[start[u + 1] - 1], in that order;
/// unless `accumulate`, dtable is zeroed first. Groups may be empty; rows of the others are distinct.
/// Errors as forward.
struct EmbeddingBackward {
  Operand dy, order, row, start, dtable;
  bool accumulate = false;
};

void embedding_forward(const EmbeddingForward& args);
void embedding_backward(const EmbeddingBackward& args);
void embedding_forward_reference(const EmbeddingForward& args);
void embedding_backward_reference(const EmbeddingBackward& args);
Cost embedding_forward_cost(const EmbeddingForward& args);
Cost embedding_backward_cost(const EmbeddingBackward& args);
void embedding_forward_cuda(const EmbeddingForward& args, Stream stream);
void embedding_backward_cuda(const EmbeddingBackward& args, Stream stream);
/// Rungs 1, 2, ... of embedding.cu, the last of which the functions above run; for tests.
inline constexpr int kEmbeddingForwardRungs = 3, kEmbeddingBackwardRungs = 2;
void embedding_forward_cuda_rung(const EmbeddingForward& args, Stream stream, int rung);
void embedding_backward_cuda_rung(const EmbeddingBackward& args, Stream stream, int rung);

}  // namespace minibert
