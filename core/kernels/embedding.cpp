// embedding.cpp: the plain embedding, and the callers of the fast one.
#include "core/kernels/embedding.h"

#include <algorithm>
#include <vector>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/reference.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

// embedding_simd.cpp
MB_SIMD_DECLARE(void, embedding_sum_rows,
                (const EmbeddingForward& args, int64_t begin, int64_t end))
MB_SIMD_DECLARE(void, embedding_add_groups,
                (const EmbeddingBackward& args, int64_t first, int64_t last, int64_t begin,
                 int64_t end))

namespace {

void check(const EmbeddingForward& args) {
  constexpr const char* kOp = "embedding_forward";
  MB_CHECK(args.count >= 1 && args.count <= EmbeddingForward::kMaxTables,
           "{}: count is {}, expected 1 to {}", kOp, args.count, EmbeddingForward::kMaxTables);
  check_compute(kOp, "y", args.y, 2);
  const int64_t N = args.y.dim(0), H = args.y.dim(1);
  for (int k = 0; k < args.count; ++k) {
    check_tensor(kOp, "table", args.table[k], {args.table[k].dim(0), H}, "y's columns",
                 args.y.dtype());
    check_tensor(kOp, "index", args.index[k], {N}, "one per row of y", DType::i32);
  }
}

void check(const EmbeddingBackward& args) {
  constexpr const char* kOp = "embedding_backward";
  check_compute(kOp, "dy", args.dy, 2);
  check_tensor(kOp, "dtable", args.dtable, {args.dtable.dim(0), args.dy.dim(1)}, "dy's columns");
  check_tensor(kOp, "order", args.order, {args.dy.dim(0)}, "one per row of dy", DType::i32);
  check_rank(kOp, "row", args.row, 1, DType::i32);
  check_tensor(kOp, "start", args.start, {args.row.dim(0) + 1}, "one per group, and the end",
               DType::i32);
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------

Cost embedding_forward_cost(const EmbeddingForward& args) {
  const int64_t K = args.count;
  return {static_cast<double>((K - 1) * args.y.numel()),
          static_cast<double>((K + 1) * args.y.bytes() + K * args.index[0].bytes())};
}

Cost embedding_backward_cost(const EmbeddingBackward& args) {
  const double n = static_cast<double>(args.dy.numel());
  const int64_t groups = args.order.bytes() + args.row.bytes() + args.start.bytes();
  const int64_t zeroed = args.accumulate ? 0 : args.dtable.bytes();
  return {n, 2 * sizeof(float) * n + static_cast<double>(args.dy.bytes() + groups + zeroed)};
}

// ---- 6. Reference ------------------------------------------------------------------------------

void embedding_forward_reference(const EmbeddingForward& args) {
  check(args);
  const int64_t H = args.y.dim(1);
  for (int64_t i = 0; i < args.y.numel(); ++i) {
    double sum = 0;
    for (int k = 0; k < args.count; ++k)
      sum += get(args.table[k], args.index[k].data<int32_t>()[i / H] * H + i % H);
    put(args.y, i, sum);
  }
}

void embedding_backward_reference(const EmbeddingBackward& args) {
  check(args);
  const int64_t H = args.dy.dim(1);
  const int32_t* start = args.start.data<int32_t>();
  if (!args.accumulate)
    for (int64_t i = 0; i < args.dtable.numel(); ++i) put(args.dtable, i, 0);
  for (int64_t u = 0; u < args.row.numel(); ++u) {
    for (int64_t h = 0; h < H; ++h) {
      const int64_t place = args.row.data<int32_t>()[u] * H + h;
      double sum = get(args.dtable, place);
      for (int64_t i = start[u]; i < start[u + 1]; ++i)
        sum += get(args.dy, args.order.data<int32_t>()[i] * H + h);
      if (start[u] < start[u + 1]) put(args.dtable, place, sum);
    }
  }
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------

namespace {

constexpr int64_t kForwardGrain = 16;   // rows of y a task writes
constexpr int64_t kBackwardGrain = 64;  // positions a task adds up, unless one row has more
// Columns a task adds up: the two segments' rows have most positions, and are shared among threads
// by columns.
constexpr int64_t kColumnGrain = 128;
constexpr int64_t kZeroGrain = 1 << 16;  // elements a task sets to zero

// First of each task's groups, so that a task has kBackwardGrain positions or one row; then the end
// of the groups that are not empty.
std::vector<int64_t> deal(const EmbeddingBackward& args) {
  const int64_t U = args.row.numel();
  const int32_t* start = args.start.data<int32_t>();
  std::vector<int64_t> first = {0};
  int64_t u = 0;
  for (; u < U && start[u] < start[U]; ++u) {
    if (u > 0 && start[u + 1] - start[first.back()] > kBackwardGrain) first.push_back(u);
  }
  first.push_back(u);
  return first;
}

void backward_cpu(const EmbeddingBackward& args) {
  const int64_t H = args.dy.dim(1);
  if (!args.accumulate) {
    float* dtable = args.dtable.data<float>();
    parallel_for(args.dtable.numel(), kZeroGrain, [&](int64_t begin, int64_t end) {
      std::fill(dtable + begin, dtable + end, 0.0f);
    });
  }
  const std::vector<int64_t> first = deal(args);
  const int64_t columns = (H + kColumnGrain - 1) / kColumnGrain;
  parallel_blocks(static_cast<int64_t>(first.size() - 1) * columns, [&](int64_t task) {
    const auto group = static_cast<size_t>(task / columns);
    const int64_t begin = task % columns * kColumnGrain, end = std::min(H, begin + kColumnGrain);
    MB_SIMD(embedding_add_groups)(args, first[group], first[group + 1], begin, end);
  });
}

}  // namespace

void embedding_forward(const EmbeddingForward& args) {
  check(args);
  dispatch(
      "embedding_forward", args.y.device(), [&] { return embedding_forward_cost(args); },
      [&] {
        parallel_for(args.y.dim(0), kForwardGrain, [&](int64_t begin, int64_t end) {
          MB_SIMD(embedding_sum_rows)(args, begin, end);
        });
      },
      [&](Stream stream) { embedding_forward_cuda(args, stream); });
}

void embedding_backward(const EmbeddingBackward& args) {
  check(args);
  dispatch(
      "embedding_backward", args.dy.device(), [&] { return embedding_backward_cost(args); },
      [&] { backward_cpu(args); }, [&](Stream stream) { embedding_backward_cuda(args, stream); });
}

}  // namespace minibert
