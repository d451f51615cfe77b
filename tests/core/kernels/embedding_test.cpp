// embedding_test.cpp: sums of rows against the double reference, the scatter against the plain loop
// in f32 (same bits), and what bad indices get.
#include "core/kernels/embedding.h"

#include <gmock/gmock.h>

#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kRows[] = {67, 130, 2};  // of the three tables

class Embedding : public EachLevel {};

Tensor random_index(int64_t T, int64_t rows, uint64_t seed) {
  RandomStream stream(99, StreamPurpose::user, seed);
  std::vector<int32_t> id(static_cast<size_t>(T));
  for (int32_t& i : id) i = static_cast<int32_t>(stream.below(static_cast<uint32_t>(rows)));
  return integers(id);
}

EmbeddingForward random_forward(int count, int64_t T, int64_t H, const Tensor& y) {
  EmbeddingForward args;
  args.count = count;
  for (int k = 0; k < count; ++k) {
    args.table[k] = random_tensor({kRows[k], H}, static_cast<uint64_t>(k));
    args.index[k] = random_index(T, kRows[k], static_cast<uint64_t>(k));
  }
  args.y = y;
  return args;
}

// dtable after the plain loop of the contract: f32, ascending t.
Tensor scattered(const EmbeddingBackward& args) {
  Tensor dtable = args.dtable.clone();
  if (!args.accumulate) dtable.fill_zero();
  const int64_t T = args.dy.dim(0), H = args.dy.dim(1);
  for (int64_t t = 0; t < T; ++t) {
    float* row = dtable.data<float>() + args.index.data<int32_t>()[t] * H;
    for (int64_t h = 0; h < H; ++h) row[h] += args.dy.data<float>()[t * H + h];
  }
  return dtable;
}

template <typename E, typename Run>
std::string message_of(Run run) {
  try {
    run();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing of that type was thrown";
}

TEST_P(Embedding, ForwardMatchesReference) {
  for (int count : {1, 2, 3}) {
    for (int64_t T : {0, 1, 16, 37}) {
      for (int64_t H : {1, 7, 15, 16, 17, 64, 100, 768}) {
        SCOPED_TRACE(fmt::format("count {} T {} H {}", count, T, H));
        Guarded y({T, H}, /* misaligned= */ true);
        EmbeddingForward args = random_forward(count, T, H, *y);
        embedding_forward(args);
        EXPECT_TRUE(y.intact());
        args.y = Tensor::empty({T, H});
        embedding_forward_reference(args);
        EXPECT_TRUE(near("y", *y, args.y, Tolerance::elementwise));
      }
    }
  }
}

TEST_P(Embedding, BackwardAddsInAscendingOrderToTheBit) {
  for (int64_t rows : {1, 2, 67}) {
    for (int64_t T : {0, 1, 63, 64, 65, 1021}) {
      for (int64_t H : {1, 15, 17, 64, 127, 128, 129, 300}) {
        for (bool accumulate : {false, true}) {
          SCOPED_TRACE(fmt::format("rows {} T {} H {} accumulate {}", rows, T, H, accumulate));
          Guarded dtable({rows, H}, /* misaligned= */ true);
          fill_normal(*dtable, 5);
          const EmbeddingBackward args{random_tensor({T, H}, 6), random_index(T, rows, 7), *dtable,
                                       accumulate};
          const Tensor expected = scattered(args);
          embedding_backward(args);
          EXPECT_TRUE(same_bits(*dtable, expected));
          EXPECT_TRUE(dtable.intact());
        }
      }
    }
  }
}

TEST_P(Embedding, BackwardMatchesReference) {
  EmbeddingBackward args{random_tensor({513, 65}, 1), random_index(513, 2, 2),
                         random_tensor({2, 65}, 3), true};
  EmbeddingBackward reference = args;
  reference.dtable = args.dtable.clone();
  embedding_backward(args);
  embedding_backward_reference(reference);
  EXPECT_TRUE(near("dtable", args.dtable, reference.dtable, Tolerance::gradient));
}

TEST_P(Embedding, BackwardLeavesRowsThatDoNotOccur) {
  const Tensor before = random_tensor({5, 33}, 1);
  EmbeddingBackward args{random_tensor({3, 33}, 2), integers({3, 1, 3}), before.clone(), true};
  embedding_backward(args);
  for (int64_t row : {0, 2, 4})
    EXPECT_TRUE(same_bits(args.dtable.rows(row, 1), before.rows(row, 1)));
  args.accumulate = false;
  embedding_backward(args);
  for (float x : args.dtable.rows(2, 1).span<float>()) EXPECT_EQ(x, 0.0f);
}

TEST_P(Embedding, ThreadsDoNotMatter) {
  const EmbeddingForward forward = random_forward(3, 129, 100, Tensor::empty({129, 100}));
  EXPECT_TRUE(threads_do_not_matter(forward.y, [&] { embedding_forward(forward); }));
  for (int64_t rows : {2, 67}) {
    const EmbeddingBackward backward{random_tensor({500, 200}, 1), random_index(500, rows, 2),
                                     Tensor::zeros({rows, 200}), false};
    EXPECT_TRUE(threads_do_not_matter(backward.dtable, [&] { embedding_backward(backward); }));
  }
}

TEST(EmbeddingErrors, NameTheFirstIndexOutsideItsTable) {
  EmbeddingForward args = random_forward(2, 5, 8, Tensor::zeros({5, 8}));
  args.index[1] = integers({0, 129, 3, 130, -1});
  const std::string message = message_of<DataError>([&] { embedding_forward(args); });
  EXPECT_THAT(message, HasSubstr("index 1 at position 3 is 130, expected 0 to 129"));
  for (float y : args.y.span<float>()) EXPECT_EQ(y, 0.0f) << "nothing is written";

  EmbeddingBackward backward{random_tensor({2, 8}, 1), integers({1, -1}), Tensor::zeros({4, 8})};
  EXPECT_THAT(message_of<DataError>([&] { embedding_backward(backward); }),
              HasSubstr("at position 1 is -1, expected 0 to 3"));
}

TEST(EmbeddingErrors, RejectShapesAndTypesThatDisagree) {
  const EmbeddingForward good = random_forward(2, 5, 8, Tensor::empty({5, 8}));
  EmbeddingForward args = good;
  args.table[1] = Tensor::zeros({130, 9});
  EXPECT_THROW(embedding_forward(args), UsageError);
  args = good;
  args.index[0] = random_index(4, 67, 1);
  EXPECT_THROW(embedding_forward(args), UsageError);
  args = good;
  args.index[0] = Tensor::zeros({5});
  EXPECT_THROW(embedding_forward(args), UsageError);
  args = good;
  args.count = 0;
  EXPECT_THROW(embedding_forward(args), UsageError);
  args.count = 4;
  EXPECT_THROW(embedding_forward(args), UsageError);
  args = good;
  args.y = Tensor();
  EXPECT_THROW(embedding_forward(args), UsageError);
  const EmbeddingBackward backward{random_tensor({2, 8}, 1), integers({1, 1}),
                                   Tensor::zeros({4, 9})};
  EXPECT_THROW(embedding_backward(backward), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Simd, Embedding, ::testing::ValuesIn(simd_levels()), level_name);

}  // namespace
}  // namespace minibert::testing
