// copy_test.cpp: gathered rows are copies, scattered rows are sums; row -1 is no row.
#include "core/kernels/copy.h"

#include <numeric>

#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

class ScatterRows : public EachLevel {};

constexpr int64_t kT = 211;

// P of kT rows in no order, each once; every seventh is -1.
std::vector<int32_t> some_rows(int64_t P) {
  std::vector<int32_t> rows;
  for (int64_t p = 0; p < P; ++p)
    rows.push_back(p % 7 == 3 ? -1 : static_cast<int32_t>((p * 97 + 5) % kT));
  return rows;
}

TEST(GatherRows, CopiesTheRowsThatAreNamed) {
  for (DType dtype : kComputeTypes) {
    for (int64_t P : {0, 1, 63, 64, 65, 200}) {
      for (int64_t H : {0, 1, 17, 768}) {
        const Tensor x = random_tensor({kT, H}, 1, 1, dtype), zero = Tensor::zeros({1, H}, dtype);
        const auto rows = some_rows(P);
        const Tensor row = integers(rows);
        const Guarded y({P, H}, /* misaligned= */ true, dtype);
        EXPECT_TRUE(threads_do_not_matter(*y, [&] { gather_rows({x, row, *y}); }));
        for (int64_t p = 0; p < P; ++p) {
          const int32_t from = rows[static_cast<size_t>(p)];
          ASSERT_TRUE(same_bits(y->rows(p, 1), from < 0 ? zero : x.rows(from, 1))) << "row " << p;
        }
        EXPECT_TRUE(y.intact());
        const Tensor plain = Tensor::empty({P, H}, dtype);
        gather_rows_reference({x, row, plain});
        EXPECT_TRUE(same_bits(*y, plain));
      }
    }
  }
}

TEST_P(ScatterRows, AddsToTheRowsThatAreNamed) {
  for (DType dtype : kComputeTypes) {
    for (int64_t P : {0, 1, 64, 200}) {
      for (int64_t H : {0, 1, 63, 65, 768}) {
        for (bool accumulate : {false, true}) {
          SCOPED_TRACE(fmt::format("{} P {} H {} accumulate {}", name_of(dtype), P, H, accumulate));
          const Tensor dy = random_tensor({P, H}, 2, 1, dtype), row = integers(some_rows(P));
          const Tensor before = random_tensor({kT, H}, 3, 1, dtype);
          // One addition of two 16-bit values: exact in f32 or rounded once, as below.
          std::vector<float> sum = floats_of(before);
          if (!accumulate) std::fill(sum.begin(), sum.end(), 0.0f);
          const std::vector<float> add = floats_of(dy);
          for (int64_t i = 0; i < P * H; ++i) {
            const int64_t to = row.data<int32_t>()[i / H];
            if (to >= 0) sum[static_cast<size_t>(to * H + i % H)] += add[static_cast<size_t>(i)];
          }
          const Tensor expected = Tensor::from<float>(sum, {kT, H}).to(dtype);
          const Guarded dx({kT, H}, /* misaligned= */ true, dtype);
          EXPECT_TRUE(threads_do_not_matter(*dx, [&] {
            dx->copy_from(before);
            scatter_add_rows({dy, row, *dx, accumulate});
          }));
          EXPECT_TRUE(same_bits(*dx, expected));
          EXPECT_TRUE(dx.intact());
          dx->copy_from(before);
          scatter_add_rows_reference({dy, row, *dx, accumulate});
          EXPECT_TRUE(same_bits(*dx, expected));
        }
      }
    }
  }
}

TEST_P(ScatterRows, IsTheTransposeOfGather) {  // <gather(x), dy> = <x, scatter(dy)>
  const Tensor x = random_tensor({kT, 9}, 1), dy = random_tensor({150, 9}, 2),
               row = integers(some_rows(150)), y = Tensor::empty({150, 9}),
               dx = Tensor::empty({kT, 9});
  gather_rows({x, row, y});
  scatter_add_rows({dy, row, dx, false});
  const auto dot = [](const Tensor& a, const Tensor& b) {
    return std::inner_product(a.span<float>().begin(), a.span<float>().end(),
                              b.span<float>().begin(), 0.0);
  };
  EXPECT_NEAR(dot(y, dy), dot(x, dx), 1e-9);
}

TEST(CopyErrors, ShapesAndTypesThatDisagree) {
  const Tensor x = Tensor::zeros({3, 4}), y = Tensor::zeros({2, 4}), row = integers({0, 1}),
               one = integers({0}), three = integers({0, 1, 2}), narrow = Tensor::zeros({2, 3}),
               floats = Tensor::zeros({2}), half = Tensor::zeros({2, 4}, DType::bf16);
  EXPECT_NO_THROW(gather_rows({x, row, y}));
  EXPECT_THROW(gather_rows({x, one, y}), UsageError);
  EXPECT_THROW(gather_rows({x, row, narrow}), UsageError);
  EXPECT_THROW(gather_rows({x, floats, y}), UsageError);
  EXPECT_THROW(gather_rows({x, row, half}), UsageError);
  EXPECT_NO_THROW(scatter_add_rows({y, row, x, false}));
  EXPECT_THROW(scatter_add_rows({y, three, x, false}), UsageError);
  EXPECT_THROW(scatter_add_rows({half, row, x, false}), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Simd, ScatterRows, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
