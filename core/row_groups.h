// row_groups.h: the positions of each table row that an index names, sorted by row: what the
// gradient of an embedding table is added up from. Built on the host, once per batch (the loader's
// thread), and given to autograd's embedding(). Easy to break: shapes depend on the index's length
// and the table's rows alone, never on values, so that a captured graph stays valid; groups beyond
// the last real one are empty. Test: ctest -R core_row_groups.
#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace minibert {

/// N positions, U = min(N, rows of the table) groups. Group u is row[u], at positions
/// order[start[u]] .. order[start[u + 1] - 1].
struct RowGroups {
  Tensor order;  // [N] i32 positions, by row and ascending within a row; beyond the last group: 0
  Tensor row;    // [U] i32 rows that occur, ascending; of empty groups: 0
  Tensor start;  // [U+1] i32; of empty groups, the end of the last real one
  bool defined() const { return order.defined(); }
};

/// Groups of an index of positions into a table of `rows` rows. Positions from `count` on (tail
/// rows) take no part. Errors: DataError naming the first index outside the table.
RowGroups group_rows(std::span<const int32_t> index, int64_t rows, int64_t count);

/// The same, into memory of the caller: order [N], row [U], start [U+1].
struct RowGroupSpans {
  std::span<int32_t> order, row, start;
};
void group_rows(std::span<const int32_t> index, int64_t rows, int64_t count,
                const RowGroupSpans& groups);

}  // namespace minibert
