// gemm_test.cpp: products and epilogues against the double reference, by oneDNN (where it is built
// in) and by our own GEMM at every instruction set. Sizes lie on, below and above panels (6, 12; 8,
// 16, 32), tiles (96, 256), K's blocks (768) and chunks (3,072).
#include "core/kernels/gemm.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "core/kernels/gemm_backend.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

using Epilogue = GemmArgs::Epilogue;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Our own GEMM at a level; none: oneDNN where this build has it.
using Implementation = std::optional<SimdLevel>;

std::vector<Implementation> implementations() {
  std::vector<Implementation> all{std::nullopt};
  for (SimdLevel level : simd_levels()) all.push_back(level);
  return all;
}

class Gemm : public ::testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    gemm_use(GetParam() || !gemm_onednn_available() ? GemmBackend::builtin : GemmBackend::onednn);
    if (GetParam()) set_simd_level(*GetParam());
  }
  void TearDown() override {
    gemm_use(GemmBackend::fastest);
    set_simd_level(level_);
    set_num_threads(threads_);
  }

 private:
  SimdLevel level_ = simd_level();
  int threads_ = num_threads();
};

struct Sizes {
  int64_t M, N, K;
};

const Sizes kSizes[] = {{0, 5, 3},    {5, 0, 3},     {5, 3, 0},      {1, 1, 1},    {1, 37, 5},
                        {37, 1, 5},   {7, 13, 17},   {11, 31, 64},   {12, 32, 96}, {13, 33, 97},
                        {95, 255, 7}, {97, 257, 31}, {17, 33, 3072}, {5, 7, 767},  {5, 7, 769},
                        {3, 5, 1537}, {3073, 5, 3},  {5, 3073, 3},   {6, 8, 768},  {101, 103, 107}};

GemmArgs make_args(const Sizes& s, bool transpose_a, bool transpose_b) {
  GemmArgs args;
  args.transpose_a = transpose_a;
  args.transpose_b = transpose_b;
  args.a = random_tensor(transpose_a ? Shape{s.K, s.M} : Shape{s.M, s.K}, 1);
  args.b = random_tensor(transpose_b ? Shape{s.N, s.K} : Shape{s.K, s.N}, 2);
  return args;
}

std::string describe(const GemmArgs& args) {
  return args.a.shape().str() + (args.transpose_a ? "^T x " : " x ") + args.b.shape().str() +
         (args.transpose_b ? "^T" : "");
}

// Runs gemm between guards over stale NaN (or what it accumulates to), and compares all it writes.
void expect_reference(GemmArgs args, const Sizes& s, bool has_pre = false, bool has_sums = false) {
  SCOPED_TRACE(describe(args));
  const Shape c_shape{s.M, s.N};
  const Guarded c(c_shape, /* misaligned= */ true), pre(c_shape), sums({s.N});
  const auto restart = [&](const Tensor& c_out, const Tensor& pre_out, const Tensor& sums_out) {
    args.c = c_out;
    fill_normal(c_out, 3);
    if (!args.accumulate)
      for (float& x : c_out.span<float>()) x = kNaN;
    fill_normal(pre_out, 4);
    fill_normal(sums_out, 5);
    if (has_pre) args.pre_activation = pre_out;
    if (has_sums) args.column_sum = sums_out;
  };
  const Tensor c_expected = Tensor::empty(c_shape), pre_expected = Tensor::empty(c_shape);
  const Tensor sums_expected = Tensor::empty({s.N});
  restart(c_expected, pre_expected, sums_expected);
  gemm_reference(args);
  restart(*c, *pre, *sums);
  gemm(args);
  EXPECT_TRUE(near("c", *c, c_expected, Tolerance::reduction));
  EXPECT_TRUE(near("pre_activation", *pre, pre_expected, Tolerance::reduction));
  EXPECT_TRUE(near("column_sum", *sums, sums_expected, Tolerance::reduction));
  EXPECT_TRUE(c.intact() && pre.intact() && sums.intact());
}

TEST_P(Gemm, ProductsOfAllTransposesMatchReference) {
  for (const Sizes& s : kSizes) {
    for (int transposes = 0; transposes < 4; ++transposes) {
      GemmArgs args = make_args(s, transposes & 1, transposes & 2);
      expect_reference(args, s);
      args.accumulate = true;
      expect_reference(args, s);
      args.bias = random_tensor({s.N}, 6);
      expect_reference(args, s);
      args.accumulate = false;
      expect_reference(args, s);
    }
  }
}

TEST_P(Gemm, BiasGeluMatchesReference) {
  for (const Sizes& s : kSizes) {
    GemmArgs args = make_args(s, false, true);
    args.epilogue = Epilogue::bias_gelu;
    for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
      args.gelu = kind;
      args.bias = Tensor();
      expect_reference(args, s, /* has_pre= */ true);
      args.bias = random_tensor({s.N}, 6);
      expect_reference(args, s, /* has_pre= */ true);
      expect_reference(args, s, /* has_pre= */ false);
    }
  }
}

TEST_P(Gemm, DgeluAndColumnSumMatchReference) {
  for (const Sizes& s : kSizes) {
    GemmArgs args = make_args(s, false, false);
    args.epilogue = Epilogue::dgelu;
    for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
      args.gelu = kind;
      args.accumulate_column_sum = false;
      expect_reference(args, s, /* has_pre= */ true, /* has_sums= */ false);
      expect_reference(args, s, /* has_pre= */ true, /* has_sums= */ true);
      args.accumulate_column_sum = true;
      expect_reference(args, s, /* has_pre= */ true, /* has_sums= */ true);
    }
  }
}

TEST_P(Gemm, ThreadsDoNotChangeBits) {
  for (const Sizes& s : {Sizes{101, 515, 769}, Sizes{250, 70, 33}, Sizes{7, 3100, 11}}) {
    GemmArgs args = make_args(s, false, true);
    args.c = Tensor::empty({s.M, s.N});
    args.bias = random_tensor({s.N}, 6);
    EXPECT_TRUE(threads_do_not_matter(args.c, [&] { gemm(args); }));
    args.epilogue = Epilogue::dgelu;
    args.bias = Tensor();
    args.pre_activation = random_tensor({s.M, s.N}, 7);
    args.column_sum = Tensor::empty({s.N});
    EXPECT_TRUE(threads_do_not_matter(args.column_sum, [&] { gemm(args); }));
  }
}

TEST_P(Gemm, BitsOfARowDoNotDependOnTheOtherRowsInOurOwn) {
  gemm_use(GemmBackend::builtin);
  const Sizes s{131, 67, 1000};
  GemmArgs args = make_args(s, false, true);
  args.c = Tensor::empty({s.M, s.N});
  gemm(args);
  const Tensor all = args.c;
  for (int64_t first : {0, 5, 96, 130}) {
    GemmArgs part = args;
    part.a = args.a.rows(first, 1);
    part.c = Tensor::empty({1, s.N});
    gemm(part);
    EXPECT_TRUE(same_bits(part.c, all.rows(first, 1))) << "row " << first;
  }
}

TEST_P(Gemm, NaNAndInfinityReachTheirRowAndNoOther) {
  const Sizes s{15, 37, 770};
  for (float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
    GemmArgs args = make_args(s, false, true);
    args.c = Tensor::empty({s.M, s.N});
    args.a.data<float>()[7 * s.K + 769] = bad;
    gemm(args);
    for (int64_t m = 0; m < s.M; ++m) {
      for (int64_t n = 0; n < s.N; ++n)
        ASSERT_EQ(std::isfinite(args.c.data<float>()[m * s.N + n]), m != 7) << m << ", " << n;
    }
  }
}

TEST(GemmErrors, NameBothShapes) {
  GemmArgs args;
  args.a = Tensor::zeros({3, 4});
  args.b = Tensor::zeros({5, 6});
  args.c = Tensor::zeros({3, 6});
  try {
    gemm(args);
    FAIL() << "inner dimensions 4 and 5 were taken";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("[5, 6]"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("[3, 4]"), std::string::npos) << error.what();
  }
  args.b = Tensor::zeros({4, 6});
  EXPECT_NO_THROW(gemm(args));
  const auto rejects = [&](auto change) {
    GemmArgs bad = args;
    change(bad);
    EXPECT_THROW(gemm(bad), UsageError);
  };
  rejects([](GemmArgs& g) { g.c = Tensor::zeros({6, 3}); });
  rejects([](GemmArgs& g) { g.a = Tensor::zeros({12}); });
  rejects([](GemmArgs& g) { g.a = Tensor(); });
  rejects([](GemmArgs& g) { g.b = Tensor::zeros({4, 6}, DType::bf16); });
  rejects([](GemmArgs& g) { g.bias = Tensor::zeros({3}); });
  rejects([](GemmArgs& g) { g.epilogue = Epilogue::dgelu; });
  rejects([](GemmArgs& g) { g.epilogue = Epilogue::bias_gelu, g.accumulate = true; });
  rejects([](GemmArgs& g) { g.pre_activation = Tensor::zeros({6}); });
  rejects([](GemmArgs& g) {
    g.epilogue = Epilogue::dgelu;
    g.pre_activation = g.c;
    g.column_sum = Tensor::zeros({3});
  });
}

TEST(GemmImplementation, SaysWhichOneIsUsed) {
  if (gemm_onednn_available()) {
    EXPECT_EQ(gemm_implementation().rfind("oneDNN ", 0), 0u) << gemm_implementation();
  }
  gemm_use(GemmBackend::builtin);
  EXPECT_EQ(gemm_implementation(), std::string("built-in (") + name_of(simd_level()) + ")");
  gemm_use(GemmBackend::fastest);
}

// Sizes at which the two implementations' bits differ, so that bits tell who multiplied.
TEST(GemmImplementation, FastestTakesOurOwnForTransposedAAndForRowsOfWholePages) {
  if (!gemm_onednn_available()) GTEST_SKIP() << "this build has no oneDNN to choose";
  const auto bits = [](GemmArgs args, const Sizes& s, GemmBackend backend) {
    gemm_use(backend);
    args.c = Tensor::empty({s.M, s.N});
    gemm(args);
    gemm_use(GemmBackend::fastest);
    return args.c;
  };
  const auto same = [](const Tensor& x, const Tensor& y) {
    return std::memcmp(x.raw(), y.raw(), static_cast<size_t>(x.bytes())) == 0;
  };
  struct Case {
    Sizes sizes;
    bool transpose_a, transpose_b, ours;
  };
  for (const Case& c :
       {Case{{300, 500, 900}, false, true, false}, Case{{300, 500, 900}, false, false, false},
        Case{{300, 500, 900}, true, false, true}, Case{{300, 500, 2048}, false, true, true},
        Case{{300, 1024, 900}, false, false, true}, Case{{300, 1024, 900}, false, true, false}}) {
    const GemmArgs args = make_args(c.sizes, c.transpose_a, c.transpose_b);
    const Tensor ours = bits(args, c.sizes, GemmBackend::builtin);
    const Tensor theirs = bits(args, c.sizes, GemmBackend::onednn);
    const Tensor chosen = bits(args, c.sizes, GemmBackend::fastest);
    ASSERT_FALSE(same(ours, theirs)) << "these sizes can't tell";
    EXPECT_TRUE(same(chosen, c.ours ? ours : theirs))
        << c.sizes.M << " " << c.sizes.N << " " << c.sizes.K << " " << c.transpose_a
        << c.transpose_b;
  }
}

TEST(GemmCost, CountsMultiplicationsAndElements) {
  GemmArgs args = make_args({3, 5, 7}, true, true);
  args.c = Tensor::zeros({3, 5});
  EXPECT_EQ(gemm_flops(args), 2.0 * 3 * 5 * 7);
  EXPECT_EQ(gemm_bytes(args), 4.0 * (3 * 7 + 7 * 5 + 3 * 5));
  args.accumulate = true;
  EXPECT_EQ(gemm_bytes(args), 4.0 * (3 * 7 + 7 * 5 + 2 * 3 * 5));
}

INSTANTIATE_TEST_SUITE_P(Implementations, Gemm, ::testing::ValuesIn(implementations()),
                         [](const auto& info) -> std::string {
                           return info.param ? std::string("builtin_") + name_of(*info.param)
                                             : "default";
                         });

}  // namespace
}  // namespace minibert::testing
