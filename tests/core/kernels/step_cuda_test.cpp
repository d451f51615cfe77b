// step_cuda_test.cpp: the step's rules on the device against the same rules on the CPU, field by
// field and to the bit, over runs with overflows, and sums around what a block stages. The rules
// themselves are held to formulas and to torch.amp.GradScaler by step_test.cpp.
#include <cmath>
#include <limits>

#include "core/device_value.h"
#include "core/kernels/step.h"
#include "tests/core/kernels/cuda_fixture.h"

namespace minibert::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class StepCuda : public CudaTest {};

void expect_same(const LossCounts& got, const LossCounts& expected) {
  EXPECT_EQ(got.loss_sum, expected.loss_sum);
  EXPECT_EQ(got.rows, expected.rows);
  EXPECT_EQ(got.correct, expected.correct);
}

// NaN equals NaN: the norm of gradients that are not finite.
bool same(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

void expect_same(const StepState& got, const StepState& expected) {
  EXPECT_EQ(got.data_step, expected.data_step);
  EXPECT_EQ(got.mlm_scale, expected.mlm_scale);
  EXPECT_EQ(got.nsp_scale, expected.nsp_scale);
  expect_same(got.mlm, expected.mlm);
  expect_same(got.nsp, expected.nsp);
  EXPECT_TRUE(same(got.grad_norm, expected.grad_norm)) << got.grad_norm;
  EXPECT_TRUE(same(got.gradient_scale, expected.gradient_scale)) << got.gradient_scale;
  EXPECT_EQ(got.learning_rate, expected.learning_rate);
  EXPECT_EQ(got.m_correction, expected.m_correction);
  EXPECT_EQ(got.v_correction, expected.v_correction);
  EXPECT_EQ(got.applied, expected.applied);
  EXPECT_EQ(got.bad_tensor, expected.bad_tensor);
  EXPECT_EQ(got.applied_steps, expected.applied_steps);
  EXPECT_EQ(got.skipped_steps, expected.skipped_steps);
  EXPECT_EQ(got.loss_scale, expected.loss_scale);
  EXPECT_EQ(got.clean_steps, expected.clean_steps);
  EXPECT_EQ(got.skips_in_a_row, expected.skips_in_a_row);
  EXPECT_EQ(got.skips_at_floor, expected.skips_at_floor);
  EXPECT_EQ(got.scale_was_stable, expected.scale_was_stable);
}

/// Positive sums, spread over many magnitudes so that their order shows in the last bits.
std::vector<double> random_sums(size_t tensors, uint64_t seed) {
  RandomStream stream(7, StreamPurpose::user, seed);
  std::vector<double> sums(tensors);
  for (double& sum : sums) sum = std::exp(4 * stream.normal());
  return sums;
}

std::vector<StepRates> random_rates(int64_t max_steps) {
  std::vector<StepRates> rates;
  for (int64_t row = 0; row < max_steps; ++row) {
    const auto x = static_cast<float>(row);
    rates.push_back({0.1f / (x + 1), 1 + 1 / (x + 3), 1 + 2 / (x + 5)});
  }
  return rates;
}

/// The state, the sums and the table on one device.
class Steps {
 public:
  Steps(Device device, const StepState& state, const StepControlArgs& options,
        const std::vector<double>& sums)
      : state(state, device),
        sums_(sums, MemoryCategory::workspace, device),
        rates_(random_rates(options.max_steps), MemoryCategory::workspace, device),
        args(options) {
    args.state = this->state.get();
    args.device = device;
    args.tensors = static_cast<int32_t>(sums.size());
    args.square_sums = sums_.get();
    args.rates = rates_.get();
  }
  StepState run(const StepBeginArgs& begin) {
    StepBeginArgs here = begin;
    here.state = state.get();
    here.device = args.device;
    step_begin(here);
    step_decide(args);
    step_finish(args);
    return state.read();
  }

  DeviceValue<StepState> state;

 private:
  DeviceArray<double> sums_;
  DeviceArray<StepRates> rates_;

 public:
  StepControlArgs args;
};

StepState used_state() {
  StepState s;
  s.loss_scale = 1024;
  s.mlm = {1, 2, 3}, s.nsp = {4, 5, 6};
  s.applied_steps = 1, s.skipped_steps = 8, s.bad_tensor = 2;
  return s;
}

TEST_F(StepCuda, HasTheBitsOfTheCpuForAnyNumberOfTensors) {
  const StepControlArgs options{.max_steps = 3, .max_grad_norm = 0.5f, .scaling = {}};
  for (const size_t tensors : {0, 1, 2, 255, 256, 257, 2047, 2048, 2049, 5000}) {
    SCOPED_TRACE(tensors);
    const std::vector<double> sums = random_sums(tensors, tensors);
    const StepBeginArgs begin{.data_step = 99, .masked_rows = 12, .sequences = 5};
    Steps cuda(Device::cuda, used_state(), options, sums);
    Steps cpu(Device::cpu, used_state(), options, sums);
    const StepState got = cuda.run(begin);
    expect_same(got, cpu.run(begin));
    EXPECT_EQ(got.applied, 1u);
    EXPECT_EQ(got.bad_tensor, -1);
    EXPECT_EQ(got.mlm_scale, 1024.0f / 12);
    EXPECT_EQ(got.nsp_scale, 1024.0f / 5);
    double in_order = 0;
    for (const double sum : sums) in_order += sum;
    EXPECT_EQ(got.grad_norm, std::sqrt(in_order) / 1024);
  }
}

TEST_F(StepCuda, ASumThatIsNotFiniteSkipsWhereverItStands) {
  const StepControlArgs options{.max_steps = 9, .scaling = {.enabled = true}};
  for (const size_t tensors : {1, 257, 2048, 2049}) {
    for (const double bad : {kInfinity, kNaN}) {
      for (const size_t at : {size_t{0}, tensors / 2, tensors - 1}) {
        SCOPED_TRACE(fmt::format("{} of {} is {}", at, tensors, bad));
        std::vector<double> sums = random_sums(tensors, 1);
        sums[at] = bad;
        Steps cuda(Device::cuda, used_state(), options, sums);
        Steps cpu(Device::cpu, used_state(), options, sums);
        const StepState got = cuda.run({});
        expect_same(got, cpu.run({}));
        EXPECT_EQ(got.applied, 0u);
        EXPECT_EQ(got.bad_tensor, static_cast<int32_t>(at));
        EXPECT_EQ(got.applied_steps, 1);
        EXPECT_EQ(got.skipped_steps, 9);
        EXPECT_EQ(got.loss_scale, 512);
      }
    }
  }
}

// A run with overflows, a scale that grows, falls to its floor and grows again, and an end.
TEST_F(StepCuda, ARunOfStepsHasTheBitsOfTheCpu) {
  const StepControlArgs options{
      .max_steps = 20,
      .max_grad_norm = 1,
      .scaling = {.enabled = true, .growth = 3, .backoff = 0.3, .growth_interval = 2, .floor = 5}};
  StepState cuda_state, cpu_state;
  cuda_state.loss_scale = cpu_state.loss_scale = 64;
  for (uint32_t step = 0; step < 40; ++step) {
    SCOPED_TRACE(step);
    std::vector<double> sums = random_sums(5, step);
    if (step % 7 > 3) sums[step % 5] = step % 2 == 0 ? kNaN : kInfinity;
    const StepBeginArgs begin{.data_step = step, .masked_rows = step, .sequences = step % 3};
    cuda_state = Steps(Device::cuda, cuda_state, options, sums).run(begin);
    cpu_state = Steps(Device::cpu, cpu_state, options, sums).run(begin);
    expect_same(cuda_state, cpu_state);
  }
  EXPECT_EQ(cuda_state.applied_steps, 20);
  EXPECT_GT(cuda_state.skipped_steps, 5);
}

TEST_F(StepCuda, SchedulesDoNotMatter) {
  const StepControlArgs options{.max_steps = 3, .max_grad_norm = 0.5f, .scaling = {}};
  const std::vector<double> sums = random_sums(600, 3);
  same_bits_in_every_schedule([&] {
    Steps steps(Device::cuda, used_state(), options, sums);
    const StepState state = steps.run({.masked_rows = 3});
    const auto* bytes = reinterpret_cast<const uint8_t*>(&state.grad_norm);
    return std::vector<Tensor>{
        on_cuda(Tensor::from<uint8_t>(std::vector<uint8_t>(bytes, bytes + sizeof(double)), {8}))};
  });
}

}  // namespace
}  // namespace minibert::testing
