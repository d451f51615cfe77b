// optimizer_test.cpp: steps against the double reference over tensors of odd sizes with poisoned
// gaps between them and working copies in every type, square sums against a loop in double, the
// chunk grid, two ranks' shares against the whole, and the edge cases of the trust ratio.
// Trajectories and named optimizers: tests/optim/optimizer_test.cpp.
#include "core/kernels/optimizer.h"

#include <cmath>
#include <limits>

#include "tests/core/kernels/optimizer_case.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr int64_t kCounts[] = {1,
                               3,
                               0,
                               15,
                               16,
                               17,
                               63,
                               kOptimizerChunk - 1,
                               kOptimizerChunk,
                               kOptimizerChunk + 1,
                               2 * kOptimizerChunk + 5};

class OptimizerKernel : public EachLevel {};

Step random_step(int64_t gap, DType compute = DType::f32) {
  return testing::random_step(kCounts, gap, compute);
}

void expect_same_bits(const Step& got, const Step& expected) {
  EXPECT_TRUE(same_bits(got.masters, expected.masters));
  EXPECT_TRUE(same_bits(got.working, expected.working));
  EXPECT_TRUE(same_bits(got.first_moment, expected.first_moment));
  EXPECT_TRUE(same_bits(got.second_moment, expected.second_moment));
  EXPECT_TRUE(same_norms(got.norms, expected.norms));
}

// `expected` comes from the reference, both from `before`. NaN equals NaN here, and so the gaps are
// untouched.
void expect_near(const Step& got, const Step& expected, const Step& before) {
  EXPECT_TRUE(near("masters", got.masters, expected.masters, Tolerance::elementwise));
  EXPECT_TRUE(near("m", got.first_moment, expected.first_moment, Tolerance::elementwise));
  EXPECT_TRUE(near("v", got.second_moment, expected.second_moment, Tolerance::elementwise));
  EXPECT_TRUE(same_bits(got.gradients, before.gradients));
  EXPECT_TRUE(near_in("working", got.working, expected.masters, Tolerance::elementwise));
  const Tensor rounded = got.masters.to(got.working.dtype());
  const std::vector<bool> used = got.used();
  const auto element = static_cast<size_t>(size_of(got.working.dtype()));
  for (size_t i = 0; i < used.size(); ++i) {
    const Tensor& wanted = used[i] ? rounded : before.working;
    const auto at = [&](const Tensor& t) {
      return static_cast<const char*>(t.raw()) + i * element;
    };
    ASSERT_EQ(std::memcmp(at(got.working), at(wanted), element), 0)
        << "working copy, element " << i;
  }
}

std::string what(int64_t gap, DType compute) {
  return fmt::format("gap {} {}", gap, name_of(compute));
}

void expect_near(const std::vector<TensorNorms>& got, const std::vector<TensorNorms>& expected) {
  const auto near_to = [](double x, double y, size_t tensor) {
    EXPECT_NEAR(x, y, std::abs(y) * Tolerance::reduction) << "tensor " << tensor;
  };
  for (size_t k = 0; k < got.size(); ++k) {
    near_to(got[k].weight, expected[k].weight, k);
    near_to(got[k].update, expected[k].update, k);
    near_to(got[k].trust_ratio, expected[k].trust_ratio, k);
    near_to(got[k].gradient_ratio, expected[k].gradient_ratio, k);
  }
}

TEST_P(OptimizerKernel, EveryRuleMatchesReferenceWithEveryWorkingCopy) {
  for (const NamedRule& rule : test_rules()) {
    for (const DType compute : kComputeTypes) {
      const int64_t gap = compute == DType::f32 ? 0 : compute == DType::bf16 ? 1 : 64;
      SCOPED_TRACE(fmt::format("{}, {}", rule.name, what(gap, compute)));
      const Step before = random_step(gap, compute).with(rule.rule);
      Step got = before.clone(), expected = before.clone();
      got.run();
      optimizer_reference(expected.args());
      expect_near(got, expected, before);
      expect_near(got.norms, expected.norms);
    }
  }
}

TEST_P(OptimizerKernel, ASkippedStepTouchesNothing) {
  for (const NamedRule& rule : test_rules()) {
    for (const DType compute : kComputeTypes) {
      SCOPED_TRACE(rule.name);
      Step before = random_step(1, compute).with(rule.rule);
      before.state.applied = 0;
      Step step = before.clone();
      step.run();
      optimizer_reference(step.args());
      expect_same_bits(step, before);
      for (const SquareSums& sums : step.piece_sums) EXPECT_EQ(sums.weight, -1);
    }
  }
}

// Norms of 0, of less and more than the largest allowed, and one whose inverse is no float.
TEST(OptimizerGradientScales, ClipOrNormalizeEachTensor) {
  std::vector<OptimizerTensor> tensors(4);
  const std::vector<double> squares{0, 4 * 64 * 64.0, 36 * 64 * 64.0, 1e-90};
  std::vector<float> scales(4, -1);
  StepState state;
  state.loss_scale = 64;
  GradientScalesArgs args{.tables = {tensors.data(), nullptr, 4, 0},
                          .tensor_sums = squares.data(),
                          .state = &state,
                          .max_norm = 3,
                          .scales = scales.data()};
  gradient_scales(args);
  EXPECT_EQ(scales, std::vector<float>(4, -1)) << "a skipped step";
  state.applied = 1;
  gradient_scales(args);
  EXPECT_EQ(scales, (std::vector<float>{1 / 64.0f, 1 / 64.0f, 0.5f / 64, 1 / 64.0f}));
  args.normalize = true;
  gradient_scales(args);
  EXPECT_EQ(scales[0], 1 / 64.0f);
  EXPECT_FLOAT_EQ(scales[1], 1 / 128.0f);
  EXPECT_FLOAT_EQ(scales[2], 1 / 384.0f);
  EXPECT_TRUE(std::isfinite(scales[3]) && scales[3] > 1e38f);
}

TEST_P(OptimizerKernel, SquareSumsMatchReferenceWithoutGaps) {
  Step step = random_step(3);
  const std::vector<double> got = step.square_sums(step.gradients);
  square_sums_reference(step.squares(step.gradients));
  for (size_t k = 0; k < got.size(); ++k)
    EXPECT_NEAR(got[k], step.tensor_squares[k], step.tensor_squares[k] * 1e-12) << k;
}

TEST_P(OptimizerKernel, SquareSumsNeitherOverflowNorUnderflow) {
  for (const float value : {1e-30f, 1e30f, std::numeric_limits<float>::max()}) {
    Step step({{.offset = 0, .count = 100}}, 100, DType::f32);
    for (float& element : step.gradients.span<float>()) element = value;
    EXPECT_NEAR(std::sqrt(step.square_sums(step.gradients)[0]) / value, 10, 1e-12);
  }
}

TEST_P(OptimizerKernel, SquareSumsShowEveryNonFiniteElement) {
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    for (const int64_t at : {0, 15, 36}) {
      Step step({{.offset = 0, .count = 37}, {.offset = 37, .count = 100}}, 137, DType::f32);
      step.gradients.data<float>()[at] = bad;
      const std::vector<double>& squares = step.square_sums(step.gradients);
      EXPECT_FALSE(std::isfinite(squares[0])) << at;
      EXPECT_TRUE(std::isfinite(squares[1])) << at;
    }
  }
}

// What two ranks do that share the buffers out at a chunk border, which lies inside of a tensor:
// each its own pieces, then both know all piece sums.
TEST_P(OptimizerKernel, SharesAtAChunkBorderGiveTheBitsOfTheWhole) {
  for (const NamedRule& rule : test_rules()) {
    const bool has_ratio = rule.rule.ratio_of != RatioOf::none;
    const bool of_update = rule.rule.ratio_of == RatioOf::update;
    const int64_t gap = of_update ? 0 : 1;
    const Step before = random_step(gap, DType::bf16).with(rule.rule);
    for (const int64_t chunk : {1, 3}) {
      SCOPED_TRACE(fmt::format("{}, gap {} chunk {}", rule.name, gap, chunk));
      Step whole = before.clone();
      whole.run();
      const std::vector<double> whole_squares = whole.square_sums(whole.gradients);

      Step ranks[] = {before.clone(), before.clone()};
      const int64_t border = chunk * kOptimizerChunk;
      const std::vector<OptimizerPiece>& pieces = before.pieces;
      size_t middle = 0;
      while (middle < pieces.size() && pieces[middle].offset < border) ++middle;
      const PieceRange share[] = {piece_range(pieces, 0, middle),
                                  piece_range(pieces, middle, pieces.size())};
      for (const int rank : {0, 1}) {
        SquareSumsArgs squares = ranks[rank].squares(ranks[rank].gradients);
        squares.range = share[rank];
        piece_square_sums(squares);
        if (has_ratio)
          (of_update ? optimizer_moments : optimizer_norms)(ranks[rank].args(share[rank]));
      }
      for (size_t i = 0; i < pieces.size(); ++i) {  // all-gather
        const int from = i < middle ? 0 : 1;
        ranks[1 - from].piece_sums[i] = ranks[from].piece_sums[i];
        ranks[1 - from].piece_squares[i] = ranks[from].piece_squares[i];
      }
      for (const int rank : {0, 1}) {
        tensor_square_sums(ranks[rank].squares(ranks[rank].gradients));
        EXPECT_EQ(ranks[rank].tensor_squares, whole_squares);
        if (has_ratio) optimizer_ratios(ranks[rank].args());
        EXPECT_TRUE(same_norms(ranks[rank].norms, whole.norms));
        (of_update ? optimizer_apply : optimizer_step)(ranks[rank].args(share[rank]));
      }
      const int64_t size = before.masters.numel();
      for (const auto buffer : {&Step::masters, &Step::working, &Step::first_moment}) {
        const auto part = [&](const Step& step, int64_t first, int64_t count) {
          return (step.*buffer).slice(first, {count});
        };
        EXPECT_TRUE(same_bits(part(ranks[0], 0, border), part(whole, 0, border)));
        EXPECT_TRUE(
            same_bits(part(ranks[1], border, size - border), part(whole, border, size - border)));
        EXPECT_TRUE(same_bits(part(ranks[1], 0, border), part(before, 0, border)))
            << "a rank leaves the other's share alone";
      }
    }
  }
}

TEST(OptimizerPieces, AreCutAtMultiplesOfTheChunkWhateverTheTensors) {
  constexpr int64_t C = kOptimizerChunk;
  std::vector<OptimizerTensor> tensors = {{.offset = 5, .count = 10},
                                          {.offset = 15, .count = 0},
                                          {.offset = 64, .count = 3 * C - 64},
                                          {.offset = 3 * C, .count = C},
                                          {.offset = 4 * C + 1, .count = 7}};
  const std::vector<OptimizerPiece> pieces = cut_into_pieces(tensors, 5 * C);
  const OptimizerPiece expected[] = {{5, 10, 0},    {64, C - 64, 2}, {C, C, 2},
                                     {2 * C, C, 2}, {3 * C, C, 3},   {4 * C + 1, 7, 4}};
  ASSERT_EQ(pieces.size(), std::size(expected));
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(pieces[i].offset, expected[i].offset) << i;
    EXPECT_EQ(pieces[i].count, expected[i].count) << i;
    EXPECT_EQ(pieces[i].tensor, expected[i].tensor) << i;
  }
  const std::pair<int, int> of_tensor[] = {{0, 1}, {1, 0}, {1, 3}, {4, 1}, {5, 1}};
  for (size_t k = 0; k < tensors.size(); ++k) {
    EXPECT_EQ(tensors[k].first_piece, of_tensor[k].first) << k;
    EXPECT_EQ(tensors[k].pieces, of_tensor[k].second) << k;
  }
  EXPECT_EQ(piece_range(pieces, 1, 4).elements, 3 * C - 64);
}

TEST_P(OptimizerKernel, TrustRatioIsOneWhereANormIsZeroOrTheTensorIsNotAdapted) {
  Step step({{.offset = 0, .count = 4},
             {.offset = 4, .count = 4},
             {.offset = 8, .count = 4, .decay = 0.01f, .adapt = false},
             {.offset = 12, .count = 4, .decay = 0.01f}},
            16, DType::f32);
  step.first_moment.fill_zero();
  step.second_moment.fill_zero();
  step.state.learning_rate = 0.5f;
  for (int64_t i = 0; i < 4; ++i) step.masters.data<float>()[i] = 0;    // zero weight
  for (int64_t i = 4; i < 8; ++i) step.gradients.data<float>()[i] = 0;  // zero update
  const Tensor before = step.masters.clone();
  step.state.step_correction = 1;
  step.run();
  const std::vector<TensorNorms>& norms = step.norms;
  EXPECT_EQ(norms[0].weight, 0);
  EXPECT_GT(norms[0].update, 0);
  EXPECT_EQ(norms[0].trust_ratio, 1.0f);
  EXPECT_EQ(norms[1].update, 0);
  EXPECT_EQ(norms[1].trust_ratio, 1.0f);
  EXPECT_TRUE(same_bits(step.masters.slice(4, {4}), before.slice(4, {4})));
  EXPECT_GT(norms[2].weight / norms[2].update, 0);  // norms are reported all the same
  EXPECT_EQ(norms[2].trust_ratio, 1.0f);
  EXPECT_FLOAT_EQ(norms[3].trust_ratio, static_cast<float>(norms[3].weight / norms[3].update));
  for (int64_t i = 0; i < 4; ++i) EXPECT_NE(step.masters.data<float>()[i], 0.0f);
}

// By hand, from norms of 2 (weight) and 8 (what the ratio divides by).
TEST(OptimizerTrustRatio, HasBoundsACoefficientAndTheGradientsDivisor) {
  const OptimizerTensor tensor{.decay = 0.5f, .adapt = true}, fixed{.adapt = false};
  const auto ratio = [&](const TrustRule& trust, RatioOf of = RatioOf::update, double weight = 2) {
    return trust_ratio({.ratio_of = of, .trust = trust}, tensor, weight, 8);
  };
  EXPECT_EQ(ratio({}), 0.25f);
  EXPECT_EQ(ratio({.weight_norm_max = 1}), 0.125f);
  EXPECT_EQ(ratio({.weight_norm_max = 10}), 0.25f);
  EXPECT_EQ(ratio({.weight_norm_min = 4}), 0.5f);
  EXPECT_EQ(ratio({.weight_norm_min = 4}, RatioOf::update, 0), 0.5f) << "phi(0) is not 0";
  EXPECT_EQ(ratio({.ratio_max = 0.125}), 0.125f);
  EXPECT_EQ(ratio({.ratio_min = 0.5}), 0.5f);
  EXPECT_EQ(ratio({.ratio_min = 0.5}, RatioOf::update, 0), 1.0f) << "bounds do not touch the 1";
  EXPECT_EQ(ratio({.ratio_max = 0.5}, RatioOf::update, 0), 1.0f);
  EXPECT_EQ(ratio({.coefficient = 0.5}), 0.125f);
  EXPECT_EQ(ratio({.coefficient = 18, .eps = 3}, RatioOf::gradient), 3.0f);  // 18 2 / (8 + 1 + 3)
  EXPECT_EQ(ratio({.eps = 3}), 0.25f);
  EXPECT_EQ(trust_ratio({}, fixed, 2, 8), 1.0f);
  EXPECT_EQ(trust_ratio({}, tensor, 2, 0), 1.0f);
}

TEST_P(OptimizerKernel, ThreadsDoNotMatter) {
  for (const NamedRule& rule : test_rules()) {
    SCOPED_TRACE(rule.name);
    const Step before = random_step(1, DType::bf16).with(rule.rule);
    std::vector<Step> runs;
    for (const int threads : {1, 2}) {
      set_num_threads(threads);
      runs.push_back(before.clone());
      runs.back().run();
      runs.back().square_sums(before.gradients);
    }
    expect_same_bits(runs[0], runs[1]);
    EXPECT_EQ(runs[0].tensor_squares, runs[1].tensor_squares);
  }
}

TEST_P(OptimizerKernel, WritesNothingOutsideTheBuffers) {
  for (const NamedRule& rule : test_rules()) {
    for (const DType compute : kComputeTypes) {
      SCOPED_TRACE(rule.name);
      Guarded w({37}, true), m({37}, true), v({37}, true), working({37}, true, compute);
      Step step({{.offset = 0, .count = 37, .decay = 0.01f}}, 37, compute);
      step.rule = rule.rule;
      for (const auto& [guarded, tensor] : {std::pair{&w, &step.masters},
                                            {&m, &step.first_moment},
                                            {&v, &step.second_moment},
                                            {&working, &step.working}}) {
        (*guarded)->copy_from(*tensor);
        *tensor = **guarded;
      }
      if (compute == DType::f32) step.working = step.masters;
      step.run();
      EXPECT_TRUE(w.intact() && m.intact() && v.intact() && working.intact());
    }
  }
}

TEST(OptimizerKernelErrors, RejectBuffersThatDisagree) {
  Step good = random_step(0);
  const auto rejects = [&](auto damage) {
    Step step = good.clone();
    damage(step);
    for (const auto kernel : {optimizer_moments, optimizer_ratios, optimizer_apply})
      EXPECT_THROW(kernel(step.args()), UsageError);
    step.rule.ratio_of = RatioOf::none;
    EXPECT_THROW(optimizer_step(step.args()), UsageError);
    step.rule.ratio_of = RatioOf::gradient;
    EXPECT_THROW(optimizer_norms(step.args()), UsageError);
  };
  rejects([](Step& s) { s.gradients = Tensor::zeros({5}); });
  rejects([](Step& s) { s.second_moment = Tensor(); });
  rejects([](Step& s) { s.first_moment = s.first_moment.to(DType::bf16); });
  rejects([](Step& s) { s.working = Tensor(); });
  rejects([](Step& s) { s.working = Tensor::zeros({5}, DType::bf16); });
  rejects([](Step& s) { s.working = s.masters.clone(); });
  SquareSumsArgs squares = good.squares(Tensor::zeros({5}, DType::bf16));
  EXPECT_THROW(piece_square_sums(squares), UsageError);
  EXPECT_THROW(tensor_square_sums(squares), UsageError);
}

TEST(OptimizerKernelErrors, RejectTensorsOutsideTheBuffersOrOnOneAnother) {
  constexpr int64_t kSize = 100;
  const OptimizerTensor first{.offset = 10, .count = 20};
  for (const OptimizerTensor& bad :
       {OptimizerTensor{kSize - 1, 2}, OptimizerTensor{-1, 2}, OptimizerTensor{40, -1},
        OptimizerTensor{40, kSize + 1}, OptimizerTensor{29, 2}, OptimizerTensor{0, 5}}) {
    std::vector<OptimizerTensor> tensors = {first, bad};
    EXPECT_THROW(cut_into_pieces(tensors, kSize), UsageError) << bad.offset;
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, OptimizerKernel, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
