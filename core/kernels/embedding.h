// embedding.h: sum of rows of up to three tables, and the deterministic scatter of its gradient.
// Called by autograd/embedding.cpp.
// Easy to get wrong: a row that occurs many times (a segment, [CLS]) must get its terms in one
// order whatever the threads do, so no two threads ever add to one element.
// Source: BERT's word + position + segment embeddings. Test: ctest -R core_kernels_embedding.
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   forward    y_t = sum_k table_k[index_k[t]]
//   backward   dtable_k[r] = sum over the t with index_k[t] = r of dy_t
//              the same dy for each table, so backward takes one table at a time
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   table_k dtable [rows_k, H] f32     index_k [T] i32     y dy [T, H] f32
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory:  forward (count + 1) T H floats;  backward T H floats of dy, and reads and
//   writes of the rows hit, + rows H floats written where dtable is zeroed first
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   sums in f32, tables in order 0, 1, 2; backward in ascending t, kept in registers per row. Same
//   bits for every thread count and instruction set.
//   backward sorts positions by row with a counting sort (O(T + rows)), then deals out rows.
// ---- 5. Interface ------------------------------------------------------------------------------
/// y[t] = sum over tables k of table_k[index_k[t]].
/// Shapes  table_k [rows_k, H]; index_k [T] i32; y [T, H].  Tables beyond `count` are ignored.
/// Errors  DataError naming the first index outside its table (which one, where, the table's rows);
///         UsageError for shapes or types that disagree.
struct EmbeddingForward {
  static constexpr int kMaxTables = 3;
  int count = 0;
  Tensor table[kMaxTables], index[kMaxTables];
  Tensor y;
};
/// dtable[index[t]] += dy[t] in ascending t for each row (the same bits for every thread count);
/// unless `accumulate`, dtable is zeroed first. Errors as forward.
struct EmbeddingBackward {
  Tensor dy, index, dtable;
  bool accumulate = false;
};

void embedding_forward(const EmbeddingForward& args, Stream stream = {});
void embedding_backward(const EmbeddingBackward& args, Stream stream = {});
void embedding_forward_reference(const EmbeddingForward& args);
void embedding_backward_reference(const EmbeddingBackward& args);

}  // namespace minibert
