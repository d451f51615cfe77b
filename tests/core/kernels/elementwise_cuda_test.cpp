// elementwise_cuda_test.cpp: maps on device cuda against their references in double, in each type, at
// sizes around a pack and a block, aligned and not, in place and added to; masks to the bit; the same
// bits in every schedule. gelu_cuda.h is tested here, through the maps that use it.
#include <cmath>
#include <limits>

#include "core/kernels/dropout_mask.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/reference.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
// A pack has 4 or 8 elements, a block 1,024 or 2,048; or 256, where elements move one by one.
const int64_t kSizes[] = {0, 1, 3, 4, 5, 7, 8, 9, 33, 255, 257, 1023, 1025, 2047, 2049, 5003};

class ElementwiseCuda : public CudaTest {};

// Runs one map of x and z: `run` on the device, `reference` on the same values in f32.
template <typename Run, typename Reference>
void check_map(Run run, Reference reference, double tolerance, bool can_accumulate = true) {
  for (DType dtype : kComputeTypes) {
    for (int64_t n : kSizes) {
      const Tensor x = random_tensor({n}, 1, 2.0f, dtype), z = random_tensor({n}, 2, 1.0f, dtype),
                   before = random_tensor({n}, 3, 1.0f, dtype);
      const Tensor exact_x = x.to(DType::f32), exact_z = z.to(DType::f32);
      for (bool misaligned : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} misaligned {}", name_of(dtype), n, misaligned));
        const GuardedCuda in_x({n}, dtype, misaligned), in_z({n}, dtype, misaligned);
        in_x->copy_from(on_cuda(x));
        in_z->copy_from(on_cuda(z));
        for (int accumulate = 0; accumulate <= (can_accumulate ? 1 : 0); ++accumulate) {
          const GuardedCuda y({n}, dtype, misaligned);
          const Tensor expected = before.to(DType::f32);
          reference(exact_x, exact_z, expected, accumulate != 0);
          y->copy_from(on_cuda(before));
          run(*in_x, *in_z, *y, accumulate != 0);
          EXPECT_TRUE(near_in("y", on_cpu(*y), expected, tolerance));
          EXPECT_TRUE(y.intact());
        }
        EXPECT_TRUE(same_bits(on_cpu(*in_x), x) && same_bits(on_cpu(*in_z), z));
        const Tensor expected = Tensor::empty({n});
        run(*in_x, *in_z, *in_x, false);
        reference(exact_x, exact_z, expected, false);
        EXPECT_TRUE(near_in("in place", on_cpu(*in_x), expected, tolerance));
        EXPECT_TRUE(in_x.intact() && in_z.intact());
      }
    }
  }
}

TEST_F(ElementwiseCuda, GeluMatchesReference) {
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    check_map(
        [&](auto& x, auto& dy, auto& out, bool accumulate) {
          gelu_backward({x, dy, out, kind, accumulate});
        },
        [&](auto& x, auto& dy, auto& out, bool accumulate) {
          gelu_backward_reference({x, dy, out, kind, accumulate});
        },
        Tolerance::elementwise);
    check_map(
        [&](auto& x, auto&, auto& y, bool) {
          gelu_forward({x, y, kind});
        },
        [&](auto& x, auto&, auto& y, bool) {
          gelu_forward_reference({x, y, kind});
        },
        Tolerance::elementwise, /* can_accumulate= */ false);
  }
}

TEST_F(ElementwiseCuda, GeluIsWithin2e7OfDoubleAtEveryX) {
  constexpr int64_t kSteps = 100001;
  const Tensor x = Tensor::empty({kSteps}), ones = Tensor::empty({kSteps});
  for (int64_t i = 0; i < kSteps; ++i)
    x.data<float>()[i] = -15.0f + 30.0f * static_cast<float>(i) / (kSteps - 1);
  fill(ones, 1.0f);
  const Tensor in = on_cuda(x), dy = on_cuda(ones), y = in.like({kSteps}), dx = in.like({kSteps});
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    gelu_forward({in, y, kind});
    gelu_backward({in, dy, dx, kind});
    const Tensor got_y = on_cpu(y), got_dx = on_cpu(dx);
    double value_error = 0, slope_error = 0;
    for (int64_t i = 0; i < kSteps; ++i) {
      const double v = x.data<float>()[i], k = std::sqrt(2 / M_PI);
      const double t = std::tanh(k * (v + 0.044715 * v * v * v));
      const double normal = 0.5 * (1 + std::erf(v / std::sqrt(2.0)));
      const double value = kind == Gelu::erf ? v * normal : 0.5 * v * (1 + t);
      const double slope =
          kind == Gelu::erf
              ? normal + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI)
              : 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * k * (1 + 3 * 0.044715 * v * v);
      const double size = std::max(1.0, std::abs(v));
      value_error = std::max(value_error, std::abs(got_y.data<float>()[i] - value) / size);
      slope_error = std::max(slope_error, std::abs(got_dx.data<float>()[i] - slope));
    }
    EXPECT_LT(value_error, 2e-7);
    EXPECT_LT(slope_error, 5e-7);
  }
}

TEST_F(ElementwiseCuda, GeluKeepsNaNAndLargeFiniteValues) {
  const Tensor x = on_cuda(
      Tensor::from<float>(std::vector<float>{kNaN, 1e30f, -1e30f, kInfinity, 100, -100}, {6}));
  const Tensor y = x.like({6}), dx = x.like({6}), ones = x.like({6});
  fill(ones, 1.0f);
  for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
    gelu_forward({x, y, kind});
    gelu_backward({x, ones, dx, kind});
    const std::vector<float> value = floats_of(on_cpu(y)), slope = floats_of(on_cpu(dx));
    EXPECT_TRUE(std::isnan(value[0]) && std::isnan(slope[0]));
    EXPECT_EQ(value[1], 1e30f);
    EXPECT_EQ(value[2], 0.0f);
    EXPECT_EQ(value[3], kInfinity);
    EXPECT_EQ(value[4], 100.0f);
    EXPECT_EQ(value[5], 0.0f);
    EXPECT_EQ(std::vector<float>({slope[1], slope[2], slope[4], slope[5]}),
              std::vector<float>({1, 0, 1, 0}));
  }
}

TEST_F(ElementwiseCuda, TanhMatchesReference) {
  check_map(
      [](auto& y, auto& dy, auto& out, bool accumulate) {
        tanh_backward({y, dy, out, accumulate});
      },
      [](auto& y, auto& dy, auto& out, bool accumulate) {
        tanh_backward_reference({y, dy, out, accumulate});
      },
      Tolerance::elementwise);
  check_map(
      [](auto& x, auto&, auto& y, bool) {
        tanh_forward({x, y});
      },
      [](auto& x, auto&, auto& y, bool) {
        tanh_forward_reference({x, y});
      },
      Tolerance::elementwise, /* can_accumulate= */ false);
}

TEST_F(ElementwiseCuda, SumsProductsAndScalingMatchReferences) {
  check_map(
      [](auto& x, auto& z, auto& y, bool accumulate) {
        multiply({z, x, y, accumulate});
      },
      [](auto& x, auto& z, auto& y, bool accumulate) {
        multiply_reference({z, x, y, accumulate});
      },
      Tolerance::elementwise);
  check_map(
      [](auto& x, auto&, auto& y, bool accumulate) {
        scale({x, -1.7f, y, accumulate});
      },
      [](auto& x, auto&, auto& y, bool accumulate) {
        scale_reference({x, -1.7f, y, accumulate});
      },
      Tolerance::elementwise);
  check_map(
      [](auto& x, auto& z, auto& y, bool) {
        add_forward({x, z, y});
      },
      [](auto& x, auto& z, auto& y, bool) {
        add_forward_reference({x, z, y});
      },
      Tolerance::elementwise, /* can_accumulate= */ false);
}

// One operation of f32 is rounded once.
TEST_F(ElementwiseCuda, OneOperationIsExactToTheBit) {
  const Tensor a = random_tensor({2051}, 7), b = random_tensor({2051}, 8), expected = a.clone();
  const Tensor there_a = on_cuda(a), there_b = on_cuda(b), y = there_a.like({2051});
  for (int64_t i = 0; i < 2051; ++i)
    expected.data<float>()[i] = a.data<float>()[i] + b.data<float>()[i];
  add_forward({there_a, there_b, y});
  EXPECT_TRUE(same_bits(on_cpu(y), expected));
  for (int64_t i = 0; i < 2051; ++i)
    expected.data<float>()[i] = a.data<float>()[i] * b.data<float>()[i];
  multiply({there_a, there_b, y});
  EXPECT_TRUE(same_bits(on_cpu(y), expected));
}

TEST_F(ElementwiseCuda, FillsWithAValueAndFromAScalar) {
  const Tensor scalar = on_cuda(Tensor::from<float>(std::vector<float>{-1.25f}, {}));
  for (DType dtype : kComputeTypes) {
    for (int64_t n : kSizes) {
      for (bool misaligned : {false, true}) {
        const GuardedCuda y({n}, dtype, misaligned);
        fill(*y, 3.5f);
        for (float value : floats_of(on_cpu(*y))) ASSERT_EQ(value, 3.5f);
        fill_from({scalar, *y, /* accumulate= */ true});
        for (float value : floats_of(on_cpu(*y))) ASSERT_EQ(value, 2.25f);
        fill_from({scalar, *y});
        for (float value : floats_of(on_cpu(*y))) ASSERT_EQ(value, -1.25f);
        EXPECT_TRUE(y.intact());
      }
    }
  }
}

// One sum, rounded once: to the bit.
TEST_F(ElementwiseCuda, AddBiasAddsItToEveryRow) {
  for (DType dtype : kComputeTypes) {
    for (int64_t T : {0, 1, 7, 9, 37}) {
      for (int64_t H : {0, 1, 17, 128, 256, 264, 768}) {
        for (bool misaligned : {false, true}) {
          SCOPED_TRACE(fmt::format("{} T {} H {} misaligned {}", name_of(dtype), T, H, misaligned));
          const Tensor x = random_tensor({T, H}, 9, 1.0f, dtype),
                       bias = random_tensor({H}, 10, 1.0f, dtype),
                       expected = Tensor::empty({T, H}, dtype);
          add_bias_reference({x, bias, expected});
          const GuardedCuda there({T, H}, dtype, misaligned), y({T, H}, dtype, misaligned);
          there->copy_from(on_cuda(x));
          add_bias({*there, on_cuda(bias), *y});
          EXPECT_TRUE(same_bits(on_cpu(*y), expected));
          EXPECT_TRUE(y.intact());
        }
      }
    }
  }
}

// Rows of no order, of several sequences.
struct Rows {
  Tensor position, sample;
};
Rows some_rows(int64_t T) {
  std::vector<int32_t> position, sample;
  for (int64_t t = 0; t < T; ++t) {
    position.push_back(static_cast<int32_t>((t * 7) % 512));
    sample.push_back(static_cast<int32_t>(t / 5 + 100000 * (t % 2)));
  }
  return {integers(position), integers(sample)};
}

// The same site twice: with its data step on the host, for the reference, and on the device.
struct Site {
  Dropout host, device;
  Site(float p, uint64_t seed, uint32_t step, int layer, DropoutPurpose purpose)
      : host(make_dropout(p, seed, data_step(step), layer, purpose)),
        device(make_dropout(p, seed, cuda_data_step(step), layer, purpose)) {}
};

TEST_F(ElementwiseCuda, DropoutDrawsTheWordsOfPhiloxAndScalesWhatIsKept) {
  const int64_t T = 19;
  const Rows rows = some_rows(T);
  const Tensor position = on_cuda(rows.position), sample = on_cuda(rows.sample);
  for (float p : {0.0f, 0.1f, 0.9f}) {
    const Site site(p, 0xFEDCBA9876543210ull, kMaxDataStep, 11, DropoutPurpose::attention_output);
    for (int64_t H : {1, 3, 4, 5, 8, 31, 33, 128, 256, 260, 768}) {
      for (DType dtype : kComputeTypes) {
        const Tensor x = random_tensor({T, H}, 11, 1.0f, dtype),
                     before = random_tensor({T, H}, 12, 1.0f, dtype);
        for (bool misaligned : {false, true}) {
          const GuardedCuda in({T, H}, dtype, misaligned);
          in->copy_from(on_cuda(x));
          for (bool accumulate : {false, true}) {
            SCOPED_TRACE(
                fmt::format("{} p {} H {} misaligned {}", name_of(dtype), p, H, misaligned));
            const Tensor expected = before.to(DType::f32);
            dropout_rows_reference(
                {x.to(DType::f32), rows.position, rows.sample, site.host, expected, accumulate});
            const GuardedCuda y({T, H}, dtype, misaligned);
            y->copy_from(on_cuda(before));
            dropout_rows({*in, position, sample, site.device, *y, accumulate});
            const Tensor got = on_cpu(*y);
            EXPECT_TRUE(near_in("y", got, expected, Tolerance::elementwise));
            EXPECT_TRUE(y.intact());
            for (int64_t i = 0; i < T * H && !accumulate; ++i)
              ASSERT_EQ(get(got, i) == 0, expected.data<float>()[i] == 0) << "element " << i;
          }
        }
      }
    }
  }
}

// The data step is read where the kernel runs: other bits in its memory, another mask.
TEST_F(ElementwiseCuda, DropoutReadsTheDataStepOnTheDevice) {
  const Tensor step = on_cuda(integers({5})), zero = on_cuda(integers({0, 0, 0, 0}));
  const Dropout site =
      make_dropout(0.5f, 7, static_cast<const uint32_t*>(step.raw()), 1, DropoutPurpose::user);
  const Tensor x = on_cuda(Tensor::zeros({4, 64})), y = x.like({4, 64});
  fill(x, 1.0f);
  for (uint32_t now : {5u, 6u}) {
    const Tensor bits = integers({static_cast<int32_t>(now)});
    copy_to_device(bits.raw(), step);
    dropout_rows({x, zero, zero, site, y});
    const Tensor got = on_cpu(y);
    const Tensor mask =
        export_hidden_dropout_mask(make_dropout(0.5f, 7, data_step(now), 1, DropoutPurpose::user),
                                   on_cpu(zero), on_cpu(zero), 64);
    for (int64_t i = 0; i < 256; ++i)
      ASSERT_EQ(got.data<float>()[i], mask.data<uint8_t>()[i] ? 2.0f : 0.0f) << i;
  }
}

TEST_F(ElementwiseCuda, DropoutDropsNaNAndInfinityButKeepsThem) {
  const Site site(0.5f, 7, 3, 0, DropoutPurpose::user);
  const Tensor zero = integers(std::vector<int32_t>(8, 0)), there = on_cuda(zero);
  const Tensor mask = export_hidden_dropout_mask(site.host, zero, zero, 64);
  for (DType dtype : kComputeTypes) {
    for (float poison : {kNaN, kInfinity, -kInfinity}) {
      const Tensor x = on_cuda(Tensor::zeros({8, 64}, dtype)), y = x.like({8, 64});
      fill(x, poison);
      dropout_rows({x, there, there, site.device, y});
      const Tensor got = on_cpu(y);
      int64_t kept = 0;
      for (int64_t i = 0; i < 512; ++i) {
        const bool keep = mask.data<uint8_t>()[i] != 0;
        kept += keep;
        ASSERT_EQ(std::isfinite(get(got, i)), !keep) << i;
        ASSERT_TRUE(keep || get(got, i) == 0) << i;
      }
      EXPECT_GT(kept, 0);
      EXPECT_LT(kept, 512);
    }
  }
}

TEST_F(ElementwiseCuda, EveryScheduleGivesTheSameBits) {
  const Rows rows = some_rows(9);
  const Tensor position = on_cuda(rows.position), sample = on_cuda(rows.sample);
  const Site site(0.3f, 1, 2, 3, DropoutPurpose::feed_forward);
  for (DType dtype : kComputeTypes) {
    const Tensor x = on_cuda(random_tensor({9, 264}, 1, 1.0f, dtype)),
                 dy = on_cuda(random_tensor({9, 264}, 2, 1.0f, dtype)),
                 bias = on_cuda(random_tensor({264}, 3, 1.0f, dtype));
    same_bits_in_every_schedule([&] {
      const Tensor gelu = x.like({9, 264}), dx = dy.clone(), dropped = x.like({9, 264}),
                   sum = x.like({9, 264});
      gelu_forward({x, gelu});
      gelu_backward({x, dy, dx, Gelu::tanh, /* accumulate= */ true});
      dropout_rows({x, position, sample, site.device, dropped});
      add_bias({x, bias, sum});
      return std::vector<Tensor>{gelu, dx, dropped, sum};
    });
  }
}

}  // namespace
}  // namespace minibert::testing
