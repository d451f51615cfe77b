// gemm_plan_test.cpp: how a product on device cuda is divided: plain arithmetic, which every build has.
// What the plans compute is tested in gemm_cuda_test.cpp.
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/kernels/gemm_cuda_table.h"

namespace minibert::testing {
namespace {

using Tile = GemmTileSize;

TEST(GemmPlan, CutsKWhereCHasTooFewTilesForTheChip) {
  // A weight's gradient of BERT-large: 64 large tiles, 8,192 tokens.
  const GemmPlan wgrad = gemm_plan(1024, 1024, 8192, DType::bf16, false, 132);
  EXPECT_GE(wgrad.splits, 2);
  EXPECT_EQ(wgrad.tile, Tile::large);
  // The same layer's forward product: 512 tiles fill two blocks on each of 132 multiprocessors.
  const GemmPlan forward = gemm_plan(8192, 1024, 1024, DType::bf16, false, 132);
  EXPECT_EQ(forward.splits, 1);
  EXPECT_EQ(forward.tile, Tile::large);
  // One sequence: too few large tiles.
  const GemmPlan small = gemm_plan(128, 768, 768, DType::bf16, false, 132);
  EXPECT_EQ(small.tile, Tile::small);
}

// All blocks of a weight's gradient run at once, and occupy more than half of the chip: two large
// tiles fit a multiprocessor.
TEST(GemmPlan, FillsTheChipOnce) {
  const GemmPlan wgrad = gemm_plan(1024, 1024, 16384, DType::bf16, false, 132);
  EXPECT_EQ(wgrad.tile, Tile::large);
  EXPECT_GT(64 * wgrad.splits, 132);
  EXPECT_LE(64 * wgrad.splits, 2 * 132);
}

// 132 multiprocessors have 528 places for small tiles: 528 fill them, and the last of 529 would have the
// chip for itself.
TEST(GemmPlan, CountsTheWaveOfASingleTile) {
  EXPECT_EQ(gemm_plan(11 * 64, 48 * 64, 768, DType::bf16, false, 132).tile, Tile::small);
  EXPECT_EQ(gemm_plan(23 * 64, 23 * 64, 768, DType::bf16, false, 132).tile, Tile::large);
}

// The parts of K go to memory and come back: not for a c that is as large as the factors.
TEST(GemmPlan, DoesNotCutKWhereCIsLarge) {
  for (int64_t K : {512, 1024, 4096}) {
    const GemmPlan plan = gemm_plan(8192, 8192, K, DType::bf16, false, 132);
    EXPECT_EQ(plan.splits, 1) << K;
    EXPECT_EQ(plan.tile, Tile::large) << K;
  }
}

// 121 tiles on 132 multiprocessors: halves of K would make the products a tenth faster, and cost a
// pass over two parts of 8 MB.
TEST(GemmPlan, DoesNotCutKWhereTheSecondPassCostsMore) {
  EXPECT_EQ(gemm_plan(1408, 1408, 512, DType::bf16, false, 132).splits, 1);
}

TEST(GemmPlan, LeavesEachPartOfKEightRounds) {
  for (int64_t K : {1, 255, 256, 511, 512, 4096, 65536}) {
    for (DType type : {DType::f32, DType::bf16, DType::f16}) {
      const int64_t round = 64 / static_cast<int64_t>(size_of(type));
      const GemmPlan plan = gemm_plan(64, 64, K, type, true, 132);
      EXPECT_GE(plan.splits, 1);
      if (plan.splits > 1) {
        EXPECT_GE(K / plan.splits, 8 * round - round) << K;
      }
    }
  }
}

TEST(GemmCudaBackend, HasNames) {
  for (const GemmCudaBackend backend :
       {GemmCudaBackend::fastest, GemmCudaBackend::ours, GemmCudaBackend::cublaslt})
    EXPECT_EQ(parse_gemm_cuda_backend(name_of(backend)), backend);
  EXPECT_THROW(parse_gemm_cuda_backend("cublas"), UsageError);
}

}  // namespace
}  // namespace minibert::testing
