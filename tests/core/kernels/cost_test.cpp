// cost_test.cpp: what each chapter's section 3 says that its kernel costs is what the profile counts:
// the limits in `bench` and `bench step` rest on it. Expected values: section 3, by hand.
#include "core/kernels/attention.h"
#include "core/kernels/copy.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/embedding.h"
#include "core/kernels/gemm.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/optimizer.h"
#include "core/kernels/reduce.h"
#include "core/profile.h"
#include "core/row_groups.h"
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

TEST(Cost, GemmMovesEachMatrixOnceAndCountsEpilogues) {
  constexpr int64_t M = 5, N = 7, K = 11;
  const Tensor a = random_tensor({M, K}, 1), b = random_tensor({K, N}, 2),
               bias = random_tensor({N}, 3), c = Tensor::zeros({M, N}), pre = Tensor::zeros({M, N}),
               sums = Tensor::zeros({N});
  GemmArgs args;
  args.a = a;
  args.b = b;
  args.c = c;
  const auto cost = [&] { return cost_of("gemm", [&] { gemm(args); }); };
  expect_cost(cost(), 2 * 5 * 7 * 11, 5 * 11 + 11 * 7 + 5 * 7);
  args.accumulate = true;  // c is read too
  expect_cost(cost(), 770, 55 + 77 + 2 * 35);
  args.accumulate = false;
  args.epilogue = GemmArgs::Epilogue::bias_gelu;
  args.bias = bias;
  args.pre_activation = pre;
  expect_cost(cost(), 770 + 35 * (1 + 45), 55 + 77 + 2 * 35 + 7);
  args.epilogue = GemmArgs::Epilogue::dgelu;
  args.bias = Operand();
  args.column_sum = sums;  // a product with the slope, and an addition to the sum
  expect_cost(cost(), 770 + 35 * (45 + 1 + 1), 55 + 77 + 2 * 35 + 7);
}

TEST(Cost, BytesAreThoseOfTheTypes) {
  const Tensor a = Tensor::zeros({5, 11}, DType::bf16), b = Tensor::zeros({11, 7}, DType::bf16),
               c = Tensor::zeros({5, 7}), sums = Tensor::zeros({11}), total = Tensor::zeros({});
  GemmArgs args;
  args.a = a;
  args.b = b;
  args.c = c;
  EXPECT_EQ(gemm_cost(args).bytes, 2 * (55 + 77) + 4 * 35);
  EXPECT_EQ(column_sum_cost({a, sums}).bytes, 2 * 55 + 4 * 11);
  EXPECT_EQ(column_sum_cost({a, sums, /* accumulate= */ true}).bytes, 2 * 55 + 2 * 4 * 11);
  EXPECT_EQ(sum_cost({a, total}).bytes, 2 * 55 + 4);
  EXPECT_EQ(sum_cost({a, total}).flops, 55);
}

TEST(Cost, AttentionSumsSquaresOfLengths) {
  constexpr int64_t N = 9, A = 2, D = 32;  // lengths 3 and 5; the ninth row is beyond T
  constexpr double kSquares = 3 * 3 + 5 * 5, kRows = 8;
  const Tensor qkv = random_tensor({N, 3, A, D}, 1), out = Tensor::empty({N, A, D}),
               lse = Tensor::empty({N, A}), cu_seqlens = integers({0, 3, 8}),
               sample = integers({0, 1}), dout = random_tensor({N, A, D}, 2),
               dqkv = Tensor::empty({N, 3, A, D});
  const AttentionForward forward{qkv, out, lse, cu_seqlens, sample, 0.5f, {}};
  expect_cost(cost_of("attention_forward", [&] { attention_forward(forward); }),
              4 * A * D * kSquares, (4 * A * D + A) * kRows);
  const AttentionBackward backward{qkv, out, lse, dout, dqkv, cu_seqlens, sample, 0.5f, {}};
  expect_cost(cost_of("attention_backward", [&] { attention_backward(backward); }),
              10 * A * D * kSquares, (9 * A * D + A) * kRows);
}

// A device's lengths cannot be read while its step runs: the caller says them, or nothing is counted.
TEST(Cost, AttentionOnADeviceGoesByTheLengthsThatItIsTold) {
  constexpr int64_t N = 9, A = 2, D = 32;
  const Tensor qkv = random_tensor({N, 3, A, D}, 1), out = Tensor::empty({N, A, D}),
               lse = Tensor::empty({N, A}), cu_seqlens = integers({0, 3, 8});
  AttentionForward args{qkv, out, lse, cu_seqlens};
  args.cu_seqlens.place = Device::cuda;
  args.cu_seqlens.pointer = reinterpret_cast<void*>(1);  // whoever reads it crashes
  EXPECT_EQ(attention_forward_cost(args).flops, 0);
  args.lengths = {.sum = 8, .sum_of_squares = 3 * 3 + 5 * 5};
  const Cost cost = attention_forward_cost(args);
  EXPECT_EQ(cost.flops, 4 * A * D * (3 * 3 + 5 * 5));
  EXPECT_EQ(cost.bytes, (4 * A * D + A) * 8 * sizeof(float));
}

TEST(Cost, LayerNormCountsTheArraysThatAreThere) {
  constexpr int64_t T = 4, H = 6;
  constexpr double kForwardVectors = 2 * H + 2 * T;   // weight, beta; mean, rstd
  constexpr double kBackwardVectors = 1 * H + 2 * T;  // weight; mean, rstd
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
  constexpr int64_t N = 5, H = 4, kRows = 9;
  constexpr double kGroups = N + N + N + 1;  // order, row, start: as many groups as positions
  for (DType dtype : kComputeTypes) {
    const double E = dtype == DType::f32 ? 1 : 0.5;  // floats an element
    const Tensor first = random_tensor({kRows, H}, 1, 1, dtype),
                 second = random_tensor({kRows, H}, 2, 1, dtype), y = Tensor::empty({N, H}, dtype),
                 index = integers({1, 0, 8, 3, 3}), dtable = Tensor::zeros({kRows, H});
    EmbeddingForward forward;
    forward.count = 2;
    forward.table[0] = first;
    forward.table[1] = second;
    forward.index[0] = forward.index[1] = index;
    forward.y = y;
    expect_cost(cost_of("embedding_forward", [&] { embedding_forward(forward); }), N * H,
                3 * N * H * E + 2 * N);
    const RowGroups groups = group_rows(index.span<int32_t>(), kRows, N);
    EmbeddingBackward backward{y, groups.order, groups.row, groups.start, dtable};
    const auto run = [&] { embedding_backward(backward); };
    // dy is read, the rows hit are read and written; the table is written once more to be zeroed.
    const double moved = N * H * E + 2 * N * H + kGroups;
    expect_cost(cost_of("embedding_backward", run), N * H, moved + kRows * H);
    backward.accumulate = true;
    expect_cost(cost_of("embedding_backward", run), N * H, moved);
  }
}

TEST(Cost, CrossEntropyReadsLogitsOnceAndBackwardWritesThemToo) {
  constexpr int64_t P = 3, V = 16, kClasses = 13;
  for (DType dtype : kComputeTypes) {
    const double E = dtype == DType::f32 ? 1 : 0.5;
    const Tensor logits = random_tensor({P, V}, 1, 1, dtype), label = integers({0, 12, 5}),
                 lse = Tensor::empty({P}), loss = Tensor::empty({}), dy = Tensor::zeros({}),
                 dlogits = Tensor::empty({P, V}, dtype);
    const float scale = 1;
    const CrossEntropyForward forward{logits, label, lse, loss, {&scale, nullptr}, kClasses};
    expect_cost(cost_of("cross_entropy_forward", [&] { cross_entropy_forward(forward); }),
                20 * P * kClasses, P * kClasses * E + 2 * P);
    const CrossEntropyBackward backward{logits, label, lse, dy, dlogits, &scale, kClasses};
    expect_cost(cost_of("cross_entropy_backward", [&] { cross_entropy_backward(backward); }),
                20 * P * V, 2 * P * V * E + 2 * P);
  }
}

TEST(Cost, RowsAreMovedOrAdded) {
  for (DType dtype : kComputeTypes) {
    const double E = dtype == DType::f32 ? 1 : 0.5;
    const Tensor x = random_tensor({6, 4}, 1, 1, dtype), rows = integers({5, 0, 2}),
                 y = Tensor::empty({3, 4}, dtype);
    expect_cost(cost_of("gather_rows", [&] { gather_rows({x, rows, y}); }), 0, 2 * 3 * 4 * E + 3);
    ScatterAddRows args{y, rows, x, /* accumulate= */ true};
    const auto scatter = [&] { scatter_add_rows(args); };
    expect_cost(cost_of("scatter_add_rows", scatter), 3 * 4, 3 * 3 * 4 * E + 3);
    args.accumulate = false;  // dx is zeroed first
    expect_cost(cost_of("scatter_add_rows", scatter), 3 * 4, (3 * 3 + 6) * 4 * E + 3);
  }
}

TEST(Cost, OptimizersAreBoundByMemory) {
  std::vector<OptimizerTensor> tensors = {{.offset = 0, .count = 10}, {.offset = 16, .count = 20}};
  const std::vector<OptimizerPiece> pieces = cut_into_pieces(tensors, 40);
  double squares[2], sums[2];
  SquareSums lamb_sums[2];
  TensorNorms norms[2];
  StepState state;
  state.applied = 1;
  OptimizerArgs args;
  const Tensor masters = random_tensor({40}, 1), gradients = random_tensor({40}, 2);
  const Tensor m = Tensor::zeros({40}), v = Tensor::zeros({40}), half = masters.to(DType::f16);
  args.masters = args.working = masters;
  args.gradients = gradients, args.first_moment = m, args.second_moment = v;
  args.tables = {tensors.data(), pieces.data(), 2, 2};
  args.range = piece_range(pieces, 0, 2);  // 30 weights take part
  args.piece_sums = lamb_sums, args.norms = norms, args.state = &state;
  const auto bytes = [&](const char* op, void (*pass)(const OptimizerArgs&), UpdateRule rule) {
    args.rule = rule;
    return cost_of(op, [&] { pass(args); }).bytes;
  };
  const UpdateRule lamb{.ratio_of = RatioOf::update}, adam;
  const UpdateRule lans{.direction = Direction::lans, .ratio_of = RatioOf::update};
  const UpdateRule lars{.direction = Direction::momentum, .ratio_of = RatioOf::update};
  const UpdateRule sgd{.direction = Direction::momentum};
  const UpdateRule mlperf{.direction = Direction::momentum, .ratio_of = RatioOf::gradient};
  EXPECT_EQ(bytes("optimizer_moments", optimizer_moments, lamb), 24 * 30);
  EXPECT_EQ(bytes("optimizer_ratios", optimizer_ratios, lamb), sizeof lamb_sums + sizeof norms);
  EXPECT_EQ(bytes("optimizer_apply", optimizer_apply, lamb), 16 * 30);
  EXPECT_EQ(bytes("optimizer_step", optimizer_step, adam), 28 * 30);
  EXPECT_EQ(bytes("optimizer_moments", optimizer_moments, lans), 24 * 30);
  EXPECT_EQ(bytes("optimizer_apply", optimizer_apply, lans), 20 * 30);
  EXPECT_EQ(bytes("optimizer_moments", optimizer_moments, lars), 16 * 30);
  EXPECT_EQ(bytes("optimizer_apply", optimizer_apply, lars), 12 * 30);
  EXPECT_EQ(bytes("optimizer_step", optimizer_step, sgd), 20 * 30);
  EXPECT_EQ(bytes("optimizer_norms", optimizer_norms, mlperf), 8 * 30);
  args.working = half;
  EXPECT_EQ(bytes("optimizer_apply", optimizer_apply, lamb), 18 * 30);
  EXPECT_EQ(bytes("optimizer_step", optimizer_step, adam), 30 * 30);
  float scales[2];
  const GradientScalesArgs gradients_of{
      .tables = args.tables, .tensor_sums = sums, .state = &state, .scales = scales};
  EXPECT_EQ(cost_of("gradient_scales", [&] { gradient_scales(gradients_of); }).bytes, 12 * 2);
  const SquareSumsArgs square_sums{gradients, args.tables, args.range, squares, sums};
  EXPECT_EQ(cost_of("piece_square_sums", [&] { piece_square_sums(square_sums); }).bytes, 4 * 30);
  EXPECT_EQ(cost_of("tensor_square_sums", [&] { tensor_square_sums(square_sums); }).bytes, 8 * 4);
}

}  // namespace
}  // namespace minibert::testing
