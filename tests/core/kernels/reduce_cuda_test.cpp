// reduce_cuda_test.cpp: sums on device cuda against double, each rung, over sizes below and above
// blocks (64 rows or more, 16,384 elements), the same bits in every schedule.
#include <cmath>
#include <limits>

#include "core/kernels/reduce.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

class ReduceCuda : public CudaTest {};

// From the reference and from `rung` on device cuda; x and y off alignment or not.
void expect_column_sum(const Tensor& x, int rung, bool misaligned) {
  const int64_t H = x.dim(1);
  const Tensor before = random_tensor({H}, 2);
  const GuardedCuda there(x.shape(), x.dtype(), misaligned);
  there->copy_from(on_cuda(x));
  for (bool accumulate : {false, true}) {
    SCOPED_TRACE(fmt::format("{} {} rung {} misaligned {} accumulate {}", name_of(x.dtype()),
                             x.shape().str(), rung, misaligned, accumulate));
    const Tensor expected = before.clone();
    column_sum_reference({x, expected, accumulate});
    const GuardedCuda y({H}, DType::f32, misaligned);
    y->copy_from(on_cuda(before));
    column_sum_cuda_rung({*there, *y, accumulate}, current_stream(), rung);
    EXPECT_TRUE(near("y", on_cpu(*y), expected, Tolerance::reduction));
    EXPECT_TRUE(y.intact());
  }
}

TEST_F(ReduceCuda, ColumnSumMatchesReference) {
  for (DType dtype : kComputeTypes)
    for (int64_t T : {0, 1, 7, 8, 9, 63, 64, 65, 200})
      for (int64_t H : {0, 1, 3, 8, 31, 33, 128, 136, 255, 257, 264, 768})
        for (int rung = 1; rung <= kColumnSumRungs; ++rung)
          expect_column_sum(random_tensor({T, H}, 1, 1.0f, dtype), rung, /* misaligned= */ false);
}

TEST_F(ReduceCuda, EachRungLaunchesItsKernel) {
  const Tensor x = on_cuda(random_tensor({9, 64}, 1)), y = on_cuda(Tensor::zeros({64}));
  expect_rungs({"sum_thread_per_column<", "sum_rows_of_block<1, ", "sum_rows_of_block<4, "},
               [&](int rung) {
                 column_sum_cuda_rung({x, y}, current_stream(), rung);
               });
}

TEST_F(ReduceCuda, ColumnSumTakesRowsOffAlignment) {
  for (DType dtype : kComputeTypes)
    for (int64_t H : {8, 768})
      expect_column_sum(random_tensor({130, H}, 1, 1.0f, dtype), kColumnSumRungs, true);
}

// 128 blocks of more than 64 rows.
TEST_F(ReduceCuda, ColumnSumOfManyRows) {
  for (DType dtype : kComputeTypes)
    for (int64_t T : {8191, 8192, 8193, 20001})
      expect_column_sum(random_tensor({T, 8}, 1, 1.0f, dtype), kColumnSumRungs, false);
}

// The sums are those of double, rounded once.
TEST_F(ReduceCuda, SumMatchesReference) {
  for (DType dtype : kComputeTypes) {
    for (int64_t n : {0, 1, 7, 8, 9, 255, 257, 2047, 16383, 16384, 16385, 100003}) {
      for (bool misaligned : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} misaligned {}", name_of(dtype), n, misaligned));
        const Tensor x = random_tensor({n}, 3, 1.0f, dtype), expected = Tensor::empty({});
        sum_reference({x, expected});
        const GuardedCuda there({n}, dtype, misaligned), y({});
        there->copy_from(on_cuda(x));
        sum({*there, *y});
        EXPECT_NEAR(on_cpu(*y).item(), expected.item(),
                    1e-7 * std::abs(expected.item()) + 1e-13 * static_cast<double>(n));
        EXPECT_TRUE(y.intact());
      }
    }
  }
}

// 301 chunks: more than the threads of the second stage.
TEST_F(ReduceCuda, SumOfManyChunks) {
  const int64_t n = 300 * 16384 + 5;
  const Tensor x = random_tensor({n}, 4, 1.0f, DType::bf16), expected = Tensor::empty({});
  sum_reference({x, expected});
  const Tensor y = Tensor::empty({}, DType::f32, MemoryCategory::activations, Device::cuda);
  sum(on_cuda(x), y);
  EXPECT_NEAR(on_cpu(y).item(), expected.item(), 1e-7 * std::abs(expected.item()) + 1e-13 * n);
}

TEST_F(ReduceCuda, EveryScheduleGivesTheSameBits) {
  for (DType dtype : kComputeTypes) {
    const Tensor x = on_cuda(random_tensor({200, 264}, 5, 1.0f, dtype));
    same_bits_in_every_schedule([&] {
      const auto device = [](Shape shape) {
        return Tensor::empty(shape, DType::f32, MemoryCategory::activations, Device::cuda);
      };
      const Tensor y = device({264}), plain = device({264}), total = device({});
      column_sum(x, y, /* accumulate= */ false);
      column_sum_cuda_rung({x, plain}, current_stream(), 2);
      sum(x, total);
      return std::vector<Tensor>{y, plain, total};
    });
  }
}

TEST_F(ReduceCuda, NaNReachesTheSums) {
  const Tensor x = random_tensor({70, 33}, 5);
  x.data<float>()[69 * 33 + 32] = std::numeric_limits<float>::quiet_NaN();
  const auto device = [](Shape shape) {
    return Tensor::empty(shape, DType::f32, MemoryCategory::activations, Device::cuda);
  };
  const Tensor y = device({33}), total = device({});
  for (DType dtype : kComputeTypes) {
    const Tensor there = on_cuda(x.to(dtype));
    sum(there, total);
    EXPECT_TRUE(std::isnan(on_cpu(total).item()));
    column_sum(there, y, /* accumulate= */ false);
    const Tensor got = on_cpu(y);
    for (int64_t h = 0; h < 33; ++h) EXPECT_EQ(std::isnan(got.data<float>()[h]), h == 32);
  }
}

}  // namespace
}  // namespace minibert::testing
