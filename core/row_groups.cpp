// row_groups.cpp: a counting sort, O(N + rows).
#include "core/row_groups.h"

#include <algorithm>
#include <vector>

namespace minibert {

void group_rows(std::span<const int32_t> index, int64_t rows, int64_t count,
                const RowGroupSpans& groups) {
  const auto N = static_cast<int64_t>(index.size());
  const auto U = static_cast<size_t>(std::min(N, rows));
  MB_ASSERT(count >= 0 && count <= N && groups.order.size() == index.size() &&
                groups.row.size() == U && groups.start.size() == U + 1,
            "group_rows: {} of {} positions, {} rows, memory for {} positions and {} groups", count,
            N, rows, groups.order.size(), groups.row.size());
  const std::span<const int32_t> real = index.first(static_cast<size_t>(count));
  std::vector<int32_t> next(static_cast<size_t>(rows), 0);  // occurrences, then the next free place
  for (size_t t = 0; t < real.size(); ++t) {
    MB_CHECK_AS(DataError, real[t] >= 0 && real[t] < rows,
                "group_rows: index at position {} is {}, expected 0 to {} (the table has {} rows)",
                t, real[t], rows - 1, rows);
    ++next[static_cast<size_t>(real[t])];
  }
  size_t u = 0;
  int32_t end = 0;
  for (size_t r = 0; r < next.size(); ++r) {
    const int32_t occurrences = next[r];
    next[r] = end;
    if (occurrences == 0) continue;
    groups.row[u] = static_cast<int32_t>(r);
    groups.start[u++] = end;
    end += occurrences;
  }
  std::fill(groups.row.begin() + static_cast<std::ptrdiff_t>(u), groups.row.end(), 0);
  std::fill(groups.start.begin() + static_cast<std::ptrdiff_t>(u), groups.start.end(), end);
  for (size_t t = 0; t < real.size(); ++t)
    groups.order[static_cast<size_t>(next[static_cast<size_t>(real[t])]++)] =
        static_cast<int32_t>(t);
  std::fill(groups.order.begin() + count, groups.order.end(), 0);
}

RowGroups group_rows(std::span<const int32_t> index, int64_t rows, int64_t count) {
  const auto make = [](int64_t n) { return Tensor::empty({n}, DType::i32, MemoryCategory::data); };
  const auto N = static_cast<int64_t>(index.size());
  const int64_t U = std::min(N, rows);
  const RowGroups groups{make(N), make(U), make(U + 1)};
  group_rows(
      index, rows, count,
      {groups.order.span<int32_t>(), groups.row.span<int32_t>(), groups.start.span<int32_t>()});
  return groups;
}

}  // namespace minibert
