// optimizer_cuda_test.cpp: the CUDA passes, rung by rung, against the double reference over tensors of
// odd sizes with poisoned gaps between them and working copies in every type; the bits that the
// contract promises (the CPU's elements, sums in order, shares of ranks, misaligned buffers); and the
// whole step with planted infinities and NaNs, which must change nothing at all.
#include <cmath>
#include <limits>

#include "core/device_value.h"
#include "core/kernels/optimizer.h"
#include "core/kernels/step.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/core/kernels/optimizer_case.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr int64_t C = kOptimizerChunk;
// Around a pack, a block's packs, a chunk.
constexpr int64_t kCounts[] = {1, 3, 0, 4, 5, 17, 1023, 1024, 1025, C - 1, C, C + 1, 2 * C + 5};
constexpr auto kCategory = MemoryCategory::workspace;

class OptimizerCuda : public CudaTest {};

/// The same step on the device.
class CudaStep {
 public:
  explicit CudaStep(const Step& step, bool misaligned = false)
      : masters(step.masters.shape(), DType::f32, misaligned),
        copy(step.working.shape(), step.working.dtype(), misaligned),
        gradients(step.masters.shape(), DType::f32, misaligned),
        first_moment(step.masters.shape(), DType::f32, misaligned),
        second_moment(step.masters.shape(), DType::f32, misaligned),
        tensors(step.tensors, kCategory, Device::cuda),
        pieces(step.pieces, kCategory, Device::cuda),
        piece_squares(step.piece_squares, kCategory, Device::cuda),
        tensor_squares(step.tensor_squares, kCategory, Device::cuda),
        piece_sums(step.piece_sums, kCategory, Device::cuda),
        norms(step.norms, kCategory, Device::cuda),
        gradient_scales(step.gradient_scales, kCategory, Device::cuda),
        state(step.state, Device::cuda),
        range(step.all()),
        rule(step.rule) {
    copy_to_device(step.masters.raw(), *masters);
    copy_to_device(step.working.raw(), *copy);
    copy_to_device(step.gradients.raw(), *gradients);
    copy_to_device(step.first_moment.raw(), *first_moment);
    copy_to_device(step.second_moment.raw(), *second_moment);
  }
  const Tensor& working() const { return copy->dtype() == DType::f32 ? *masters : *copy; }
  OptimizerTables tables() const {
    return {tensors.get(), pieces.get(), static_cast<int32_t>(tensors.size()),
            static_cast<int32_t>(pieces.size())};
  }
  OptimizerArgs args() const {
    return {*masters,
            working(),
            *gradients,
            *first_moment,
            has_second_moment(rule) ? Operand(*second_moment) : Operand{},
            tables(),
            range,
            piece_sums.get(),
            norms.get(),
            rule,
            state.get(),
            rule.direction == Direction::lans ? gradient_scales.get() : nullptr};
  }
  SquareSumsArgs squares() const {
    return {*gradients, tables(), range, piece_squares.get(), tensor_squares.get()};
  }
  /// The passes that the rule needs, as optim/optimizer.cpp queues them.
  void run() const {
    if (rule.ratio_of != RatioOf::update) return run(kOptimizerRungs);
    optimizer_moments(args());
    optimizer_ratios(args());
    optimizer_apply(args());
  }
  /// The same by one rung of the passes that have several.
  void run(int rung) const {
    if (rule.ratio_of == RatioOf::none) return optimizer_step(args());
    if (rule.ratio_of == RatioOf::gradient) {
      optimizer_norms(args());
      optimizer_ratios(args());
      return optimizer_step(args());
    }
    optimizer_moments_cuda_rung(args(), current_stream(), rung);
    optimizer_ratios(args());
    optimizer_apply_cuda_rung(args(), current_stream(), rung);
  }
  void square_sums() const {
    piece_square_sums(squares());
    tensor_square_sums(squares());
  }
  /// What a step may write: weights, copy, moments.
  std::vector<Tensor> written() const {
    return {*masters, working(), *first_moment, *second_moment};
  }
  bool intact() const {
    return masters.intact() && copy.intact() && gradients.intact() && first_moment.intact() &&
           second_moment.intact();
  }

  GuardedCuda masters, copy, gradients, first_moment, second_moment;
  DeviceArray<OptimizerTensor> tensors;
  DeviceArray<OptimizerPiece> pieces;
  DeviceArray<double> piece_squares, tensor_squares;
  DeviceArray<SquareSums> piece_sums;
  DeviceArray<TensorNorms> norms;
  DeviceArray<float> gradient_scales;
  DeviceValue<StepState> state;
  PieceRange range;
  UpdateRule rule;
};

/// Rungs that a rule has: those of the two passes.
int rungs_of(const UpdateRule& rule) {
  return rule.ratio_of == RatioOf::update ? kOptimizerRungs : 1;
}

Step random_step(int64_t gap, DType compute = DType::f32) {
  return testing::random_step(kCounts, gap, compute);
}

// A small one, for many runs.
Step small_step(DType compute) {
  return {{{.offset = 0, .count = 1030, .decay = 0.01f},
           {.offset = 1030, .count = 7, .adapt = false},
           {.offset = 1088, .count = C, .decay = 0.01f}},
          1088 + C,
          compute};
}

void expect_same_bits(const std::vector<Tensor>& got, const std::vector<Tensor>& expected) {
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_TRUE(same_bits(on_cpu(got[i]), on_cpu(expected[i]))) << "buffer " << i;
}
std::vector<Tensor> written(const Step& step) {
  return {step.masters, step.working, step.first_moment, step.second_moment};
}

// `expected` comes from the reference, both from `before`. NaN equals NaN here, and so the gaps are
// untouched.
void expect_near(const CudaStep& got, const Step& expected, const Step& before) {
  const Tensor masters = on_cpu(*got.masters), working = on_cpu(got.working());
  EXPECT_TRUE(near("masters", masters, expected.masters, Tolerance::elementwise));
  EXPECT_TRUE(near("m", on_cpu(*got.first_moment), expected.first_moment, Tolerance::elementwise));
  EXPECT_TRUE(
      near("v", on_cpu(*got.second_moment), expected.second_moment, Tolerance::elementwise));
  EXPECT_TRUE(same_bits(on_cpu(*got.gradients), before.gradients));
  EXPECT_TRUE(near_in("working", working, expected.masters, Tolerance::elementwise));
  EXPECT_TRUE(got.intact());
  const Tensor rounded = masters.to(working.dtype());
  const std::vector<bool> used = before.used();
  const auto element = static_cast<size_t>(size_of(working.dtype()));
  for (size_t i = 0; i < used.size(); ++i) {
    const Tensor& wanted = used[i] ? rounded : before.working;
    const auto at = [&](const Tensor& t) {
      return static_cast<const char*>(t.raw()) + i * element;
    };
    ASSERT_EQ(std::memcmp(at(working), at(wanted), element), 0) << "working copy, element " << i;
  }
}

TEST_F(OptimizerCuda, EveryRuleMatchesReferenceWithEveryWorkingCopy) {
  for (const NamedRule& rule : test_rules()) {
    for (const DType compute : kComputeTypes) {
      const int64_t gap = compute == DType::f32 ? 0 : compute == DType::bf16 ? 1 : 64;
      const Step before = random_step(gap, compute).with(rule.rule);
      Step expected = before.clone();
      optimizer_reference(expected.args());
      for (int rung = 1; rung <= rungs_of(rule.rule); ++rung) {
        SCOPED_TRACE(fmt::format("{}, gap {} {} rung {}", rule.name, gap, name_of(compute), rung));
        const CudaStep got(before);
        got.run(rung);
        expect_near(got, expected, before);
        const std::vector<TensorNorms> norms = got.norms.read();
        for (size_t k = 0; k < norms.size(); ++k) {
          const TensorNorms &n = norms[k], &e = expected.norms[k];
          const auto near_to = [&](double x, double y) {
            EXPECT_NEAR(x, y, std::abs(y) * Tolerance::reduction) << k;
          };
          near_to(n.weight, e.weight);
          near_to(n.update, e.update);
          near_to(n.trust_ratio, e.trust_ratio);
          near_to(n.gradient_ratio, e.gradient_ratio);
        }
      }
    }
  }
}

TEST_F(OptimizerCuda, EachRungLaunchesItsKernel) {
  const CudaStep step(random_step(1, DType::bf16));
  expect_rungs({"optimizer_moments_of_tensor<", "optimizer_moments_kernel<1, ",
                "optimizer_moments_kernel<4, "},
               [&](int rung) { optimizer_moments_cuda_rung(step.args(), current_stream(), rung); });
  expect_rungs(
      {"optimizer_apply_to_tensor<", "optimizer_apply_kernel<1, ", "optimizer_apply_kernel<4, "},
      [&](int rung) { optimizer_apply_cuda_rung(step.args(), current_stream(), rung); });
}

TEST_F(OptimizerCuda, ElementsHaveTheBitsOfACpuWithFusedMultiplyAdd) {
  if (!simd_level_supported(SimdLevel::v3)) GTEST_SKIP() << "this CPU has no fused multiply-add";
  const SimdLevel level = simd_level();
  set_simd_level(SimdLevel::v3);
  for (const NamedRule& rule : test_rules()) {
    for (const DType compute : kComputeTypes) {
      SCOPED_TRACE(rule.name);
      Step cpu = random_step(1, compute).with(rule.rule);
      const CudaStep got(cpu);
      if (rule.rule.ratio_of == RatioOf::none) {
        optimizer_step(got.args());
        optimizer_step(cpu.args());
        expect_same_bits(got.written(), written(cpu));
      } else if (rule.rule.ratio_of == RatioOf::update) {
        optimizer_moments(got.args());
        optimizer_moments(cpu.args());
      }
      EXPECT_TRUE(same_bits(on_cpu(*got.first_moment), cpu.first_moment));
      EXPECT_TRUE(same_bits(on_cpu(*got.second_moment), cpu.second_moment));
    }
  }
  set_simd_level(level);
}

TEST_F(OptimizerCuda, ASkippedStepTouchesNothing) {
  for (const NamedRule& rule : test_rules()) {
    SCOPED_TRACE(rule.name);
    Step before = random_step(1, DType::bf16).with(rule.rule);
    before.state.applied = 0;
    const CudaStep step(before);
    for (int rung = 1; rung <= rungs_of(rule.rule); ++rung) step.run(rung);
    expect_same_bits(step.written(), written(before));
    EXPECT_TRUE(same_norms(step.norms.read(), before.norms));
    for (const SquareSums& sums : step.piece_sums.read()) EXPECT_EQ(sums.weight, -1);
  }
}

TEST_F(OptimizerCuda, GradientScalesHaveTheCpusBits) {
  constexpr int kTensors = 300;  // more than a block of threads
  RandomStream stream(5, StreamPurpose::user, 1);
  std::vector<double> squares(kTensors);
  for (double& square : squares) square = std::exp(4 * stream.normal());
  squares[7] = 0;
  StepState state;
  state.loss_scale = 64;
  for (const uint32_t applied : {0, 1}) {
    state.applied = applied;
    for (const bool normalize : {false, true}) {
      std::vector<float> scales(kTensors, -1);
      const DeviceArray<float> cuda_scales(scales, kCategory, Device::cuda);
      const DeviceArray<double> cuda_squares(squares, kCategory, Device::cuda);
      const DeviceValue<StepState> cuda_state(state, Device::cuda);
      GradientScalesArgs args{.tables = {nullptr, nullptr, kTensors, 0},
                              .tensor_sums = squares.data(),
                              .state = &state,
                              .max_norm = 0.01f,
                              .normalize = normalize,
                              .scales = scales.data()};
      gradient_scales(args);
      args.device = Device::cuda, args.tensor_sums = cuda_squares.get();
      args.state = cuda_state.get(), args.scales = cuda_scales.get();
      gradient_scales(args);
      EXPECT_EQ(cuda_scales.read(), scales);
    }
  }
}

// The whole step, as optim/optimizer.cpp queues it: nobody looks at anything in between.
void whole_step(const CudaStep& step, const StepControlArgs& control) {
  step.square_sums();
  step_decide(control);
  step.run();
  step_finish(control);
}

StepControlArgs control_args(const CudaStep& step, const DeviceArray<StepRates>& rates) {
  return {.state = step.state.get(),
          .device = Device::cuda,
          .tensors = static_cast<int32_t>(step.tensors.size()),
          .square_sums = step.tensor_squares.get(),
          .max_steps = static_cast<int64_t>(rates.size()),
          .rates = rates.get(),
          .max_grad_norm = 0.5f,
          .scaling = {.enabled = true}};
}

TEST_F(OptimizerCuda, AGradientThatIsNotFiniteSkipsTheStepBitForBit) {
  const DeviceArray<StepRates> rates(std::vector<StepRates>(5, {0.1f, 1.3f, 2.7f}), kCategory,
                                     Device::cuda);
  const Step good = random_step(3, DType::bf16);
  for (size_t k = 0; k < good.tensors.size(); ++k) {
    const OptimizerTensor& t = good.tensors[k];
    if (t.count == 0) continue;
    for (const float bad : {kNaN, kInfinity, -kInfinity}) {
      for (const int64_t at : {int64_t{0}, t.count / 2, t.count - 1}) {
        SCOPED_TRACE(fmt::format("tensor {} element {} is {}", k, at, bad));
        Step before = good.clone();
        before.gradients.data<float>()[t.offset + at] = bad;
        before.state.loss_scale = 64;
        const std::vector<NamedRule> rules = test_rules();
        before.rule = rules[static_cast<size_t>(at) % rules.size()].rule;
        const CudaStep step(before);
        whole_step(step, control_args(step, rates));
        expect_same_bits(step.written(), written(before));
        EXPECT_TRUE(same_norms(step.norms.read(), before.norms));
        const StepState state = step.state.read();
        EXPECT_EQ(state.applied, 0u);
        EXPECT_EQ(state.bad_tensor, static_cast<int32_t>(k));
        EXPECT_EQ(state.applied_steps, 0);
        EXPECT_EQ(state.skipped_steps, 1);
        EXPECT_EQ(state.loss_scale, 32);
      }
    }
  }
}

TEST_F(OptimizerCuda, AWholeStepUnscalesClipsAndUpdates) {
  const StepRates rate{0.1f, 1.3f, 2.7f, 0.8f};
  const DeviceArray<StepRates> rates(std::vector<StepRates>(5, rate), kCategory, Device::cuda);
  for (const NamedRule& rule : test_rules()) {
    if (rule.rule.direction == Direction::lans) continue;  // its factors are not step_decide's
    SCOPED_TRACE(rule.name);
    Step before = random_step(3, DType::bf16).with(rule.rule);
    before.state.loss_scale = 64;
    for (float& g : before.gradients.span<float>()) g *= 64;
    const std::vector<bool> used = before.used();
    double squares = 0;
    for (size_t i = 0; i < used.size(); ++i)
      if (used[i]) squares += std::pow(before.gradients.data<float>()[i] / 64.0, 2);
    const CudaStep got(before);
    whole_step(got, control_args(got, rates));
    const StepState state = got.state.read();
    EXPECT_EQ(state.applied, 1u);
    EXPECT_EQ(state.applied_steps, 1);
    EXPECT_NEAR(state.grad_norm, std::sqrt(squares), 1e-12 * std::sqrt(squares));
    ASSERT_GT(state.grad_norm, 0.5) << "this gradient is clipped";
    Step expected = before.clone();
    expected.state.gradient_scale = static_cast<float>(0.5 / std::sqrt(squares) / 64);
    expected.state.learning_rate = rate.learning_rate;
    expected.state.m_correction = rate.m_correction;
    expected.state.v_correction = rate.v_correction;
    expected.state.step_correction = rate.step_correction;
    optimizer_reference(expected.args());
    expect_near(got, expected, before);
  }
}

TEST_F(OptimizerCuda, SquareSumsMatchReferenceWithoutGaps) {
  for (const int64_t gap : {0, 3}) {
    const Step step = random_step(gap);
    const CudaStep got(step);
    got.square_sums();
    const std::vector<double> sums = got.tensor_squares.read();
    for (size_t k = 0; k < sums.size(); ++k) {
      const OptimizerTensor& t = step.tensors[k];
      double expected = 0;
      for (int64_t i = t.offset; i < t.offset + t.count; ++i)
        expected += std::pow(static_cast<double>(step.gradients.data<float>()[i]), 2);
      EXPECT_NEAR(sums[k], expected, expected * 1e-12) << k;
    }
  }
}

TEST_F(OptimizerCuda, SquareSumsNeitherOverflowNorUnderflow) {
  for (const float value : {1e-30f, 1e30f, std::numeric_limits<float>::max()}) {
    Step step({{.offset = 0, .count = 100}}, 100, DType::f32);
    for (float& element : step.gradients.span<float>()) element = value;
    const CudaStep got(step);
    got.square_sums();
    EXPECT_NEAR(std::sqrt(got.tensor_squares.read()[0]) / value, 10, 1e-12);
  }
}

// Tables of tensors with so many pieces, around what a block stages; the elements do not matter.
TEST_F(OptimizerCuda, PiecesAreAddedInOrderToTheBit) {
  std::vector<OptimizerTensor> tensors;
  int32_t pieces = 0;
  for (const int32_t count : {0, 1, 2, 127, 128, 129, 1023, 1024, 1025, 2500}) {
    tensors.push_back({.adapt = true, .first_piece = pieces, .pieces = count});
    pieces += count;
  }
  tensors.push_back({.adapt = false, .first_piece = 1, .pieces = 2});
  RandomStream stream(3, StreamPurpose::user, 4);
  std::vector<double> squares(static_cast<size_t>(pieces));
  std::vector<SquareSums> sums(static_cast<size_t>(pieces));
  for (size_t i = 0; i < sums.size(); ++i) {
    squares[i] = std::exp(4 * stream.normal());
    sums[i] = {std::exp(4 * stream.normal()), std::exp(4 * stream.normal()),
               std::exp(4 * stream.normal())};
  }
  StepState applied;
  applied.applied = 1;
  const DeviceArray<OptimizerTensor> cuda_tensors(tensors, kCategory, Device::cuda);
  const DeviceArray<double> cuda_squares(squares, kCategory, Device::cuda),
      tensor_squares(tensors.size(), kCategory, Device::cuda);
  const DeviceArray<SquareSums> cuda_sums(sums, kCategory, Device::cuda);
  const DeviceArray<TensorNorms> cuda_norms(tensors.size(), kCategory, Device::cuda);
  const DeviceValue<StepState> state(applied, Device::cuda);
  OptimizerTables tables;
  tables.tensors = cuda_tensors.get();
  tables.tensor_count = static_cast<int32_t>(tensors.size());
  tensor_square_sums_cuda({.x = {},
                           .tables = tables,
                           .range = {},
                           .piece_sums = cuda_squares.get(),
                           .tensor_sums = tensor_squares.get()},
                          current_stream());
  OptimizerArgs args;
  args.tables = tables;
  args.piece_sums = cuda_sums.get();
  args.norms = cuda_norms.get();
  args.state = state.get();
  args.rule = {.direction = Direction::lans, .ratio_of = RatioOf::update};
  optimizer_ratios_cuda(args, current_stream());
  const std::vector<double> got_squares = tensor_squares.read();
  const std::vector<TensorNorms> norms = cuda_norms.read();
  for (size_t k = 0; k < tensors.size(); ++k) {
    double square = 0, weight = 0, update = 0, gradient_update = 0;
    for (int32_t i = 0; i < tensors[k].pieces; ++i) {
      const auto at = static_cast<size_t>(tensors[k].first_piece + i);
      square += squares[at], weight += sums[at].weight, update += sums[at].update;
      gradient_update += sums[at].gradient_update;
    }
    EXPECT_EQ(got_squares[k], square) << k;
    EXPECT_EQ(norms[k].weight, std::sqrt(weight)) << k;
    EXPECT_EQ(norms[k].update, std::sqrt(update)) << k;
    const bool adapts = tensors[k].adapt && tensors[k].pieces > 0;
    EXPECT_EQ(norms[k].trust_ratio,
              adapts ? static_cast<float>(std::sqrt(weight) / std::sqrt(update)) : 1.0f)
        << k;
    EXPECT_EQ(norms[k].gradient_ratio,
              adapts ? static_cast<float>(std::sqrt(weight) / std::sqrt(gradient_update)) : 1.0f)
        << k;
  }
}

TEST_F(OptimizerCuda, TrustRatioIsOneWhereANormIsZeroOrTheTensorIsNotAdapted) {
  Step step({{.offset = 0, .count = 4},
             {.offset = 4, .count = 4},
             {.offset = 8, .count = 4, .decay = 0.01f, .adapt = false},
             {.offset = 12, .count = 4, .decay = 0.01f}},
            16, DType::f32);
  step.first_moment.fill_zero();
  step.second_moment.fill_zero();
  for (int64_t i = 0; i < 4; ++i) step.masters.data<float>()[i] = 0;    // zero weight
  for (int64_t i = 4; i < 8; ++i) step.gradients.data<float>()[i] = 0;  // zero update
  const CudaStep got(step);
  got.run();
  const std::vector<TensorNorms> norms = got.norms.read();
  const Tensor masters = on_cpu(*got.masters);
  EXPECT_EQ(norms[0].weight, 0);
  EXPECT_GT(norms[0].update, 0);
  EXPECT_EQ(norms[0].trust_ratio, 1.0f);
  EXPECT_EQ(norms[1].update, 0);
  EXPECT_EQ(norms[1].trust_ratio, 1.0f);
  EXPECT_TRUE(same_bits(masters.slice(4, {4}), step.masters.slice(4, {4})));
  EXPECT_GT(norms[2].weight / norms[2].update, 0);  // norms are reported all the same
  EXPECT_EQ(norms[2].trust_ratio, 1.0f);
  EXPECT_FLOAT_EQ(norms[3].trust_ratio, static_cast<float>(norms[3].weight / norms[3].update));
  for (int64_t i = 0; i < 4; ++i) EXPECT_NE(masters.data<float>()[i], 0.0f);
}

TEST_F(OptimizerCuda, MisalignedBuffersGiveTheBitsOfAlignedOnes) {
  for (const NamedRule& rule : test_rules()) {
    for (const DType compute : kComputeTypes) {
      SCOPED_TRACE(rule.name);
      const Step before = small_step(compute).with(rule.rule);
      const CudaStep aligned(before), misaligned(before, true);
      for (const CudaStep* step : {&aligned, &misaligned}) {
        step->square_sums();
        step->run();
      }
      expect_same_bits(misaligned.written(), aligned.written());
      EXPECT_TRUE(same_norms(misaligned.norms.read(), aligned.norms.read()));
      EXPECT_EQ(misaligned.tensor_squares.read(), aligned.tensor_squares.read());
      EXPECT_TRUE(misaligned.intact() && aligned.intact());
    }
  }
}

// What two ranks do that share the buffers out at a chunk border, which lies inside of a tensor:
// each its own pieces, then both know all piece sums.
TEST_F(OptimizerCuda, SharesAtAChunkBorderGiveTheBitsOfTheWhole) {
  const Step before = random_step(1, DType::bf16);
  const int64_t border = 3 * C;
  size_t middle = 0;
  while (before.pieces[middle].offset < border) ++middle;
  for (int rung = 1; rung <= kOptimizerRungs; ++rung) {
    const CudaStep whole(before);
    whole.run(rung);
    CudaStep ranks[] = {CudaStep(before), CudaStep(before)};
    ranks[0].range = piece_range(before.pieces, 0, middle);
    ranks[1].range = piece_range(before.pieces, middle, before.pieces.size());
    for (const CudaStep& rank : ranks)
      optimizer_moments_cuda_rung(rank.args(), current_stream(), rung);
    std::vector<SquareSums> sums = ranks[0].piece_sums.read();
    const std::vector<SquareSums> second = ranks[1].piece_sums.read();
    std::copy(second.begin() + static_cast<int64_t>(middle), second.end(),
              sums.begin() + static_cast<int64_t>(middle));  // all-gather
    const DeviceArray<SquareSums> gathered(sums, kCategory, Device::cuda);
    const int64_t size = before.masters.numel();
    for (const int64_t rank : {0, 1}) {
      OptimizerArgs args = ranks[rank].args();
      args.piece_sums = gathered.get();
      optimizer_ratios(args);
      EXPECT_TRUE(same_norms(ranks[rank].norms.read(), whole.norms.read()));
      optimizer_apply_cuda_rung(args, current_stream(), rung);
      const int64_t first = rank == 0 ? 0 : border, count = rank == 0 ? border : size - border;
      const std::vector<Tensor> got = ranks[rank].written(), expected = whole.written(),
                                untouched = written(before);
      for (size_t i = 0; i < got.size(); ++i) {
        const auto part = [](const Tensor& t, int64_t from, int64_t n) {
          return on_cpu(t).slice(from, {n});
        };
        EXPECT_TRUE(same_bits(part(got[i], first, count), part(expected[i], first, count)));
        const int64_t other = rank == 0 ? border : 0;
        EXPECT_TRUE(
            same_bits(part(got[i], other, size - count), untouched[i].slice(other, {size - count})))
            << "a rank leaves the other's share alone";
      }
    }
  }
}

TEST_F(OptimizerCuda, AnEmptyRangeIsNoWork) {
  for (const NamedRule& rule : test_rules()) {
    CudaStep step(small_step(DType::f16).with(rule.rule));
    const std::vector<Tensor> before = {on_cpu(*step.masters), on_cpu(step.working()),
                                        on_cpu(*step.first_moment), on_cpu(*step.second_moment)};
    step.range = {};
    piece_square_sums(step.squares());
    step.run();
    expect_same_bits(step.written(), before);
  }
}

TEST_F(OptimizerCuda, SchedulesDoNotMatter) {
  const DeviceArray<StepRates> rates(std::vector<StepRates>(5, {0.1f, 1.3f, 2.7f}), kCategory,
                                     Device::cuda);
  for (const NamedRule& rule : test_rules()) {
    const Step before = Step({{.offset = 0, .count = 1030, .decay = 0.01f},
                              {.offset = 1030, .count = 7, .adapt = false},
                              {.offset = C - 100, .count = 1200, .decay = 0.01f}},
                             C + 1100, DType::bf16)
                            .with(rule.rule);
    for (int rung = 1; rung <= rungs_of(rule.rule); ++rung) {
      same_bits_in_every_schedule([&] {
        const CudaStep step(before);
        const StepControlArgs control = control_args(step, rates);
        step.square_sums();
        step_decide(control);
        step.run(rung);
        step_finish(control);
        return step.written();
      });
    }
  }
}

}  // namespace
}  // namespace minibert::testing
