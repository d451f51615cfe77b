// copy_test.cpp: gathered rows are copies, scattered rows are sums in ascending order.
#include "core/kernels/copy.h"

#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

std::vector<int32_t> some_rows(int64_t P, int64_t T) {
  std::vector<int32_t> rows;
  for (int64_t p = 0; p < P; ++p) rows.push_back(static_cast<int32_t>((p * p + 3 * p) % T));
  return rows;
}

TEST(GatherRows, CopiesTheRowsThatAreNamed) {
  for (int64_t P : {0, 1, 63, 64, 65, 200}) {
    for (int64_t H : {0, 1, 17, 768}) {
      const Tensor x = random_tensor({37, H}, 1);
      const auto rows = some_rows(P, 37);
      const Guarded y({P, H}, /* misaligned= */ true);
      EXPECT_TRUE(threads_do_not_matter(*y, [&] { gather_rows(x, integers(rows), *y); }));
      for (int64_t p = 0; p < P; ++p)
        ASSERT_TRUE(same_bits(y->rows(p, 1), x.rows(rows[p], 1))) << "row " << p;
      EXPECT_TRUE(y.intact());
    }
  }
}

TEST(ScatterAddRows, AddsRepeatedRowsInOrder) {
  for (int64_t P : {0, 1, 64, 200}) {
    for (int64_t H : {0, 1, 63, 65, 768}) {
      const Tensor dy = random_tensor({P, H}, 2);
      const auto rows = some_rows(P, 37);
      for (bool accumulate : {false, true}) {
        const Guarded dx({37, H}, /* misaligned= */ true);
        const Tensor expected = Tensor::zeros({37, H});
        if (accumulate) fill_normal(expected, 3);
        for (int64_t i = 0; i < P * H; ++i)
          expected.data<float>()[rows[i / H] * H + i % H] += dy.data<float>()[i];
        EXPECT_TRUE(threads_do_not_matter(*dx, [&] {
          fill_normal(*dx, 3);
          scatter_add_rows(dy, integers(rows), *dx, accumulate);
        }));
        EXPECT_TRUE(same_bits(*dx, expected));
        EXPECT_TRUE(dx.intact());
      }
    }
  }
}

TEST(CopyErrors, NameTheRowAndTheShapes) {
  const Tensor x = Tensor::zeros({3, 4}), y = Tensor::zeros({2, 4});
  for (int32_t bad : {-1, 3}) {
    EXPECT_THROW(gather_rows(x, integers({0, bad}), y), DataError);
    EXPECT_THROW(scatter_add_rows(y, integers({bad, 0}), x, false), DataError);
  }
  EXPECT_THROW(gather_rows(x, integers({0}), y), UsageError);
  EXPECT_THROW(gather_rows(x, integers({0, 1}), Tensor::zeros({2, 3})), UsageError);
  EXPECT_THROW(gather_rows(x, Tensor::zeros({2}), y), UsageError);
  EXPECT_THROW(scatter_add_rows(y, integers({0, 1, 2}), x, false), UsageError);
}

}  // namespace
}  // namespace minibert::testing
