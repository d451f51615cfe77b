// embedding_test.cpp: sums of rows against the double reference, the scatter against the plain loop
// over positions in f32 (same bits), in each type; padded groups, tail rows, and what is refused.
#include "core/kernels/embedding.h"

#include "core/row_groups.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr int64_t kRows[] = {67, 130, 2};  // of the three tables

class Embedding : public EachLevel {};

/// The tensors of a forward pass, and the arguments that point to them.
struct Forward {
  std::vector<Tensor> tables, indices;
  EmbeddingForward args;
};

Forward random_forward(int count, int64_t N, int64_t H, const Tensor& y) {
  Forward f;
  f.args.count = count;
  f.args.y = y;
  for (int k = 0; k < count; ++k) {
    f.tables.push_back(random_tensor({kRows[k], H}, static_cast<uint64_t>(k), 1, y.dtype()));
    f.indices.push_back(integers(random_ids(N, kRows[k], static_cast<uint64_t>(k))));
    f.args.table[k] = f.tables.back();
    f.args.index[k] = f.indices.back();
  }
  return f;
}

EmbeddingBackward backward_args(const Tensor& dy, const RowGroups& groups, const Tensor& dtable,
                                bool accumulate) {
  return {dy, groups.order, groups.row, groups.start, dtable, accumulate};
}

// dtable after the plain loop over the first `count` positions: f32, ascending.
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

TEST_P(Embedding, ForwardMatchesReference) {
  for (DType dtype : kComputeTypes) {
    for (int count : {1, 2, 3}) {
      for (int64_t N : {0, 1, 16, 37}) {
        for (int64_t H : {1, 7, 15, 16, 17, 64, 100, 768}) {
          SCOPED_TRACE(fmt::format("count {} N {} H {}", count, N, H));
          Guarded y({N, H}, /* misaligned= */ true, dtype);
          const Forward f = random_forward(count, N, H, *y);
          embedding_forward(f.args);
          EXPECT_TRUE(y.intact());
          // The sum of 16-bit rows in double, not yet rounded: f32 copies of the same tables.
          Forward exact = f;
          const Tensor expected = Tensor::empty({N, H});
          for (int k = 0; k < count; ++k) {
            exact.tables[static_cast<size_t>(k)] = f.tables[static_cast<size_t>(k)].to(DType::f32);
            exact.args.table[k] = exact.tables[static_cast<size_t>(k)];
          }
          exact.args.y = expected;
          embedding_forward_reference(exact.args);
          EXPECT_TRUE(near_in("y", *y, expected, Tolerance::elementwise));
        }
      }
    }
  }
}

TEST_P(Embedding, BackwardAddsInAscendingOrderToTheBit) {
  for (DType dtype : kComputeTypes) {
    for (int64_t rows : {1, 2, 67}) {
      for (int64_t N : {0, 1, 63, 64, 65, 1021}) {
        for (int64_t H : {1, 15, 17, 64, 127, 128, 129, 300}) {
          if (dtype != DType::f32 && H != 17 && H != 129) continue;  // one loop serves all types
          for (bool accumulate : {false, true}) {
            SCOPED_TRACE(fmt::format("{} rows {} N {} H {} accumulate {}", name_of(dtype), rows, N,
                                     H, accumulate));
            Guarded dtable({rows, H}, /* misaligned= */ true);
            fill_normal(*dtable, 5);
            const Tensor dy = random_tensor({N, H}, 6, 1, dtype);
            const auto index = random_ids(N, rows, 7);
            const Tensor expected = scattered(dy, index, N, *dtable, accumulate);
            const RowGroups groups = group_rows(index, rows, N);
            embedding_backward(backward_args(dy, groups, *dtable, accumulate));
            EXPECT_TRUE(same_bits(*dtable, expected));
            EXPECT_TRUE(dtable.intact());
          }
        }
      }
    }
  }
}

// Rows of dy beyond the real positions are never read, and empty groups end nothing early: a group
// of more than a task's positions stands right before them, or all groups are empty.
TEST_P(Embedding, BackwardSkipsTailRowsAndEmptyGroups) {
  constexpr int64_t N = 300, H = 133, kTable = 90;
  for (DType dtype : kComputeTypes) {
    for (int64_t count : {0, 1, 64, 200}) {
      for (int32_t last : {0, 89}) {
        SCOPED_TRACE(fmt::format("{} count {} last {}", name_of(dtype), count, last));
        auto index = random_ids(N, 5, 3);
        for (int64_t n = count / 4; n < count; ++n) index[static_cast<size_t>(n)] = last;
        Tensor dy = random_tensor({N, H}, 6);
        std::fill_n(dy.data<float>() + count * H, (N - count) * H, NAN);
        dy = dy.to(dtype);
        const RowGroups groups = group_rows(index, kTable, count);
        ASSERT_EQ(groups.row.numel(), kTable) << "padded";
        const Tensor dtable = random_tensor({kTable, H}, 8);
        const Tensor expected = scattered(dy, index, count, dtable, true);
        embedding_backward(backward_args(dy, groups, dtable, true));
        EXPECT_TRUE(same_bits(dtable, expected));
      }
    }
  }
}

TEST_P(Embedding, BackwardMatchesReference) {
  for (DType dtype : kComputeTypes) {
    const Tensor dy = random_tensor({513, 65}, 1, 1, dtype), dtable = random_tensor({2, 65}, 3),
                 expected = dtable.clone();
    const RowGroups groups = group_rows(random_ids(513, 2, 2), 2, 500);
    embedding_backward(backward_args(dy, groups, dtable, true));
    embedding_backward_reference(backward_args(dy, groups, expected, true));
    EXPECT_TRUE(near("dtable", dtable, expected, Tolerance::gradient));
  }
}

TEST_P(Embedding, BackwardLeavesRowsThatDoNotOccur) {
  const Tensor before = random_tensor({5, 33}, 1), dy = random_tensor({3, 33}, 2),
               dtable = before.clone();
  const RowGroups groups = group_rows(std::vector<int32_t>{3, 1, 3}, 5, 3);
  embedding_backward(backward_args(dy, groups, dtable, true));
  for (int64_t row : {0, 2, 4}) EXPECT_TRUE(same_bits(dtable.rows(row, 1), before.rows(row, 1)));
  embedding_backward(backward_args(dy, groups, dtable, false));
  for (float x : dtable.rows(2, 1).span<float>()) EXPECT_EQ(x, 0.0f);
}

TEST_P(Embedding, ThreadsDoNotMatter) {
  for (DType dtype : kComputeTypes) {
    const Tensor y = Tensor::empty({129, 100}, dtype);
    const Forward forward = random_forward(3, 129, 100, y);
    EXPECT_TRUE(threads_do_not_matter(y, [&] { embedding_forward(forward.args); }));
    for (int64_t rows : {2, 67}) {
      const Tensor dy = random_tensor({500, 200}, 1, 1, dtype), dtable = Tensor::zeros({rows, 200});
      const RowGroups groups = group_rows(random_ids(500, rows, 2), rows, 500);
      EXPECT_TRUE(threads_do_not_matter(
          dtable, [&] { embedding_backward(backward_args(dy, groups, dtable, false)); }));
    }
  }
}

TEST(EmbeddingErrors, RejectShapesAndTypesThatDisagree) {
  const Tensor y = Tensor::empty({5, 8});
  const Forward good = random_forward(2, 5, 8, y);
  const auto refuses = [&](auto change) {
    EmbeddingForward args = good.args;
    change(args);
    EXPECT_THROW(embedding_forward(args), UsageError);
  };
  const Tensor narrow = Tensor::zeros({130, 9}), short_index = integers({1, 2, 3, 4}),
               floats = Tensor::zeros({5}), other_type = Tensor::zeros({130, 8}, DType::bf16);
  refuses([&](EmbeddingForward& args) { args.table[1] = narrow; });
  refuses([&](EmbeddingForward& args) { args.table[1] = other_type; });
  refuses([&](EmbeddingForward& args) { args.index[0] = short_index; });
  refuses([&](EmbeddingForward& args) { args.index[0] = floats; });
  refuses([&](EmbeddingForward& args) { args.count = 0; });
  refuses([&](EmbeddingForward& args) { args.count = 4; });
  refuses([&](EmbeddingForward& args) { args.y = {}; });

  const Tensor dy = random_tensor({2, 8}, 1), dtable = Tensor::zeros({4, 8});
  const RowGroups groups = group_rows(std::vector<int32_t>{1, 1}, 4, 2);
  const auto refuses_backward = [&](auto change) {
    EmbeddingBackward args = backward_args(dy, groups, dtable, false);
    EXPECT_NO_THROW(embedding_backward(args));
    change(args);
    EXPECT_THROW(embedding_backward(args), UsageError);
  };
  const Tensor wide = Tensor::zeros({4, 9}), half = Tensor::zeros({4, 8}, DType::bf16);
  refuses_backward([&](EmbeddingBackward& args) { args.dtable = wide; });
  refuses_backward([&](EmbeddingBackward& args) { args.dtable = half; });  // leaf gradients are f32
  refuses_backward([&](EmbeddingBackward& args) { args.order = short_index; });
  refuses_backward([&](EmbeddingBackward& args) { args.start = groups.row; });
  refuses_backward([&](EmbeddingBackward& args) { args.row = {}; });
}

INSTANTIATE_TEST_SUITE_P(Simd, Embedding, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
