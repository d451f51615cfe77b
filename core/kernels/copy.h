// copy.h: bytes copied, between host and device too, and rows picked from a matrix and put back.
// Called by core/tensor.cpp, core/device_value.h, and autograd/gather_rows.cpp (heads on the masked
// rows only). Easy to get wrong: row -1 is no row. Test: ctest -R kernels_copy.
#pragma once

#include "core/operand.h"
#include "core/profile.h"
#include "core/stream.h"

namespace minibert {

// ---- 1. Mathematics ----------------------------------------------------------------------------
//   gather y[p] = x[row[p]], or 0 where row[p] is -1; its backward is scatter_add
//   dx[row[p]] += dy[p], nothing where row[p] is -1
// ---- 2. Shapes and types ------------------------------------------------------------------------
//   x, dx [T, H]; y, dy [P, H] of one type E = f32, bf16 or f16; row [P] i32, 0-based or -1. Rows of
//   scatter_add are distinct but for -1.
// ---- 3. Cost ------------------------------------------------------------------------------------
//   bound by memory:  gather reads and writes P H elements;  scatter_add 3 P H, and T H written
//   where dx is zeroed first; a row number 4 bytes
// ---- 4. Precision and determinism ---------------------------------------------------------------
//   Copies are exact. An element gets at most one addition, in f32: no order matters. (The CPU
//   shares out columns, so it would add repeated rows in ascending p; CUDA does not promise that.)
// ---- 5. Interface -------------------------------------------------------------------------------
/// to = from, byte by byte; operands of one device and as many bytes.
void copy_bytes(const Operand& from, const Operand& to);
/// to = 0, every byte.
void zero_bytes(const Operand& to);
/// From and to the host's memory: to.bytes() bytes. copy_to_host waits for the device.
void copy_to_device(const void* host, const Operand& to);
void copy_to_host(const Operand& from, void* host);

/// y[p] = x[row[p]], or 0 where row[p] is -1.
/// Shapes  x [T, H]; row [P] i32, -1 .. T-1 (not checked here: they are the device's); y [P, H].
/// Errors  UsageError for shapes or types that disagree.
struct GatherRows {
  Operand x, row, y;
};
/// dx[row[p]] += dy[p] where row[p] is not -1; unless `accumulate`, dx is zeroed first.
/// Errors as gather_rows.
struct ScatterAddRows {
  Operand dy, row, dx;
  bool accumulate = false;
};
void gather_rows(const GatherRows& args);
void scatter_add_rows(const ScatterAddRows& args);
void gather_rows_reference(const GatherRows& args);
void scatter_add_rows_reference(const ScatterAddRows& args);
Cost gather_rows_cost(const GatherRows& args);
Cost scatter_add_rows_cost(const ScatterAddRows& args);

void copy_bytes_cuda(const Operand& from, const Operand& to, Stream stream);
void zero_bytes_cuda(const Operand& to, Stream stream);
void copy_to_device_cuda(const void* host, const Operand& to, Stream stream);
void copy_to_host_cuda(const Operand& from, void* host, Stream stream);
void gather_rows_cuda(const GatherRows& args, Stream stream);
/// Rung 1 .. kGatherRowsRungs of copy.cu, the last of which gather_rows_cuda runs.
inline constexpr int kGatherRowsRungs = 3;
void gather_rows_cuda_rung(const GatherRows& args, Stream stream, int rung);
void scatter_add_rows_cuda(const ScatterAddRows& args, Stream stream);

}  // namespace minibert
