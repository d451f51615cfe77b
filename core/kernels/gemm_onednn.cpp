// gemm_onednn.cpp: plain matrix multiplication by oneDNN's sgemm.
// Called by gemm.cpp. sgemm copies panels of both matrices into blocks by itself, so that a leading
// dimension of 3,072 does less harm (how much is left: onednn_is_faster in gemm.cpp). Its matmul
// primitive was tried on the shapes of BERT-base (one thread of a Zen 4): with row-major operands it
// is 2 to 30 % slower; with weights reordered into its own layout the product is -7 to 11 % faster,
// but reordering at each call costs more than that wins. Speed: minibert bench gemm.
// The product is cut into tiles by its shape alone, one thread each: so the thread count does not
// change bits, and small products, where oneDNN's own threads gain little, scale too.
#include <algorithm>

#include <oneapi/dnnl/dnnl.hpp>

#include "core/error.h"
#include "core/kernels/gemm_backend.h"
#include "core/parallel.h"

namespace minibert {
namespace {

const char* name_of(dnnl::cpu_isa isa) {
  switch (isa) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "other instruction set";
  }
}

/// Size of the tiles of c. Large enough that packing panels costs little, small enough for 8 tasks.
struct Tile {
  int64_t rows = 256, columns = 1024;
};

int64_t parts(int64_t size, int64_t tile) {
  return (size + tile - 1) / tile;
}

Tile tile_of(const GemmProblem& p) {
  constexpr int64_t kTasks = 8, kSmallest = 64;
  Tile tile;
  while (parts(p.M, tile.rows) * parts(p.N, tile.columns) < kTasks) {
    int64_t& larger =
        std::min(tile.rows, p.M) >= std::min(tile.columns, p.N) ? tile.rows : tile.columns;
    if (larger <= kSmallest) break;
    larger /= 2;
  }
  return tile;
}

void multiply_tile(const GemmProblem& p, int64_t row, int64_t rows, int64_t column,
                   int64_t columns) {
  const float* a = p.transpose_a ? p.a + row : p.a + row * p.K;
  const float* b = p.transpose_b ? p.b + column * p.K : p.b + column;
  const dnnl_status_t status =
      dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', rows, columns, p.K,
                 /* alpha= */ 1.0f, a, p.transpose_a ? p.M : p.K, b, p.transpose_b ? p.K : p.N,
                 p.accumulate ? 1.0f : 0.0f, p.c + row * p.N + column, p.N);
  MB_ASSERT(status == dnnl_success, "gemm: oneDNN answers {} for [{}, {}] = [{}, {}] x [{}, {}]",
            static_cast<int>(status), rows, columns, rows, p.K, p.K, columns);
}

}  // namespace

bool gemm_onednn_available() {
  return true;
}

void gemm_onednn(const GemmProblem& p) {
  const Tile tile = tile_of(p);
  const int64_t down = parts(p.M, tile.rows), across = parts(p.N, tile.columns);
  // One task would run outside parallel_blocks' threads, on oneDNN's own, which may split K.
  if (down * across == 1) return gemm_builtin(p);
  parallel_blocks(down * across, [&](int64_t task) {
    const int64_t row = task / across * tile.rows, column = task % across * tile.columns;
    multiply_tile(p, row, std::min(tile.rows, p.M - row), column,
                  std::min(tile.columns, p.N - column));
  });
}

std::string gemm_onednn_description() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("oneDNN {}.{}.{} ({})", version->major, version->minor, version->patch,
                     name_of(dnnl::get_effective_cpu_isa()));
}

}  // namespace minibert
