// embedding_cuda_test.cpp: every rung of the CUDA embedding against plain loops in f32, to the bit:
// an element's additions have one order. Rows around packs and warps, groups around what the two
// backward kernels share out, tail rows, empty groups, misaligned tensors.
#include "core/kernels/embedding.h"
#include "core/row_groups.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr int64_t kRows[] = {67, 130, 2};  // of the three tables

class EmbeddingCuda : public CudaTest {};

/// The host's tensors of a forward pass, and what the plain loop makes of them.
struct Forward {
  std::vector<Tensor> tables, indices;
  Tensor y;

  Forward(int count, int64_t N, int64_t H, DType dtype) {
    const Tensor sum = Tensor::zeros({N, H});
    for (int k = 0; k < count; ++k) {
      const auto id = random_ids(N, kRows[k], static_cast<uint64_t>(k));
      tables.push_back(random_tensor({kRows[k], H}, static_cast<uint64_t>(k), 1, dtype));
      indices.push_back(integers(id));
      const std::vector<float> wide = floats_of(tables.back());
      for (int64_t i = 0; i < N * H; ++i)
        sum.data<float>()[i] +=
            wide[static_cast<size_t>(id[static_cast<size_t>(i / H)] * H + i % H)];
    }
    y = sum.to(dtype);
  }
};

/// The same on the device, with the tensor `misaligned` (a table's number, or `count` for y) off
/// every pack; -1: none.
struct CudaForward {
  std::vector<GuardedCuda> tables;
  std::vector<Tensor> indices;
  GuardedCuda y;
  EmbeddingForward args;

  CudaForward(const Forward& host, int misaligned)
      : y(host.y.shape(), host.y.dtype(), misaligned == static_cast<int>(host.tables.size())) {
    args.count = static_cast<int>(host.tables.size());
    args.y = *y;
    for (int k = 0; k < args.count; ++k) {
      const Tensor& table = host.tables[static_cast<size_t>(k)];
      tables.emplace_back(table.shape(), table.dtype(), misaligned == k);
      copy_to_device(table.raw(), *tables.back());
      indices.push_back(on_cuda(host.indices[static_cast<size_t>(k)]));
      args.table[k] = *tables.back();
      args.index[k] = indices.back();
    }
  }
};

TEST_F(EmbeddingCuda, ForwardHasTheBitsOfThePlainLoop) {
  for (const DType dtype : kComputeTypes) {
    for (const int count : {1, 2, 3}) {
      for (const int64_t N : {0, 1, 7, 8, 9, 37}) {
        for (const int64_t H : {1, 7, 8, 31, 32, 33, 64, 100, 128, 264}) {
          if (count != 3 && N != 9) continue;
          const Forward host(count, N, H, dtype);
          for (int rung = 1; rung <= kEmbeddingForwardRungs; ++rung) {
            SCOPED_TRACE(
                fmt::format("{} count {} N {} H {} rung {}", name_of(dtype), count, N, H, rung));
            const CudaForward cuda(host, -1);
            embedding_forward_cuda_rung(cuda.args, current_stream(), rung);
            EXPECT_TRUE(same_bits(on_cpu(*cuda.y), host.y));
            EXPECT_TRUE(cuda.y.intact());
          }
        }
      }
    }
  }
}

TEST_F(EmbeddingCuda, EachForwardRungLaunchesItsKernel) {
  const CudaForward cuda(Forward(2, 5, 64, DType::bf16), -1);
  expect_rungs(
      {"forward_elements<", "forward_rows<__nv_bfloat16, 1>", "forward_rows<__nv_bfloat16, 8>"},
      [&](int rung) { embedding_forward_cuda_rung(cuda.args, current_stream(), rung); });
}

TEST_F(EmbeddingCuda, ForwardTakesMisalignedTensors) {
  for (const DType dtype : kComputeTypes) {
    const Forward host(3, 5, 64, dtype);
    for (const int misaligned : {0, 1, 2, 3}) {
      SCOPED_TRACE(fmt::format("{} tensor {}", name_of(dtype), misaligned));
      const CudaForward cuda(host, misaligned);
      embedding_forward(cuda.args);
      EXPECT_TRUE(same_bits(on_cpu(*cuda.y), host.y));
      EXPECT_TRUE(cuda.y.intact());
    }
  }
}

/// dtable after the plain loop over the first `count` positions: f32, ascending.
Tensor scattered(const Tensor& dy, const std::vector<int32_t>& index, int64_t count,
                 const Tensor& before, bool accumulate) {
  Tensor dtable = before.clone();
  if (!accumulate) dtable.fill_zero();
  const int64_t H = dy.dim(1);
  const std::vector<float> wide = floats_of(dy);
  for (int64_t n = 0; n < count; ++n) {
    float* row = dtable.data<float>() + index[static_cast<size_t>(n)] * H;
    for (int64_t h = 0; h < H; ++h) row[h] += wide[static_cast<size_t>(n * H + h)];
  }
  return dtable;
}

struct CudaBackward {
  GuardedCuda dy, dtable;
  Tensor order, row, start;
  EmbeddingBackward args;

  CudaBackward(const Tensor& host_dy, const RowGroups& groups, const Tensor& before,
               bool accumulate, bool misaligned_dy = false, bool misaligned_dtable = false)
      : dy(host_dy.shape(), host_dy.dtype(), misaligned_dy),
        dtable(before.shape(), DType::f32, misaligned_dtable),
        order(on_cuda(groups.order)),
        row(on_cuda(groups.row)),
        start(on_cuda(groups.start)) {
    copy_to_device(host_dy.raw(), *dy);
    copy_to_device(before.raw(), *dtable);
    args = {*dy, order, row, start, *dtable, accumulate};
  }
};

// Groups of one length each around the border between the two kernels, around a tile and its half.
TEST_F(EmbeddingCuda, BackwardHasTheBitsOfThePlainLoopForGroupsOfAnyLength) {
  constexpr int64_t kLengths[] = {1, 2, 3, 4, 5, 31, 32, 33, 63, 64, 65, 127, 128, 129, 256, 300};
  std::vector<int32_t> index;
  for (size_t k = 0; k < std::size(kLengths); ++k)
    index.insert(index.end(), static_cast<size_t>(kLengths[k]), static_cast<int32_t>(2 * k + 1));
  RandomStream stream(3, StreamPurpose::user, 1);
  for (size_t i = index.size(); i > 1; --i)
    std::swap(index[i - 1], index[stream.below(static_cast<uint32_t>(i))]);
  const auto N = static_cast<int64_t>(index.size());
  const int64_t rows = 2 * static_cast<int64_t>(std::size(kLengths)) + 1;
  const RowGroups groups = group_rows(index, rows, N);
  for (const DType dtype : kComputeTypes) {
    for (const int64_t H : {1, 8, 17, 68, 72, 136}) {
      const Tensor dy = random_tensor({N, H}, 6, 1, dtype), before = random_tensor({rows, H}, 5);
      for (const bool accumulate : {false, true}) {
        const Tensor expected = scattered(dy, index, N, before, accumulate);
        for (int rung = 1; rung <= kEmbeddingBackwardRungs; ++rung) {
          SCOPED_TRACE(
              fmt::format("{} H {} accumulate {} rung {}", name_of(dtype), H, accumulate, rung));
          const CudaBackward cuda(dy, groups, before, accumulate);
          embedding_backward_cuda_rung(cuda.args, current_stream(), rung);
          EXPECT_TRUE(same_bits(on_cpu(*cuda.dtable), expected));
          EXPECT_TRUE(cuda.dtable.intact());
        }
      }
    }
  }
}

TEST_F(EmbeddingCuda, BackwardHasTheBitsOfThePlainLoopForTablesOfAnySize) {
  for (const DType dtype : kComputeTypes) {
    for (const int64_t rows : {1, 2, 67}) {
      for (const int64_t N : {0, 1, 31, 32, 33, 34, 65, 513}) {
        constexpr int64_t H = 72;
        SCOPED_TRACE(fmt::format("{} rows {} N {}", name_of(dtype), rows, N));
        const Tensor dy = random_tensor({N, H}, 6, 1, dtype), before = random_tensor({rows, H}, 5);
        const auto index = random_ids(N, rows, 7);
        const CudaBackward cuda(dy, group_rows(index, rows, N), before, true);
        embedding_backward(cuda.args);
        EXPECT_TRUE(same_bits(on_cpu(*cuda.dtable), scattered(dy, index, N, before, true)));
        EXPECT_TRUE(cuda.dtable.intact());
      }
    }
  }
}

// Rows of dy beyond the real positions are never read, and groups beyond the last real one, padded,
// are none. A long group stands right before them, or all groups are empty.
TEST_F(EmbeddingCuda, BackwardSkipsTailRowsAndPaddedGroups) {
  constexpr int64_t N = 300, H = 72, kTable = 90;
  for (const DType dtype : kComputeTypes) {
    for (const int64_t count : {0, 1, 64, 96, 200}) {
      for (const int32_t last : {0, 89}) {
        SCOPED_TRACE(fmt::format("{} count {} last {}", name_of(dtype), count, last));
        auto index = random_ids(N, 5, 3);
        for (int64_t n = count / 4; n < count; ++n) index[static_cast<size_t>(n)] = last;
        Tensor dy = random_tensor({N, H}, 6);
        std::fill_n(dy.data<float>() + count * H, (N - count) * H, NAN);
        dy = dy.to(dtype);
        const Tensor before = random_tensor({kTable, H}, 8);
        const CudaBackward cuda(dy, group_rows(index, kTable, count), before, true);
        embedding_backward(cuda.args);
        EXPECT_TRUE(same_bits(on_cpu(*cuda.dtable), scattered(dy, index, count, before, true)));
      }
    }
  }
}

// The contract allows empty groups anywhere, not only at the end.
TEST_F(EmbeddingCuda, BackwardTakesEmptyGroupsBetweenOthers) {
  constexpr int64_t H = 64;
  const std::vector<int32_t> index(200, 3);
  RowGroups groups = group_rows(index, 5, 200);
  for (const auto& [row, start] : {std::pair<std::vector<int32_t>, std::vector<int32_t>>{
                                       {0, 0, 3, 0, 0}, {0, 0, 0, 200, 200, 200}},
                                   {{3, 0, 0, 0, 0}, {0, 200, 200, 200, 200, 200}},
                                   {{0, 0, 0, 0, 3}, {0, 0, 0, 0, 0, 200}}}) {
    groups.row = integers(row);
    groups.start = integers(start);
    for (const DType dtype : kComputeTypes) {
      const Tensor dy = random_tensor({200, H}, 6, 1, dtype), before = random_tensor({5, H}, 5);
      const CudaBackward cuda(dy, groups, before, true);
      embedding_backward(cuda.args);
      EXPECT_TRUE(same_bits(on_cpu(*cuda.dtable), scattered(dy, index, 200, before, true)));
    }
  }
}

TEST_F(EmbeddingCuda, BackwardTakesMisalignedTensors) {
  constexpr int64_t N = 100, H = 64;
  const auto index = random_ids(N, 2, 7);
  const RowGroups groups = group_rows(index, 2, N);
  for (const DType dtype : kComputeTypes) {
    const Tensor dy = random_tensor({N, H}, 6, 1, dtype), before = random_tensor({2, H}, 5);
    const Tensor expected = scattered(dy, index, N, before, true);
    for (const bool dy_is_off : {false, true}) {
      for (const bool dtable_is_off : {false, true}) {
        const CudaBackward cuda(dy, groups, before, true, dy_is_off, dtable_is_off);
        embedding_backward(cuda.args);
        EXPECT_TRUE(same_bits(on_cpu(*cuda.dtable), expected));
        EXPECT_TRUE(cuda.dtable.intact());
      }
    }
  }
}

TEST_F(EmbeddingCuda, BackwardMatchesReference) {
  const Tensor dy = random_tensor({513, 72}, 1), before = random_tensor({2, 72}, 3);
  const RowGroups groups = group_rows(random_ids(513, 2, 2), 2, 500);
  const CudaBackward cuda(dy, groups, before, true);
  embedding_backward(cuda.args);
  embedding_backward_reference({dy, groups.order, groups.row, groups.start, before, true});
  EXPECT_TRUE(near("dtable", on_cpu(*cuda.dtable), before, Tolerance::gradient));
}

// Row 1 fills four tiles of the long kernel: both halves of its memory are used again.
TEST_F(EmbeddingCuda, SchedulesDoNotMatter) {
  constexpr int64_t N = 500;
  for (const DType dtype : kComputeTypes) {
    const Forward host(3, 9, 72, dtype);
    auto index = random_ids(N, 3, 2);
    std::fill_n(index.begin(), 420, 1);
    const Tensor dy = random_tensor({N, 72}, 1, 1, dtype), before = random_tensor({3, 72}, 3);
    const RowGroups groups = group_rows(index, 3, N);
    size_t runs = 0;
    const std::vector<Tensor> got = same_bits_in_every_schedule([&] {
      ++runs;
      const CudaForward forward(host, -1);
      embedding_forward(forward.args);
      const CudaBackward backward(dy, groups, before, false);
      embedding_backward(backward.args);
      return std::vector<Tensor>{*forward.y, *backward.dtable};
    });
    EXPECT_EQ(runs, schedules().size()) << "orders, with copies late and early";
    EXPECT_TRUE(same_bits(got[0], host.y));
    EXPECT_TRUE(same_bits(got[1], scattered(dy, index, N, before, false)));
  }
}

}  // namespace
}  // namespace minibert::testing
