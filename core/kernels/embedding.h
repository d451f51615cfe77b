// embedding.h: sum of rows of up to three tables, and the deterministic scatter of its gradient.
// Called by autograd/embedding.cpp.
#pragma once

#include "core/tensor.h"

namespace minibert {

// ---- 5. Interface
// ---------------------------------------------------------------------------------------------------
/// y[t] = sum over tables k of table_k[index_k[t]].
/// Shapes  table_k [rows_k, H]; index_k [T] i32; y [T, H].  Tables beyond `count` are ignored.
/// Errors  DataError naming the first index outside its table (which one, where, the table's rows).
struct EmbeddingForward {
  static constexpr int kMaxTables = 3;
  int count = 0;
  Tensor table[kMaxTables], index[kMaxTables];
  Tensor y;
};
/// dtable[index[t]] += dy[t] in ascending t for each row (the same bits for every thread count);
/// unless `accumulate`, dtable is zeroed first.
struct EmbeddingBackward {
  Tensor dy, index, dtable;
  bool accumulate = false;
};

void embedding_forward(const EmbeddingForward& args, Stream stream = {});
void embedding_backward(const EmbeddingBackward& args, Stream stream = {});
void embedding_forward_reference(const EmbeddingForward& args);
void embedding_backward_reference(const EmbeddingBackward& args);

}  // namespace minibert
