// cast_cuda_test.cpp: casts on device cuda, each rung, in every schedule: each 16-bit pattern, the
// halfway points between neighbours, all pairs of types at sizes around a pack, a warp and a block,
// aligned and not. Expected: core/dtype.h on the host, which cast_test.cpp holds against the formats'
// definitions. Bits are equal but for NaN, whose payload CUDA does not keep.
#include <bit>
#include <cmath>

#include "core/kernels/cast.h"
#include "core/kernels/reference.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

class CastCuda : public CudaTest {};

constexpr DType kNarrow[] = {DType::bf16, DType::f16};

// Element i is the same value of the same type; a NaN is a NaN.
void expect_same(const Tensor& got, const Tensor& expected) {
  ASSERT_EQ(got.shape(), expected.shape());
  ASSERT_EQ(got.dtype(), expected.dtype());
  const size_t bytes = size_of(got.dtype());
  for (int64_t i = 0; i < got.numel(); ++i) {
    const double value = get(expected, i);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(get(got, i))) << i;
      continue;
    }
    const auto at = static_cast<size_t>(i) * bytes;
    ASSERT_EQ(std::memcmp(static_cast<const char*>(got.raw()) + at,
                          static_cast<const char*>(expected.raw()) + at, bytes),
              0)
        << "element " << i << ": got " << get(got, i) << ", expected " << value;
  }
}

// What dtype.h makes of x.
Tensor converted(const Tensor& x, DType to) {
  const Tensor y = Tensor::empty(x.shape(), to);
  for (int64_t i = 0; i < x.numel(); ++i) put(y, i, get(x, i));
  return y;
}

// Rounded by the rung, from and to memory that is aligned (packs) or not (one element at a time).
void expect_rounded(const std::vector<float>& values, DType to, int rung, bool misaligned) {
  const auto n = static_cast<int64_t>(values.size());
  const Tensor x = Tensor::from<float>(values, {n});
  const GuardedCuda from({n}, DType::f32, misaligned), y({n}, to, misaligned);
  from->copy_from(on_cuda(x));
  cast_cuda_rung({*from, *y}, current_stream(), rung);
  expect_same(on_cpu(*y), converted(x, to));
}

TEST_F(CastCuda, EachRungLaunchesItsKernel) {
  const Tensor x = on_cuda(random_tensor({64}, 1)), y = on_cuda(Tensor::zeros({64}, DType::bf16));
  expect_rungs({"cast_elements<", "cast_packs<1, ", "cast_packs<2, "}, [&](int rung) {
    cast_cuda_rung({x, y}, current_stream(), rung);
  });
}

TEST_F(CastCuda, EachPatternWidensAndComesBack) {
  constexpr int64_t kPatterns = 0x10000;
  for (DType dtype : kNarrow) {
    const Tensor narrow = Tensor::empty({kPatterns}, dtype);
    for (int64_t i = 0; i < kPatterns; ++i)
      static_cast<uint16_t*>(narrow.raw())[i] = static_cast<uint16_t>(i);
    for (bool misaligned : {false, true}) {
      const GuardedCuda there({kPatterns}, dtype, misaligned), wide({kPatterns}, DType::f32, false),
          back({kPatterns}, dtype, misaligned);
      there->copy_from(on_cuda(narrow));
      cast({*there, *wide});
      cast({*wide, *back});
      expect_same(on_cpu(*wide), converted(narrow, DType::f32));
      expect_same(on_cpu(*back), narrow);
    }
  }
}

// Halfway between two neighbours of the narrow type, and one f32 step to each side; both signs. What
// would follow the largest number stands for infinity: halfway to it, rounding overflows.
TEST_F(CastCuda, EveryHalfwayPointGoesToTheEvenNeighbour) {
  for (DType dtype : kNarrow) {
    const uint16_t infinity = dtype == DType::bf16 ? 0x7F80 : 0x7C00;
    std::vector<double> magnitude;  // by pattern
    for (uint16_t bits = 0; bits < infinity; ++bits)
      magnitude.push_back(dtype == DType::bf16 ? to_float(bf16{bits}) : to_float(f16{bits}));
    magnitude.push_back(2 * magnitude[infinity - 1] - magnitude[infinity - 2]);
    std::vector<float> values;
    for (uint16_t low = 0; low < infinity; ++low) {
      const auto middle = static_cast<float>((magnitude[low] + magnitude[low + 1]) / 2);
      for (float near : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, INFINITY)})
        for (float sign : {1.0f, -1.0f}) values.push_back(sign * near);
    }
    expect_rounded(values, dtype, kCastRungs, /* misaligned= */ false);
    expect_rounded(values, dtype, kCastRungs, /* misaligned= */ true);
  }
}

TEST_F(CastCuda, RandomAndSpecialBitsRoundToTheNearest) {
  RandomStream stream(99, StreamPurpose::user, 1);
  std::vector<float> values{0.0f, -0.0f, INFINITY, -INFINITY, 65519.99f, 65520.0f, 3.4e38f, 1e-45f};
  for (uint32_t bits : {0x7F800001u, 0xFF800001u, 0x7FFFFFFFu, 0x7F80FFFFu})
    values.push_back(std::bit_cast<float>(bits));
  while (values.size() < 100000) {
    uint32_t bits = stream.next_u32();
    if (bits & 1) bits = (bits & 0x807FFFFF) | ((98 + (bits >> 23) % 46) << 23);  // f16's range
    values.push_back(std::bit_cast<float>(bits));
  }
  for (DType dtype : kNarrow)
    for (int rung = 1; rung <= kCastRungs; ++rung)
      expect_rounded(values, dtype, rung, /* misaligned= */ false);
}

// A pack is 4 or 8 elements, a warp's packs 128 or 256, a block's 2,048 or 4,096 in rung 3.
TEST_F(CastCuda, MatchesTheReferenceAndStaysInside) {
  for (DType from : kComputeTypes) {
    for (DType to : kComputeTypes) {
      for (int64_t n : {0, 1, 3, 4, 5, 7, 8, 9, 127, 128, 129, 255, 257, 2047, 2048, 2049, 4097}) {
        const Tensor x = random_tensor({n}, 1, 1.0f, from),
                     before = random_tensor({n}, 2, 1.0f, to);
        const Tensor x_there = on_cuda(x), before_there = on_cuda(before);
        for (bool accumulate : {false, true}) {
          const Tensor expected = before.clone();
          cast_reference({x, expected, accumulate});
          for (int rung = 1; rung <= kCastRungs; ++rung) {
            for (bool misaligned : {false, true}) {
              SCOPED_TRACE(fmt::format("{} to {}, {} elements, rung {}, misaligned {}",
                                       name_of(from), name_of(to), n, rung, misaligned));
              const GuardedCuda source({n}, from, misaligned), y({n}, to, misaligned);
              source->copy_from(x_there);
              y->copy_from(before_there);
              cast_cuda_rung({*source, *y, accumulate}, current_stream(), rung);
              EXPECT_TRUE(same_bits(on_cpu(*y), expected));
              EXPECT_TRUE(y.intact() && source.intact());
            }
          }
        }
      }
    }
  }
}

TEST_F(CastCuda, EveryScheduleGivesTheSameBits) {
  for (DType from : kComputeTypes) {
    for (DType to : kComputeTypes) {
      const Tensor x = random_tensor({2500}, 1, 1.0f, from), expected = Tensor::empty({2500}, to);
      cast_reference({x, expected});
      const Tensor there = on_cuda(x);
      const auto results = same_bits_in_every_schedule([&] {
        const Tensor y = Tensor::empty({2500}, to, MemoryCategory::activations, Device::cuda);
        cast({there, y});
        return std::vector<Tensor>{y};
      });
      EXPECT_TRUE(same_bits(results[0], expected));
    }
  }
}

TEST_F(CastCuda, InPlaceWhereTheTypesAgree) {
  for (DType dtype : kComputeTypes) {
    const Tensor x = random_tensor({4099}, 1, 1.0f, dtype), doubled = x.clone();
    cast_reference({x, doubled, /* accumulate= */ true});
    const Tensor there = on_cuda(x);
    cast({there, there});
    EXPECT_TRUE(same_bits(on_cpu(there), x));
    cast({there, there, /* accumulate= */ true});
    EXPECT_TRUE(same_bits(on_cpu(there), doubled));
  }
}

}  // namespace
}  // namespace minibert::testing
