// gemm_ffma.cu: the exact f32 GEMM of gemm_ffma_cuda.h: its launcher and its forms.
#include "core/kernels/gemm_ffma_cuda.h"

namespace minibert {
namespace {

using LargeFfmaTile = GemmTile<128, 128, 32, 64, 4, 1>;
using SmallFfmaTile = GemmTile<64, 64, 32, 64, 4, 3>;

template <typename Tile, bool kAAlongK, bool kBAlongK>
void launch_ffma(const GemmLaunch& p, Stream stream) {
  const int64_t tiles = ceil_div(p.finish.M, Tile::kM) * ceil_div(p.finish.N, Tile::kN);
  launch(gemm_ffma_kernel<Tile, kAAlongK, kBAlongK>, {tiles, p.splits}, Tile::kThreads,
         Tile::kSharedBytes, stream, p);
}

template <bool kAAlongK, bool kBAlongK>
void launch_sized(const GemmLaunch& p, GemmTileSize size, Stream stream) {
  size == GemmTileSize::large ? launch_ffma<LargeFfmaTile, kAAlongK, kBAlongK>(p, stream)
                              : launch_ffma<SmallFfmaTile, kAAlongK, kBAlongK>(p, stream);
}

}  // namespace

// ---- 12. Instantiations ------------------------------------------------------------------------
void gemm_ffma(const GemmLaunch& p, GemmTileSize size, Stream stream) {
  if (!p.transpose_a && p.transpose_b) return launch_sized<true, true>(p, size, stream);
  if (!p.transpose_a) return launch_sized<true, false>(p, size, stream);
  if (!p.transpose_b) return launch_sized<false, false>(p, size, stream);
  launch_ffma<SmallFfmaTile, false, true>(p, stream);
}

}  // namespace minibert
