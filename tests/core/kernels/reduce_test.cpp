// reduce_test.cpp: sums against double, over sizes below and above blocks (64 rows, 65,536
// elements), at every instruction set.
#include "core/kernels/reduce.h"

#include <cmath>
#include <limits>

#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

class Reduce : public EachLevel {};
const int64_t kSizes[] = {0, 1, 15, 16, 31, 33, 1021, 65535, 65536, 65537, 200003};

TEST_P(Reduce, ColumnSumMatchesReference) {
  for (DType type : kComputeTypes) {
    for (int64_t T : {0, 1, 63, 64, 65, 1000}) {
      for (int64_t H : {0, 1, 3, 17, 768}) {
        SCOPED_TRACE(name_of(type) + Shape({T, H}).str());
        const Tensor x = random_tensor({T, H}, 1, 1.0f, type);
        for (bool accumulate : {false, true}) {
          const Guarded y({H}, /* misaligned= */ true);
          const Tensor expected = Tensor::empty({H});
          fill_normal(expected, 2);
          column_sum_reference({x, expected, accumulate});
          EXPECT_TRUE(threads_do_not_matter(*y, [&] {
            fill_normal(*y, 2);
            column_sum(x, *y, accumulate);
          }));
          EXPECT_TRUE(near("y", *y, expected, Tolerance::reduction));
          EXPECT_TRUE(y.intact());
        }
      }
    }
  }
}

// Of size n, misaligned; the sums are those of double, rounded once.
TEST_P(Reduce, SumMatchesReference) {
  for (DType type : kComputeTypes) {
    for (int64_t n : kSizes) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(type), n));
      const Guarded x({n}, /* misaligned= */ true, type), y({});
      x->copy_from(random_tensor({n}, 3, 1.0f, type));
      const Tensor expected = Tensor::empty({});
      sum_reference({*x, expected});
      EXPECT_TRUE(threads_do_not_matter(*y, [&] { sum(*x, *y); }));
      EXPECT_NEAR(y->item(), expected.item(), 1e-7 * std::abs(expected.item()) + 1e-13 * n);
      EXPECT_TRUE(y.intact());
    }
  }
}

TEST_P(Reduce, NaNReachesTheSums) {
  const Tensor x = random_tensor({70, 33}, 5), y = Tensor::empty({33}), total = Tensor::empty({});
  x.data<float>()[69 * 33 + 32] = std::numeric_limits<float>::quiet_NaN();
  for (DType type : kComputeTypes) {
    sum(x.to(type), total);
    EXPECT_TRUE(std::isnan(total.item()));
    column_sum(x.to(type), y, /* accumulate= */ false);
    for (int64_t h = 0; h < 33; ++h) EXPECT_EQ(std::isnan(y.data<float>()[h]), h == 32);
  }
}

TEST(ReduceErrors, NameBothShapes) {
  const Tensor x = Tensor::zeros({3, 4}), y = Tensor::zeros({});
  EXPECT_THROW(column_sum(x, Tensor::zeros({3}), false), UsageError);
  EXPECT_THROW(column_sum(x, Tensor::zeros({4}, DType::bf16), false), UsageError);
  EXPECT_THROW(column_sum(Tensor::zeros({12}), Tensor::zeros({12}), false), UsageError);
  EXPECT_THROW(sum(Tensor::zeros({2}, DType::i32), y), UsageError);
  EXPECT_THROW(sum(x, Tensor::zeros({2})), UsageError);
  EXPECT_THROW(sum(x, Tensor()), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Levels, Reduce, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
