// reduce.cpp: checks, costs, references and the callers of the fast sums. Contract: reduce.h.
#include "core/kernels/reduce.h"

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/reduce_simd.h"
#include "core/kernels/reference.h"
#include "core/kernels/workspace.h"
#include "core/parallel.h"

namespace minibert {

/// sums[h] = sum over rows begin .. end - 1 of x, in ascending order.
MB_SIMD_DECLARE(void, sum_rows,
                (const ColumnSumArgs& args, int64_t begin, int64_t end, double* sums))
/// Sum of elements begin .. end - 1.
MB_SIMD_DECLARE(double, sum_chunk, (const SumArgs& args, int64_t begin, int64_t end))

namespace {

void check(const ColumnSumArgs& args) {
  check_compute("column_sum", "x", args.x, 2);
  check_tensor("column_sum", "y", args.y, {args.x.dim(1)}, "the last dimension of x");
}

void check(const SumArgs& args) {
  check_floating("sum", "x", args.x);
  check_type("sum", "y", args.y);
  MB_CHECK(args.y.numel() == 1, "sum: y is {}, expected one element", shape_of(args.y).str());
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------
Cost column_sum_cost(const ColumnSumArgs& args) {
  const int64_t y_bytes = args.y.bytes() * (args.accumulate ? 2 : 1);
  return {static_cast<double>(args.x.numel()), static_cast<double>(args.x.bytes() + y_bytes)};
}

Cost sum_cost(const SumArgs& args) {
  return {static_cast<double>(args.x.numel()), static_cast<double>(args.x.bytes() + 4)};
}

// ---- 6. Reference ------------------------------------------------------------------------------
void column_sum_reference(const ColumnSumArgs& args) {
  check(args);
  const int64_t T = args.x.dim(0), H = args.x.dim(1);
  for (int64_t h = 0; h < H; ++h) {
    double total = args.accumulate ? get(args.y, h) : 0.0;
    for (int64_t t = 0; t < T; ++t) total += get(args.x, t * H + h);
    put(args.y, h, total);
  }
}

void sum_reference(const SumArgs& args) {
  check(args);
  double total = 0;
  for (int64_t i = 0; i < args.x.numel(); ++i) total += get(args.x, i);
  put(args.y, 0, total);
}

// ---- 7. Fast CPU -------------------------------------------------------------------------------
void add_columns(const PartialSums& sums, float* y, bool accumulate) {
  constexpr int64_t kColumns = 512;  // that a thread adds at a time
  parallel_for(sums.H, kColumns, [&](int64_t begin, int64_t end) {
    MB_SIMD(add_partials)(sums, y, accumulate, begin, end);
  });
}

namespace {
constexpr int64_t kRows = 64;      // of a block of column_sum
constexpr int64_t kChunk = 65536;  // elements of a chunk of sum

int64_t blocks_of(int64_t n, int64_t size) {
  return (n + size - 1) / size;
}
}  // namespace

int64_t column_sum_workspace(int64_t T, int64_t H) {
  return blocks_of(T, kRows) * H * static_cast<int64_t>(sizeof(double));
}

void column_sum(const ColumnSumArgs& args) {
  check(args);
  const auto cpu = [&] {
    const int64_t T = args.x.dim(0), H = args.x.dim(1), blocks = blocks_of(T, kRows);
    const Workspace<double> sums(blocks * H);
    parallel_for(T, kRows, [&](int64_t begin, int64_t end) {
      MB_SIMD(sum_rows)(args, begin, end, sums.data() + begin / kRows * H);
    });
    add_columns({sums.data(), blocks, H}, args.y.data<float>(), args.accumulate);
  };
  dispatch(
      "column_sum", args.x.device(), [&] { return column_sum_cost(args); }, cpu,
      [&](Stream stream) { column_sum_cuda(args, stream); },
      [&] {  // on CUDA about as much
        return KernelMemory{.workspaces = {column_sum_workspace(args.x.dim(0), args.x.dim(1))}};
      });
}

void sum(const SumArgs& args) {
  check(args);
  const auto cpu = [&] {
    const int64_t chunks = blocks_of(args.x.numel(), kChunk);
    const Workspace<double> sums(chunks);
    parallel_for(args.x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      sums.data()[begin / kChunk] = MB_SIMD(sum_chunk)(args, begin, end);
    });
    double total = 0;
    for (int64_t i = 0; i < chunks; ++i) total += sums.data()[i];
    *args.y.data<float>() = static_cast<float>(total);
  };
  dispatch(
      "sum", args.x.device(), [&] { return sum_cost(args); }, cpu,
      [&](Stream stream) { sum_cuda(args, stream); },
      [&] {
        const int64_t chunks = blocks_of(args.x.numel(), kChunk);
        return KernelMemory{.workspaces = {chunks * static_cast<int64_t>(sizeof(double))}};
      });
}

}  // namespace minibert
