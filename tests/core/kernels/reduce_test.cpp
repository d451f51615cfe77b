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
  for (int64_t T : {0, 1, 63, 64, 65, 1000}) {
    for (int64_t H : {0, 1, 3, 17, 768}) {
      SCOPED_TRACE(Shape({T, H}).str());
      const Tensor x = random_tensor({T, H}, 1);
      for (bool accumulate : {false, true}) {
        const Guarded y({H}, /* misaligned= */ true);
        const Tensor expected = Tensor::empty({H});
        fill_normal(expected, 2);
        column_sum_reference(x, expected, accumulate);
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

TEST_P(Reduce, SumsAreThoseOfDouble) {
  for (int64_t n : kSizes) {
    const Tensor x = random_tensor({n}, 3);
    double expected = 0, squares = 0, size = 0;
    for (float v : x.span<float>()) {
      expected += v;
      squares += static_cast<double>(v) * v;
      size += std::abs(v);
    }
    set_num_threads(1);
    const double one = sum(x), one_squares = sum_of_squares(x);
    set_num_threads(2);
    EXPECT_EQ(sum(x), one);
    EXPECT_EQ(sum_of_squares(x), one_squares);
    EXPECT_NEAR(one, expected, 1e-14 * size * std::sqrt(n + 1.0));
    EXPECT_NEAR(one_squares, squares, 1e-14 * squares * std::sqrt(n + 1.0));
  }
}

TEST_P(Reduce, AllFiniteFindsOneBadElementAnywhere) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (int64_t n : kSizes) {
    const Tensor x = random_tensor({n}, 4, 1e37f);
    EXPECT_TRUE(all_finite(x));
    for (int64_t where : {int64_t{0}, n / 2, n - 1}) {
      if (where < 0 || where >= n) continue;
      float& element = x.data<float>()[where];
      const float good = element;
      for (float bad : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
        element = bad;
        EXPECT_FALSE(all_finite(x)) << n << " elements, bad " << where;
      }
      element = good;
    }
  }
}

TEST_P(Reduce, NaNReachesTheSums) {
  const Tensor x = random_tensor({70, 33}, 5), y = Tensor::empty({33});
  x.data<float>()[69 * 33 + 32] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(sum(x)));
  EXPECT_TRUE(std::isnan(sum_of_squares(x)));
  column_sum(x, y, /* accumulate= */ false);
  for (int64_t h = 0; h < 33; ++h) EXPECT_EQ(std::isnan(y.data<float>()[h]), h == 32);
}

TEST(ReduceErrors, NameBothShapes) {
  EXPECT_THROW(column_sum(Tensor::zeros({3, 4}), Tensor::zeros({3}), false), UsageError);
  EXPECT_THROW(column_sum(Tensor::zeros({12}), Tensor::zeros({12}), false), UsageError);
  EXPECT_THROW(sum(Tensor()), UsageError);
  EXPECT_THROW(sum_of_squares(Tensor::zeros({2}, DType::bf16)), UsageError);
  EXPECT_THROW(all_finite(Tensor::zeros({2}, DType::i32)), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Levels, Reduce, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
