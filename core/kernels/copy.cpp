// copy.cpp: bytes copied and zeroed; rows picked from a matrix, and put back.
#include "core/kernels/copy.h"

#include <cstring>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/kernels/reference.h"
#include "core/parallel.h"
#include "core/simd.h"

namespace minibert {

// copy_simd.cpp
MB_SIMD_DECLARE(void, scatter_add_columns, (const ScatterAddRows& args, int64_t begin, int64_t end))

namespace {

constexpr int64_t kBytesPerBlock = 1 << 20;
constexpr int64_t kRowsPerBlock = 64;
constexpr int64_t kColumnsPerBlock = 64;

// `full` [T, H] is the matrix that `row` [P] points into, `picked` [P, H] its rows.
void check_rows(const char* op, const Operand& full, const char* full_name, const Operand& row,
                const Operand& picked, const char* picked_name) {
  check_compute(op, full_name, full, 2);
  check_rank(op, "row", row, 1, DType::i32);
  check_tensor(op, picked_name, picked, {row.dim(0), full.dim(1)},
               "rows picked, width of the matrix they come from", full.dtype());
}

void check(const GatherRows& args) {
  check_rows("gather_rows", args.x, "x", args.row, args.y, "y");
}

void check(const ScatterAddRows& args) {
  check_rows("scatter_add_rows", args.dx, "dx", args.row, args.dy, "dy");
}

}  // namespace

// ---- 3. Cost -----------------------------------------------------------------------------------

namespace {

Cost copy_cost(int64_t bytes) {
  return {0, 2.0 * static_cast<double>(bytes)};
}

}  // namespace

Cost gather_rows_cost(const GatherRows& args) {
  return {0, static_cast<double>(2 * args.y.bytes() + args.row.bytes())};
}

Cost scatter_add_rows_cost(const ScatterAddRows& args) {
  const int64_t zeroed = args.accumulate ? 0 : args.dx.bytes();
  return {static_cast<double>(args.dy.numel()),
          static_cast<double>(3 * args.dy.bytes() + args.row.bytes() + zeroed)};
}

// ---- 6. Reference ------------------------------------------------------------------------------

void gather_rows_reference(const GatherRows& args) {
  check(args);
  const int64_t H = args.y.dim(1);
  for (int64_t i = 0; i < args.y.numel(); ++i) {
    const int64_t row = args.row.data<int32_t>()[i / H];
    put(args.y, i, row < 0 ? 0 : get(args.x, row * H + i % H));
  }
}

void scatter_add_rows_reference(const ScatterAddRows& args) {
  check(args);
  const int64_t H = args.dy.dim(1);
  if (!args.accumulate)
    for (int64_t i = 0; i < args.dx.numel(); ++i) put(args.dx, i, 0);
  for (int64_t i = 0; i < args.dy.numel(); ++i) {
    const int64_t row = args.row.data<int32_t>()[i / H];
    if (row < 0) continue;
    put(args.dx, row * H + i % H, get(args.dx, row * H + i % H) + get(args.dy, i));
  }
}

// ---- 7. CPU ------------------------------------------------------------------------------------

namespace {

void copy_blocks(const void* from, void* to, int64_t bytes) {
  parallel_for(bytes, kBytesPerBlock, [&](int64_t begin, int64_t end) {
    std::memcpy(static_cast<std::byte*>(to) + begin, static_cast<const std::byte*>(from) + begin,
                static_cast<size_t>(end - begin));
  });
}

void zero_blocks(const Operand& to) {
  parallel_for(to.bytes(), kBytesPerBlock, [&](int64_t begin, int64_t end) {
    std::memset(static_cast<std::byte*>(to.raw()) + begin, 0, static_cast<size_t>(end - begin));
  });
}

void gather_cpu(const GatherRows& args) {
  const auto row_bytes = static_cast<int64_t>(size_of(args.x.dtype())) * args.x.dim(1);
  const auto* x = static_cast<const std::byte*>(args.x.raw());
  auto* y = static_cast<std::byte*>(args.y.raw());
  const int32_t* row = args.row.data<int32_t>();
  if (row_bytes == 0) return;
  parallel_for(args.y.dim(0), kRowsPerBlock, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      if (row[p] < 0)
        std::memset(y + p * row_bytes, 0, static_cast<size_t>(row_bytes));
      else
        std::memcpy(y + p * row_bytes, x + row[p] * row_bytes, static_cast<size_t>(row_bytes));
    }
  });
}

void scatter_cpu(const ScatterAddRows& args) {
  if (!args.accumulate) zero_blocks(args.dx);
  parallel_for(args.dx.dim(1), kColumnsPerBlock, [&](int64_t begin, int64_t end) {
    MB_SIMD(scatter_add_columns)(args, begin, end);
  });
}

}  // namespace

void copy_bytes(const Operand& from, const Operand& to) {
  MB_ASSERT(from.bytes() == to.bytes() && from.device() == to.device(),
            "copy_bytes: {} bytes to {}", from.bytes(), to.bytes());
  dispatch(
      "copy", to.device(), [&] { return copy_cost(to.bytes()); },
      [&] { copy_blocks(from.raw(), to.raw(), to.bytes()); },
      [&](Stream stream) { copy_bytes_cuda(from, to, stream); });
}

void zero_bytes(const Operand& to) {
  dispatch(
      "zero", to.device(),
      [&] {
        return Cost{0, static_cast<double>(to.bytes())};
      },
      [&] { zero_blocks(to); }, [&](Stream stream) { zero_bytes_cuda(to, stream); });
}

void copy_to_device(const void* host, const Operand& to) {
  dispatch(
      "copy_to_device", to.device(), [&] { return copy_cost(to.bytes()); },
      [&] { copy_blocks(host, to.raw(), to.bytes()); },
      [&](Stream stream) { copy_to_device_cuda(host, to, stream); });
}

void copy_to_host(const Operand& from, void* host) {
  dispatch(
      "copy_to_host", from.device(), [&] { return copy_cost(from.bytes()); },
      [&] { copy_blocks(from.raw(), host, from.bytes()); },
      [&](Stream stream) { copy_to_host_cuda(from, host, stream); });
}

void gather_rows(const GatherRows& args) {
  check(args);
  dispatch(
      "gather_rows", args.x.device(), [&] { return gather_rows_cost(args); },
      [&] { gather_cpu(args); }, [&](Stream stream) { gather_rows_cuda(args, stream); });
}

void scatter_add_rows(const ScatterAddRows& args) {
  check(args);
  dispatch(
      "scatter_add_rows", args.dx.device(), [&] { return scatter_add_rows_cost(args); },
      [&] { scatter_cpu(args); }, [&](Stream stream) { scatter_add_rows_cuda(args, stream); });
}

}  // namespace minibert
