// cost_test.cpp: what each chapter's section 3 says that its kernel costs is what the profile counts:
// the limits in `bench` and `bench step` rest on it. Expected values: section 3, by hand.
#include "core/kernels/attention.h"
#include "core/kernels/copy.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/embedding.h"
#include "core/kernels/gemm.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/optimizer.h"
#include "core/profile.h"
#include "tests/core/kernels/kernel_fixture.h"

namespace minibert::testing {
namespace {

/// What the one kernel that `run` calls says of itself.
template <typename Run>
ProfileEntry cost_of(const char* kernel, Run run) {
  set_profiling(true);
  run();
  set_profiling(false);
  return profile_entries().at(kernel);
}

void expect_cost(const ProfileEntry& entry, double flops, double floats) {
  EXPECT_EQ(entry.calls, 1);
  EXPECT_EQ(entry.flops, flops);
  EXPECT_EQ(entry.bytes, 4 * floats);
}

TEST(Cost, GemmMovesEachMatrixOnce) {
  constexpr int64_t M = 5, N = 7, K = 11;
  GemmArgs args;
  args.a = random_tensor({M, K}, 1);
  args.b = random_tensor({K, N}, 2);
  args.c = Tensor::zeros({M, N});
  expect_cost(cost_of("gemm", [&] { gemm(args); }), 2 * 5 * 7 * 11, 5 * 11 + 11 * 7 + 5 * 7);
  args.accumulate = true;  // c is read too
  expect_cost(cost_of("gemm", [&] { gemm(args); }), 770, 55 + 77 + 2 * 35);
  args.accumulate = false;
  args.epilogue = GemmArgs::Epilogue::bias_gelu;
  args.bias = random_tensor({N}, 3);
  args.pre_activation = Tensor::empty({M, N});
  expect_cost(cost_of("gemm", [&] { gemm(args); }), 770, 55 + 77 + 2 * 35);
}

TEST(Cost, AttentionSumsSquaresOfLengths) {
  constexpr int64_t N = 9, A = 2, D = 32;  // lengths 3 and 5; the ninth row is beyond T
  constexpr double kSquares = 3 * 3 + 5 * 5, kRows = 8;
  const Tensor qkv = random_tensor({N, 3, A, D}, 1), out = Tensor::empty({N, A, D}),
               lse = Tensor::empty({N, A}), cu_seqlens = integers({0, 3, 8}),
               sample = integers({0, 1});
  const AttentionForward forward{qkv, out, lse, cu_seqlens, sample, 0.5f, {}};
  expect_cost(cost_of("attention_forward", [&] { attention_forward(forward); }),
              4 * A * D * kSquares, (4 * A * D + A) * kRows);
  const AttentionBackward backward{
      qkv,    out,  lse, random_tensor({N, A, D}, 2), Tensor::empty({N, 3, A, D}), cu_seqlens,
      sample, 0.5f, {}};
  expect_cost(cost_of("attention_backward", [&] { attention_backward(backward); }),
              10 * A * D * kSquares, (9 * A * D + A) * kRows);
}

TEST(Cost, LayerNormCountsTheArraysThatAreThere) {
  constexpr int64_t T = 4, H = 6;
  constexpr double kForwardVectors = 3 * H + 2 * T;   // bias, weight, beta; mean, rstd
  constexpr double kBackwardVectors = 4 * H + 2 * T;  // weight, dbias, dweight, dbeta; mean, rstd
  LayerNormForward forward;
  forward.x = random_tensor({T, H}, 1);
  forward.weight = random_tensor({H}, 2);
  forward.beta = random_tensor({H}, 3);
  forward.y = Tensor::empty({T, H});
  forward.mean = Tensor::empty({T});
  forward.rstd = Tensor::empty({T});
  const auto run_forward = [&] { layer_norm_forward(forward); };
  expect_cost(cost_of("layer_norm_forward", run_forward), 10 * T * H, 2 * T * H + kForwardVectors);
  forward.residual = random_tensor({T, H}, 4);
  forward.z = Tensor::empty({T, H});
  expect_cost(cost_of("layer_norm_forward", run_forward), 10 * T * H, 4 * T * H + kForwardVectors);

  LayerNormBackward backward;
  backward.dy = random_tensor({T, H}, 5);
  backward.z = forward.z;
  backward.mean = forward.mean;
  backward.rstd = forward.rstd;
  backward.weight = forward.weight;
  backward.dz = Tensor::zeros({T, H});
  const auto run_backward = [&] { layer_norm_backward(backward); };
  expect_cost(cost_of("layer_norm_backward", run_backward), 20 * T * H,
              3 * T * H + kBackwardVectors);
  backward.dx = Tensor::empty({T, H});
  expect_cost(cost_of("layer_norm_backward", run_backward), 20 * T * H,
              4 * T * H + kBackwardVectors);
  backward.accumulate_dz = true;  // dz is read too
  expect_cost(cost_of("layer_norm_backward", run_backward), 20 * T * H,
              5 * T * H + kBackwardVectors);
}

TEST(Cost, EmbeddingAddsRowsAndZeroesTheTable) {
  constexpr int64_t T = 5, H = 4, kRows = 9;
  EmbeddingForward forward;
  forward.count = 2;
  forward.table[0] = random_tensor({kRows, H}, 1);
  forward.table[1] = random_tensor({kRows, H}, 2);
  forward.index[0] = forward.index[1] = integers({1, 0, 8, 3, 3});
  forward.y = Tensor::empty({T, H});
  expect_cost(cost_of("embedding_forward", [&] { embedding_forward(forward); }), T * H, 3 * T * H);
  EmbeddingBackward backward{random_tensor({T, H}, 3), forward.index[0], Tensor::zeros({kRows, H})};
  const auto run = [&] { embedding_backward(backward); };
  // dy is read, the rows hit are read and written; the table is written once more to be zeroed.
  expect_cost(cost_of("embedding_backward", run), T * H, 3 * T * H + kRows * H);
  backward.accumulate = true;
  expect_cost(cost_of("embedding_backward", run), T * H, 3 * T * H);
}

TEST(Cost, CrossEntropyReadsLogitsOnceAndBackwardWritesThemToo) {
  constexpr int64_t P = 3, V = 16, kClasses = 13;
  const Tensor logits = random_tensor({P, V}, 1), label = integers({0, 12, 5}),
               lse = Tensor::empty({P});
  const CrossEntropyForward forward{
      logits, label, lse, Tensor::empty({P}), Tensor::empty({P}, DType::u8), kClasses};
  expect_cost(cost_of("cross_entropy_forward", [&] { cross_entropy_forward(forward); }),
              20 * P * kClasses, P * kClasses);
  const CrossEntropyBackward backward{logits, label, lse, Tensor::empty({P, V}), kClasses, 1.0f};
  expect_cost(cost_of("cross_entropy_backward", [&] { cross_entropy_backward(backward); }),
              20 * P * V, 2 * P * V);
}

TEST(Cost, RowsAreMovedOrAdded) {
  const Tensor x = random_tensor({6, 4}, 1), rows = integers({5, 0, 2}), y = Tensor::empty({3, 4});
  expect_cost(cost_of("gather_rows", [&] { gather_rows(x, rows, y); }), 0, 2 * 3 * 4);
  const auto scatter = [&] { scatter_add_rows(y, rows, x, /* accumulate= */ true); };
  expect_cost(cost_of("scatter_add_rows", scatter), 3 * 4, 3 * 3 * 4);
}

TEST(Cost, OptimizersAreBoundByMemory) {
  OptimizerStepArgs args;
  args.weights = random_tensor({40}, 1);
  args.gradients = random_tensor({40}, 2);
  args.first_moment = Tensor::zeros({40});
  args.second_moment = Tensor::zeros({40});
  args.tensors = {{0, 10}, {16, 20}};  // 30 weights take part
  std::vector<TensorNorms> norms;
  EXPECT_EQ(cost_of("lamb_step", [&] { lamb_step(args, norms); }).bytes, 40 * 30);
  EXPECT_EQ(cost_of("adamw_step", [&] { adamw_step(args, false); }).bytes, 28 * 30);
  EXPECT_EQ(cost_of("tensor_norms", [&] { tensor_norms(args.gradients, args.tensors); }).bytes,
            4 * 30);
}

}  // namespace
}  // namespace minibert::testing
