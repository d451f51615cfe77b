// copy_cuda_test.cpp: bytes copied and rows picked on device cuda: copies to the bit, each rung, in
// every schedule; what is asked for after a copy sees it.
#include "core/kernels/copy.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

class CopyCuda : public CudaTest {};

constexpr int64_t kT = 61;

// P of kT rows in no order, each once; every seventh is -1.
std::vector<int32_t> some_rows(int64_t P) {
  std::vector<int32_t> rows;
  for (int64_t p = 0; p < P; ++p)
    rows.push_back(p % 7 == 3 ? -1 : static_cast<int32_t>((p * 17 + 5) % kT));
  return rows;
}

// Aligned rows of whole packs; rows that are aligned but no whole packs; rows off alignment.
struct Layout {
  int64_t H;
  bool misaligned;
};
constexpr Layout kLayouts[] = {{0, false},   {1, false},   {7, false},   {8, false},
                               {8, true},    {33, false},  {255, false}, {256, false},
                               {264, false}, {768, false}, {768, true},  {1024, false}};

TEST_F(CopyCuda, BytesComeBackAsTheyWent) {
  for (int64_t n : {0, 1, 15, 16, 17, 4097}) {
    for (bool misaligned : {false, true}) {
      const Tensor x = random_tensor({n}, 1, 1.0f, DType::bf16);
      const GuardedCuda first({n}, DType::bf16, misaligned), second({n}, DType::bf16);
      copy_to_device(x.raw(), *first);
      copy_bytes(*first, *second);
      EXPECT_TRUE(same_bits(on_cpu(*second), x));
      zero_bytes(*first);
      EXPECT_TRUE(same_bits(on_cpu(*first), Tensor::zeros({n}, DType::bf16)));
      EXPECT_TRUE(same_bits(on_cpu(*second), x));
      EXPECT_TRUE(first.intact() && second.intact());
    }
  }
}

TEST_F(CopyCuda, EachRungLaunchesItsKernel) {
  const Tensor x = on_cuda(random_tensor({3, 64}, 1)), y = on_cuda(Tensor::zeros({2, 64})),
               row = on_cuda(integers({2, 0}));
  expect_rungs(
      {"gather_thread_per_row<unsigned int>", "gather_words<unsigned int>", "gather_words<uint4>"},
      [&](int rung) {
        gather_rows_cuda_rung({x, row, y}, current_stream(), rung);
      });
}

TEST_F(CopyCuda, GatherCopiesTheRowsThatAreNamed) {
  for (DType dtype : kComputeTypes) {
    for (const Layout& layout : kLayouts) {
      const int64_t H = layout.H;
      const GuardedCuda x({kT, H}, dtype, layout.misaligned);
      const Tensor host_x = random_tensor({kT, H}, 1, 1, dtype),
                   zero = Tensor::zeros({1, H}, dtype);
      x->copy_from(on_cuda(host_x));
      for (int64_t P : {0, 1, 7, 8, 9, 50}) {
        const auto rows = some_rows(P);
        const Tensor row = on_cuda(integers(rows));
        for (int rung = 1; rung <= kGatherRowsRungs; ++rung) {
          SCOPED_TRACE(fmt::format("{} H {} P {} misaligned {} rung {}", name_of(dtype), H, P,
                                   layout.misaligned, rung));
          const GuardedCuda y({P, H}, dtype, layout.misaligned);
          gather_rows_cuda_rung({*x, row, *y}, current_stream(), rung);
          const Tensor got = on_cpu(*y);
          for (int64_t p = 0; p < P; ++p) {
            const int32_t from = rows[static_cast<size_t>(p)];
            ASSERT_TRUE(same_bits(got.rows(p, 1), from < 0 ? zero : host_x.rows(from, 1)))
                << "row " << p;
          }
          EXPECT_TRUE(y.intact());
        }
      }
    }
  }
}

TEST_F(CopyCuda, ScatterAddsToTheRowsThatAreNamed) {
  for (DType dtype : kComputeTypes) {
    for (const Layout& layout : kLayouts) {
      const int64_t H = layout.H;
      for (int64_t P : {0, 1, 8, 50}) {
        const Tensor dy = random_tensor({P, H}, 2, 1, dtype), row = integers(some_rows(P)),
                     before = random_tensor({kT, H}, 3, 1, dtype);
        const GuardedCuda there({P, H}, dtype, layout.misaligned);
        there->copy_from(on_cuda(dy));
        for (bool accumulate : {false, true}) {
          SCOPED_TRACE(fmt::format("{} H {} P {} misaligned {} accumulate {}", name_of(dtype), H, P,
                                   layout.misaligned, accumulate));
          const Tensor expected = before.clone();
          scatter_add_rows_reference({dy, row, expected, accumulate});
          const GuardedCuda dx({kT, H}, dtype, layout.misaligned);
          dx->copy_from(on_cuda(before));
          scatter_add_rows({*there, on_cuda(row), *dx, accumulate});
          EXPECT_TRUE(same_bits(on_cpu(*dx), expected));
          EXPECT_TRUE(dx.intact());
        }
      }
    }
  }
}

// -0 is what a sum with 0 must not give.
TEST_F(CopyCuda, ScatterIntoZerosGivesNoNegativeZero) {
  const Tensor dy = Tensor::from<float>(std::vector<float>{-0.0f, -0.0f, -0.0f, -0.0f}, {1, 4}),
               dx = Tensor::empty({2, 4}, DType::f32, MemoryCategory::activations, Device::cuda);
  scatter_add_rows({on_cuda(dy), on_cuda(integers({1})), dx});
  EXPECT_TRUE(same_bits(on_cpu(dx), Tensor::zeros({2, 4})));
}

// More blocks of rows than a grid holds in y are not to be had; fewer blocks than rows are.
TEST_F(CopyCuda, RowsGoOnBeyondTheGrid) {
  const int64_t P = 65535 * 8 + 11;
  const Tensor x = random_tensor({kT, 1}, 1), y = Tensor::empty({P, 1});
  std::vector<int32_t> rows;
  for (int64_t p = 0; p < P; ++p) rows.push_back(static_cast<int32_t>(p % kT));
  const Tensor there = Tensor::empty({P, 1}, DType::f32, MemoryCategory::activations, Device::cuda);
  gather_rows({on_cuda(x), on_cuda(integers(rows)), there});
  gather_rows_reference({x, integers(rows), y});
  EXPECT_TRUE(same_bits(on_cpu(there), y));
}

TEST_F(CopyCuda, EveryScheduleGivesTheSameBits) {
#ifdef MINIBERT_SIMT
  const size_t orders = (schedules().size() + 1) / 2;  // no cp.async here, which has two ways
#else
  const size_t orders = schedules().size();
#endif
  for (DType dtype : kComputeTypes) {
    const Tensor x = on_cuda(random_tensor({kT, 264}, 1, 1, dtype)),
                 row = on_cuda(integers(some_rows(50)));
    size_t runs = 0;
    same_bits_in_every_schedule([&] {
      ++runs;
      const Tensor y = x.like({50, 264}), dx = x.clone();
      gather_rows({x, row, y});
      scatter_add_rows({y, row, dx, /* accumulate= */ true});
      return std::vector<Tensor>{y, dx};
    });
    EXPECT_EQ(runs, orders);
  }
}

}  // namespace
}  // namespace minibert::testing
