// gemm_builtin.cpp: our own blocked GEMM: chunks of c, blocks of K, panels, tiles.
// Called by gemm.cpp where oneDNN is absent or the slower one. The inner loops are in gemm_simd.cpp.
//   for each chunk of N columns, each chunk of M rows, each block of K:
//     pack b;  pack a;  multiply tile by tile
// Packed panels [depth, width] are f32 and are read with stride 1, whatever the type, the transposes
// and the leading dimensions of a and b. Easy to break: K is cut at multiples of 768 whatever its
// length, and its blocks are added to c in ascending order, so that neither threads nor M nor N
// change the bits of an element, nor does a K that goes on with zeros: spare rows of a batch leave
// the gradients of weights as they are.
// Panels of weights are not kept for the next call: packing is a small part of a product. Forward and
// backward need different panels, so a cache would take twice the memory of the weights, and save
// that part only from a step's second micro-batch on.
// 16-bit types are not given to sgemm by way of f32 copies: at BERT-base's shapes only the decoder's
// forward product would gain by it.
// Source: Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
#include <algorithm>

#include "core/kernels/gemm_backend.h"
#include "core/kernels/gemm_simd.h"
#include "core/kernels/workspace.h"
#include "core/parallel.h"

namespace minibert {
namespace {

constexpr int64_t kDepth = 768;   // most elements of K packed at a time: c is written K / 768 times
constexpr int64_t kChunk = 3072;  // most rows or columns packed at a time
constexpr int64_t kTileRows = 96;      // most of one thread's task: a multiple of 12 and of 6; its
constexpr int64_t kTileColumns = 256;  // a panels (96 x 768 floats, 288 KiB) stay in L2
constexpr int64_t kTasks = 16;         // smaller tiles where there would be fewer
constexpr int64_t kPackDepth = 64;     // elements of K at a time where lines lie side by side, so
                                       // that all panels use a cache line up before it leaves L1
constexpr int64_t kPackGrain = 32768;  // elements a thread packs at a time

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// One operand's lines of one chunk and block, packed.
struct Packed {
  GemmOperand from;  // its first line and k
  int64_t lines, width, depth;
  float* panels;  // panel i at panels + i * width * depth

  void pack() const {
    const int64_t grain = std::max<int64_t>(1, kPackGrain / (width * depth));
    const int64_t step = from.k_stride == 1 ? depth : kPackDepth;
    parallel_for(ceil_div(lines, width), grain, [&](int64_t begin, int64_t end) {
      for (int64_t k = 0; k < depth; k += step) {
        for (int64_t panel = begin; panel < end; ++panel)
          pack_part(panel, k, std::min(step, depth - k));
      }
    });
  }
  // `count` elements of K from k on, of one panel.
  void pack_part(int64_t panel, int64_t k, int64_t count) const {
    const int64_t first = panel * width;
    MB_SIMD(gemm_pack)
    (from.from(first, k), std::min(width, lines - first), width, count,
     panels + first * depth + k * width);
  }
};

// Rows and columns of c that one thread works on at a time. Bits do not depend on them.
struct TaskTile {
  int64_t rows = kTileRows, columns = kTileColumns;
};

TaskTile task_tile(int64_t rows, int64_t columns) {
  TaskTile tile;
  const auto tasks = [&] { return ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns); };
  while (tasks() < kTasks && tile.columns > 64) tile.columns /= 2;
  while (tasks() < kTasks && tile.rows > 24) tile.rows /= 2;
  return tile;
}

// c[chunk of M, chunk of N] (+)= a b for one block of K. `done(part)` follows each tile.
template <typename Done>
void multiply_chunk(const Packed& a, const Packed& b, float* c, int64_t c_stride, bool add_c,
                    const Done& done) {
  const TaskTile tile = task_tile(a.lines, b.lines);
  const int64_t across = ceil_div(b.lines, tile.columns);
  const auto multiply = MB_SIMD(gemm_multiply);
  parallel_blocks(ceil_div(a.lines, tile.rows) * across, [&](int64_t task) {
    const int64_t m = task / across * tile.rows, n = task % across * tile.columns;
    const int64_t rows = std::min(tile.rows, a.lines - m);
    const int64_t columns = std::min(tile.columns, b.lines - n);
    float* corner = c + m * c_stride + n;
    multiply({a.panels + m * a.depth, b.panels + n * b.depth, a.depth, corner, c_stride, rows,
              columns, add_c});
    done(GemmPart{corner, c_stride, m, rows, n, columns});
  });
}

// Floats for the panels of up to kChunk of `lines`.
int64_t panel_floats(int64_t lines, int64_t width, int64_t depth) {
  return ceil_div(std::min(lines, kChunk), width) * width * depth;
}

// Floats of the buffers of a product: panels of a and of b, and a chunk of c where c has no place.
struct Buffers {
  int64_t depth, a, b, chunk;
  explicit Buffers(const GemmProblem& p) : depth(std::min(p.K, kDepth)) {
    const GemmTile tile = MB_SIMD(gemm_tile)();
    a = panel_floats(p.M, tile.rows, depth);
    b = panel_floats(p.N, tile.columns, depth);
    chunk = p.c ? 0 : std::min(p.M, kChunk) * std::min(p.N, kChunk);
  }
};

}  // namespace

KernelMemory gemm_builtin_memory(const GemmProblem& p) {
  const Buffers buffers(p);
  constexpr int64_t kFloat = sizeof(float);
  return {.workspaces = {kFloat * buffers.a, kFloat * buffers.b, kFloat * buffers.chunk}};
}

void gemm_builtin(const GemmProblem& p) {
  const GemmTile tile = MB_SIMD(gemm_tile)();
  static_assert(kTileRows == 4 * 24 && 24 % 12 == 0 && kTileColumns == 4 * 64 && 64 % 32 == 0 &&
                    kChunk % kTileRows == 0 && kChunk % kTileColumns == 0,
                "panels do not straddle tiles however often these are halved, nor tiles chunks");
  static_assert(kGemmPartRows == 24, "the smallest tile");
  const Buffers buffers(p);
  const int64_t depth = buffers.depth;
  const Workspace<float> a_buffer(buffers.a), b_buffer(buffers.b), chunk(buffers.chunk);
  const GemmOperand a_all{p.a, p.type, p.transpose_a ? 1 : p.K, p.transpose_a ? p.M : 1};
  const GemmOperand b_all{p.b, p.type, p.transpose_b ? p.K : 1, p.transpose_b ? 1 : p.N};
  for (int64_t n = 0; n < p.N; n += kChunk) {
    const int64_t columns = std::min(kChunk, p.N - n);
    for (int64_t m = 0; m < p.M; m += kChunk) {
      const int64_t rows = std::min(kChunk, p.M - m);
      float* c = p.c ? p.c + m * p.N + n : chunk.data();
      for (int64_t k = 0; k < p.K; k += depth) {
        const int64_t length = std::min(depth, p.K - k);
        const Packed a{a_all.from(m, k), rows, tile.rows, length, a_buffer.data()};
        const Packed b{b_all.from(n, k), columns, tile.columns, length, b_buffer.data()};
        a.pack();
        b.pack();
        const bool last = k + depth >= p.K;
        multiply_chunk(a, b, c, p.c ? p.N : columns, p.accumulate || k > 0, [&](GemmPart part) {
          if (!last || !p.finish) return;
          part.row += m;
          part.column += n;
          p.finish(part);
        });
      }
    }
  }
}

}  // namespace minibert
