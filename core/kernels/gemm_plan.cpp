// gemm_plan.cpp: how the production kernel on device cuda divides a product: tiles of c, parts of K;
// and the names of who multiplies. Called by gemm.cu and by flags. Plain arithmetic, so every build
// has it. Easy to break: a plan decides how sums are cut, and so the bits; it may depend on the shape,
// the type and the chip, on nothing else. Test: ctest -R gemm_plan.
#include <algorithm>

#include "core/error.h"
#include "core/kernels/gemm_cuda.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/nearest_name.h"

namespace minibert {
namespace {

int64_t ceil_div(int64_t n, int64_t d) {
  return (n + d - 1) / d;
}

// What a plan costs, in clocks of the whole chip. The figures are a model, made of section 8's rates:
// clocks of a round of a large tile, what a tile's start and end cost in rounds, the share of its
// peak that a tile's inner loop reaches, alone on a multiprocessor and with others.
struct TileModel {
  GemmTileSize size;
  int edge, resident;      // rows and columns; blocks of a multiprocessor
  double alone, together;  // shares of the peak
};
constexpr TileModel kTiles[] = {{GemmTileSize::large, 128, 2, 0.6, 0.9},
                                {GemmTileSize::small, 64, 4, 0.2, 0.6}};
constexpr double kTensorRound = 512, kFfmaRound = 2048, kEdgeRounds = 8;
constexpr double kSecondPassClocks = 5000, kBytesPerClock = 1000;

double plan_clocks(const TileModel& tile, int64_t M, int64_t N, int64_t rounds, int splits,
                   double round_clocks, int multiprocessors) {
  const int64_t blocks = ceil_div(M, tile.edge) * ceil_div(N, tile.edge) * splits;
  const double share = tile.edge * tile.edge / (128.0 * 128.0);
  const double block_clocks =
      (double(ceil_div(rounds, splits)) + kEdgeRounds) * round_clocks * share;
  const auto wave = [&](int64_t of_multiprocessor) {
    return block_clocks * std::max(double(of_multiprocessor) / tile.together, 1 / tile.alone);
  };
  const int64_t slots = int64_t{multiprocessors} * tile.resident, left = blocks % slots;
  double clocks = double(blocks / slots) * wave(tile.resident);
  if (left > 0) clocks += wave(ceil_div(left, multiprocessors));
  if (splits > 1) clocks += kSecondPassClocks + 8.0 * double(M * N * splits) / kBytesPerClock;
  return clocks;
}

}  // namespace

GemmPlan gemm_plan(int64_t M, int64_t N, int64_t K, DType type, bool tf32, int multiprocessors) {
  constexpr int kMostSplits = 32, kLeastRounds = 8;
  const auto round_k = static_cast<int64_t>(kGemmRoundBytes / size_of(type));
  const int64_t rounds = ceil_div(K, round_k);
  const double round_clocks = type == DType::f32 && !tf32 ? kFfmaRound : kTensorRound;
  GemmPlan best;
  double least = 0;
  for (const TileModel& tile : kTiles) {
    for (int splits = 1; splits <= kMostSplits; ++splits) {
      if (splits > 1 && rounds / splits < kLeastRounds) break;
      const double clocks = plan_clocks(tile, M, N, rounds, splits, round_clocks, multiprocessors);
      if (least == 0 || clocks < least) least = clocks, best = {tile.size, splits};
    }
  }
  return best;
}

GemmCudaBackend parse_gemm_cuda_backend(const std::string& name) {
  for (const GemmCudaBackend backend :
       {GemmCudaBackend::fastest, GemmCudaBackend::ours, GemmCudaBackend::cublaslt})
    if (name == name_of(backend)) return backend;
  fail<UsageError>("gemm is \"{}\", expected fastest, ours or cublaslt.{}", name,
                   did_you_mean(name, {"fastest", "ours", "cublaslt"}));
}

void check_gemm_cuda_backend(GemmCudaBackend backend, Device device, const std::string& section) {
  MB_CHECK(device == Device::cuda || backend == GemmCudaBackend::fastest,
           "{0}gemm is {1}, but {0}device is {2}, expected cuda: on the CPU there is no such "
           "choice. Leave --gemm out, or use --device cuda.",
           section, name_of(backend), name_of(device));
}

const char* name_of(GemmCudaBackend backend) {
  switch (backend) {
    case GemmCudaBackend::fastest:
      return "fastest";
    case GemmCudaBackend::ours:
      return "ours";
    case GemmCudaBackend::cublaslt:
      return "cublaslt";
  }
  return "?";
}

}  // namespace minibert
