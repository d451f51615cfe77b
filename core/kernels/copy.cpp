// copy.cpp: rows picked from a matrix, and put back. Both are plain copies or sums of rows, so that
// the fast version is the reference.
#include "core/kernels/copy.h"

#include <cstring>

#include "core/dispatch.h"
#include "core/kernels/check.h"
#include "core/parallel.h"

namespace minibert {
namespace {

constexpr int64_t kRowsPerBlock = 64;
constexpr int64_t kColumnsPerBlock = 64;

// `full` [T, H] is the matrix that `row` [P] points into, `picked` [P, H] its rows.
void check_rows(const char* op, const Tensor& full, const char* full_name, const Tensor& row,
                const Tensor& picked, const char* picked_name) {
  check_rank(op, full_name, full, 2);
  check_rank(op, "row", row, 1, DType::i32);
  check_tensor(op, picked_name, picked, {row.dim(0), full.dim(1)},
               "rows picked, width of the matrix they come from");
  const int64_t T = full.dim(0);
  for (int64_t p = 0; p < row.dim(0); ++p) {
    const int32_t index = row.data<int32_t>()[p];
    MB_CHECK_AS(DataError, index >= 0 && index < T,
                "{}: row[{}] is {}, expected 0 to {} (rows of {} {})", op, p, index, T - 1,
                full_name, full.shape().str());
  }
}

}  // namespace

// ---- 6. and 7. Reference and CPU ---------------------------------------------------------------
void gather_rows(const Tensor& x, const Tensor& row, const Tensor& y, Stream) {
  check_rows("gather_rows", x, "x", row, y, "y");
  const int64_t P = y.dim(0), H = y.dim(1);
  dispatch("gather_rows", x.device(), 0, 8.0 * P * H, [&] {
    const float* in = x.data<float>();
    const int32_t* rows = row.data<int32_t>();
    float* out = y.data<float>();
    if (H == 0) return;
    parallel_for(P, kRowsPerBlock, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        std::memcpy(out + p * H, in + rows[p] * H, sizeof(float) * static_cast<size_t>(H));
    });
  });
}

void scatter_add_rows(const Tensor& dy, const Tensor& row, const Tensor& dx, bool accumulate,
                      Stream) {
  check_rows("scatter_add_rows", dx, "dx", row, dy, "dy");
  const int64_t P = dy.dim(0), H = dy.dim(1);
  dispatch("scatter_add_rows", dx.device(), static_cast<double>(P) * H, 12.0 * P * H, [&] {
    if (!accumulate) dx.fill_zero();
    const float* in = dy.data<float>();
    const int32_t* rows = row.data<int32_t>();
    float* out = dx.data<float>();
    // Rows may repeat, so threads share out columns and each adds its part in ascending p.
    parallel_for(H, kColumnsPerBlock, [&](int64_t begin, int64_t end) {
      for (int64_t p = 0; p < P; ++p) {
        for (int64_t h = begin; h < end; ++h) out[rows[p] * H + h] += in[p * H + h];
      }
    });
  });
}

}  // namespace minibert
