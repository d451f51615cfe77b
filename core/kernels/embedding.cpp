// embedding.cpp: the plain embedding, and the callers of the fast one.
#include "core/kernels/embedding.h"

#include <algorithm>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

// embedding_simd.cpp
MB_SIMD_DECLARE(void, embedding_sum_rows,
                (const float* const* rows, int count, int64_t H, float* y))
MB_SIMD_DECLARE(void, embedding_add_positions,
                (const float* dy, int64_t H, const int32_t* position, int64_t n, int64_t begin,
                 int64_t end, float* row))

namespace {

// Errors: DataError for an index that is no row of its table.
void check_index(const char* op, int number, const Tensor& index, int64_t T, int64_t rows) {
  check_tensor(op, "index", index, {T}, "one a row of y", DType::i32);
  const int32_t* id = index.data<int32_t>();
  for (int64_t t = 0; t < T; ++t) {
    MB_CHECK_AS(DataError, id[t] >= 0 && id[t] < rows,
                "{}: index {} at position {} is {}, expected 0 to {} (the table has {} rows). "
                "Do the tokenizer's vocabulary and the model's configuration belong together?",
                op, number, t, id[t], rows - 1, rows);
  }
}

void check(const EmbeddingForward& args) {
  constexpr const char* kOp = "embedding_forward";
  MB_CHECK(args.count >= 1 && args.count <= EmbeddingForward::kMaxTables,
           "{}: count is {}, expected 1 to {}", kOp, args.count, EmbeddingForward::kMaxTables);
  check_rank(kOp, "y", args.y, 2);
  const int64_t T = args.y.dim(0), H = args.y.dim(1);
  for (int k = 0; k < args.count; ++k) {
    check_rank(kOp, "table", args.table[k], 2);
    check_tensor(kOp, "table", args.table[k], {args.table[k].dim(0), H}, "y's columns");
    check_index(kOp, k, args.index[k], T, args.table[k].dim(0));
  }
}

void check(const EmbeddingBackward& args) {
  constexpr const char* kOp = "embedding_backward";
  check_rank(kOp, "dy", args.dy, 2);
  check_rank(kOp, "dtable", args.dtable, 2);
  check_tensor(kOp, "dtable", args.dtable, {args.dtable.dim(0), args.dy.dim(1)}, "dy's columns");
  check_index(kOp, 0, args.index, args.dy.dim(0), args.dtable.dim(0));
}

}  // namespace

// ---- 6. Reference ------------------------------------------------------------------------------

void embedding_forward_reference(const EmbeddingForward& args) {
  const int64_t T = args.y.dim(0), H = args.y.dim(1);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h) {
      double sum = 0;
      for (int k = 0; k < args.count; ++k)
        sum += args.table[k].data<float>()[args.index[k].data<int32_t>()[t] * H + h];
      args.y.data<float>()[t * H + h] = static_cast<float>(sum);
    }
  }
}

void embedding_backward_reference(const EmbeddingBackward& args) {
  const int64_t T = args.dy.dim(0), H = args.dy.dim(1);
  if (!args.accumulate) args.dtable.fill_zero();
  float* dtable = args.dtable.data<float>();
  std::vector<double> sum(dtable, dtable + args.dtable.numel());
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h)
      sum[static_cast<size_t>(args.index.data<int32_t>()[t] * H + h)] +=
          args.dy.data<float>()[t * H + h];
  }
  for (size_t i = 0; i < sum.size(); ++i) dtable[i] = static_cast<float>(sum[i]);
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------

namespace {

constexpr int64_t kForwardGrain = 16;   // rows of y a task writes
constexpr int64_t kBackwardGrain = 64;  // positions a task adds up, unless one row has more
// Columns a task adds up: the two segments' rows have most positions, and are shared among threads
// by columns.
constexpr int64_t kColumnGrain = 128;
constexpr int64_t kZeroGrain = 1 << 16;  // elements a task sets to zero

void forward_cpu(const EmbeddingForward& args) {
  const int64_t H = args.y.dim(1);
  parallel_for(args.y.dim(0), kForwardGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* rows[EmbeddingForward::kMaxTables] = {};
      for (int k = 0; k < args.count; ++k)
        rows[k] = args.table[k].data<float>() + args.index[k].data<int32_t>()[t] * H;
      MB_SIMD(embedding_sum_rows)(rows, args.count, H, args.y.data<float>() + t * H);
    }
  });
}

// The positions of each row that occurs: rows ascending, positions ascending within a row.
struct Occurrences {
  std::vector<int32_t> row;       // rows that occur
  std::vector<int64_t> start;     // where a row's positions start; one more entry at the end
  std::vector<int32_t> position;  // [T]
};

// Counting sort: O(T + rows).
Occurrences sort_by_row(const Tensor& index, int64_t rows) {
  const int64_t T = index.dim(0);
  const int32_t* id = index.data<int32_t>();
  std::vector<int64_t> next(static_cast<size_t>(rows), 0);
  for (int64_t t = 0; t < T; ++t) ++next[static_cast<size_t>(id[t])];
  Occurrences found;
  int64_t start = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t count = next[static_cast<size_t>(r)];
    next[static_cast<size_t>(r)] = start;
    if (count == 0) continue;
    found.row.push_back(static_cast<int32_t>(r));
    found.start.push_back(start);
    start += count;
  }
  found.start.push_back(T);
  found.position.resize(static_cast<size_t>(T));
  for (int64_t t = 0; t < T; ++t)
    found.position[static_cast<size_t>(next[static_cast<size_t>(id[t])]++)] =
        static_cast<int32_t>(t);
  return found;
}

// First of each task's entries of `row`, so that a task has kBackwardGrain positions or one row.
std::vector<size_t> deal(const Occurrences& found) {
  std::vector<size_t> first = {0};
  for (size_t k = 1; k < found.row.size(); ++k) {
    if (found.start[k + 1] - found.start[first.back()] > kBackwardGrain) first.push_back(k);
  }
  first.push_back(found.row.size());
  return first;
}

void backward_cpu(const EmbeddingBackward& args) {
  const int64_t H = args.dy.dim(1);
  float* dtable = args.dtable.data<float>();
  if (!args.accumulate) {
    parallel_for(args.dtable.numel(), kZeroGrain, [&](int64_t begin, int64_t end) {
      std::fill(dtable + begin, dtable + end, 0.0f);
    });
  }
  const Occurrences found = sort_by_row(args.index, args.dtable.dim(0));
  const std::vector<size_t> first = deal(found);
  const int64_t columns = (H + kColumnGrain - 1) / kColumnGrain;
  parallel_blocks(static_cast<int64_t>(first.size() - 1) * columns, [&](int64_t task) {
    const size_t group = static_cast<size_t>(task / columns);
    const int64_t begin = task % columns * kColumnGrain, end = std::min(H, begin + kColumnGrain);
    for (size_t k = first[group]; k < first[group + 1]; ++k) {
      MB_SIMD(embedding_add_positions)
      (args.dy.data<float>(), H, found.position.data() + found.start[k],
       found.start[k + 1] - found.start[k], begin, end, dtable + found.row[k] * H);
    }
  });
}

}  // namespace

void embedding_forward(const EmbeddingForward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.y.numel());
  dispatch("embedding_forward", args.y.device(), n * (args.count - 1), 4 * n * (args.count + 1),
           [&] { forward_cpu(args); });
}

void embedding_backward(const EmbeddingBackward& args, Stream stream) {
  check(args);
  const double n = static_cast<double>(args.dy.numel());
  dispatch("embedding_backward", args.dy.device(), n,
           12 * n + (args.accumulate ? 0 : 4) * static_cast<double>(args.dtable.numel()),
           [&] { backward_cpu(args); });
}

}  // namespace minibert
