// gemm_test.cpp: products and epilogues against the double reference in f32, bf16 and f16, by oneDNN
// (where it is built in) and by our own GEMM at every instruction set. Sizes lie on, below and above
// panels (6, 12; 8, 16, 32), tiles (96, 256), K's blocks (768) and chunks (3,072).
#include "core/kernels/gemm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/kernels/gelu.h"
#include "core/kernels/gemm_backend.h"
#include "core/random.h"
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

/// A product's tensors, and arguments that point to them.
struct Product {
  Tensor a, b, bias;
  GemmArgs args;

  Product(const Sizes& s, bool transpose_a, bool transpose_b, DType type = DType::f32)
      : a(random_tensor(transpose_a ? Shape{s.K, s.M} : Shape{s.M, s.K}, 1, 1.0f, type)),
        b(random_tensor(transpose_b ? Shape{s.N, s.K} : Shape{s.K, s.N}, 2, 1.0f, type)),
        bias(random_tensor({s.N}, 6, 1.0f, type)) {
    args.a = a;
    args.b = b;
    args.transpose_a = transpose_a;
    args.transpose_b = transpose_b;
  }
};

std::string describe(const GemmArgs& args, DType result) {
  const auto shape = [](const Operand& x) { return fmt::format("[{}, {}]", x.dim(0), x.dim(1)); };
  return fmt::format("{} {}{} x {}{} to {}", name_of(args.a.dtype()), shape(args.a),
                     args.transpose_a ? "^T" : "", shape(args.b), args.transpose_b ? "^T" : "",
                     name_of(result));
}

/// What a call writes, between guards: c is stale NaN (or what it accumulates to), all else random.
struct Outputs {
  Guarded c, pre, sums;

  Outputs(const Sizes& s, DType type, bool accumulate)
      : c({s.M, s.N}, /* misaligned= */ true, type), pre({s.M, s.N}, false, type), sums({s.N}) {
    const Tensor before = random_tensor({s.M, s.N}, 3);
    if (!accumulate)
      for (float& x : before.span<float>()) x = kNaN;
    c->copy_from(before.to(type));
    pre->copy_from(random_tensor({s.M, s.N}, 4).to(type));
    fill_normal(*sums, 5);
  }
  /// Holds the same values as `other`, which may be of another type.
  void copy_from(const Outputs& other) const {
    c->copy_from(other.c->to(c->dtype()));
    pre->copy_from(other.pre->to(pre->dtype()));
    sums->copy_from(*other.sums);
  }
  bool intact() const { return c.intact() && pre.intact() && sums.intact(); }
};

enum class With { nothing, pre, pre_and_sums };

void run(void (*function)(const GemmArgs&), GemmArgs args, const Outputs& out, With with) {
  args.c = *out.c;
  if (with != With::nothing) args.pre_activation = *out.pre;
  if (with == With::pre_and_sums) args.column_sum = *out.sums;
  function(args);
}

/// c as it follows from a stored pre-activation, in double.
Tensor gelu_of(const Tensor& pre, Gelu kind) {
  const Tensor y = pre.to(DType::f32);
  for (float& x : y.span<float>()) x = static_cast<float>(gelu_value(x, kind));
  return y;
}

/// Compares all that gemm writes in type `result` to what the reference computes from the same
/// values and writes in f32.
void expect_reference(const GemmArgs& args, const Sizes& s, DType result,
                      With with = With::nothing) {
  SCOPED_TRACE(describe(args, result));
  const Outputs got(s, result, args.accumulate), expected(s, DType::f32, args.accumulate);
  expected.copy_from(got);
  run(gemm_reference, args, expected, with);
  run(gemm, args, got, with);
  // GELU is applied to p as it is stored, so c follows from the p that this call stored.
  const bool from_stored =
      args.epilogue == Epilogue::bias_gelu && with != With::nothing && result != DType::f32;
  const Tensor c = from_stored ? gelu_of(*got.pre, args.gelu) : *expected.c;
  EXPECT_TRUE(near_in("c", *got.c, c, Tolerance::reduction));
  EXPECT_TRUE(near_in("pre_activation", *got.pre, *expected.pre, Tolerance::reduction));
  EXPECT_TRUE(near("column_sum", *got.sums, *expected.sums, Tolerance::reduction));
  EXPECT_TRUE(got.intact());
}

struct Types {
  DType element, result;
};
constexpr Types kTypes[] = {{DType::f32, DType::f32},
                            {DType::bf16, DType::bf16},
                            {DType::bf16, DType::f32},
                            {DType::f16, DType::f16}};

TEST_P(Gemm, ProductsOfAllTransposesMatchReference) {
  for (const Sizes& s : kSizes) {
    for (int transposes = 0; transposes < 4; ++transposes) {
      for (const auto& [element, result] : kTypes) {
        Product p(s, transposes & 1, transposes & 2, element);
        expect_reference(p.args, s, result);
        p.args.accumulate = true;
        p.args.bias = p.bias;
        expect_reference(p.args, s, result);
        if (element != DType::f32) continue;  // nothing more that a type could change
        p.args.accumulate = false;
        expect_reference(p.args, s, result);
        p.args.accumulate = true;
        p.args.bias = Operand();
        expect_reference(p.args, s, result);
      }
    }
  }
}

TEST_P(Gemm, BiasGeluMatchesReference) {
  for (const Sizes& s : kSizes) {
    for (const auto& [element, result] : kTypes) {
      Product p(s, false, true, element);
      p.args.epilogue = Epilogue::bias_gelu;
      for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
        p.args.gelu = kind;
        p.args.bias = Operand();
        if (element == DType::f32) expect_reference(p.args, s, result, With::pre);
        p.args.bias = p.bias;
        expect_reference(p.args, s, result, With::pre);
      }
    }
  }
}

TEST_P(Gemm, SavingThePreActivationDoesNotChangeTheResult) {
  for (const Sizes& s : {Sizes{13, 33, 97}, Sizes{5, 7, 769}, Sizes{97, 257, 31}}) {
    for (const auto& [element, result] : kTypes) {
      Product p(s, false, true, element);
      p.args.epilogue = Epilogue::bias_gelu;
      p.args.bias = p.bias;
      const Outputs saved(s, result, false), unsaved(s, result, false);
      run(gemm, p.args, saved, With::pre);
      run(gemm, p.args, unsaved, With::nothing);
      EXPECT_TRUE(same_bits(*saved.c, *unsaved.c)) << describe(p.args, result);
      EXPECT_TRUE(unsaved.intact());
    }
  }
}

TEST_P(Gemm, DgeluAndColumnSumMatchReference) {
  for (const Sizes& s : kSizes) {
    for (const auto& [element, result] : kTypes) {
      Product p(s, false, false, element);
      p.args.epilogue = Epilogue::dgelu;
      for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
        p.args.gelu = kind;
        p.args.accumulate_column_sum = false;
        if (element == DType::f32) expect_reference(p.args, s, result, With::pre);
        expect_reference(p.args, s, result, With::pre_and_sums);
        p.args.accumulate_column_sum = true;
        expect_reference(p.args, s, result, With::pre_and_sums);
      }
    }
  }
}

TEST_P(Gemm, BiasDropoutAndResidualMatchReference) {
  for (const Sizes& s : kSizes) {
    std::vector<int32_t> places, samples;
    for (int32_t m = 0; m < s.M; ++m) {
      places.push_back(m % 11);
      samples.push_back(90 - m / 11);
    }
    const Tensor position = integers(places), row_sample = integers(samples);
    for (DType type : {DType::f32, DType::bf16, DType::f16}) {
      Product p(s, false, true, type);
      const Tensor residual = random_tensor({s.M, s.N}, 7, 1.0f, type);
      p.args.epilogue = Epilogue::residual;
      p.args.residual = residual;
      p.args.position = position;
      p.args.row_sample = row_sample;
      for (const float rate : {0.0f, 0.3f}) {
        SCOPED_TRACE(fmt::format("{} dropout {}", describe(p.args, type), rate));
        p.args.dropout = make_dropout(rate, 9, nullptr, 2, DropoutPurpose::attention_output);
        p.args.bias = rate > 0 ? Operand(p.bias) : Operand();
        const Outputs got(s, type, false), expected(s, type, false);
        run(gemm_reference, p.args, expected, With::nothing);
        run(gemm, p.args, got, With::nothing);
        // Both are rounded once, so they differ by one rounding at most.
        const double rounding = type == DType::f32 ? 0 : type == DType::bf16 ? 0x1p-8 : 0x1p-11;
        EXPECT_TRUE(near("c", got.c->to(DType::f32), expected.c->to(DType::f32),
                         Tolerance::reduction + rounding));
        EXPECT_TRUE(got.intact());
      }
    }
  }
}

TEST_P(Gemm, RowSumsAreColumnSumsOfA) {
  for (const Sizes& s : kSizes) {
    for (DType type : {DType::f32, DType::bf16}) {
      for (bool accumulate : {false, true}) {
        Product p(s, true, false, type);
        const Outputs out(s, DType::f32, false);
        const Guarded got({s.M}), expected({s.M});
        fill_normal(*got, 5);
        expected->copy_from(*got);
        p.args.row_sum = *expected;
        p.args.accumulate_row_sum = accumulate;
        run(gemm_reference, p.args, out, With::nothing);
        p.args.row_sum = *got;
        run(gemm, p.args, out, With::nothing);
        EXPECT_TRUE(near(describe(p.args, DType::f32), *got, *expected, Tolerance::reduction));
        EXPECT_TRUE(got.intact());
      }
    }
  }
}

TEST_P(Gemm, ThreadsDoNotChangeBits) {
  for (const Sizes& s : {Sizes{101, 515, 769}, Sizes{250, 70, 33}, Sizes{7, 3100, 11}}) {
    for (const auto& [element, result] : kTypes) {
      Product p(s, false, true, element);
      const Tensor c = Tensor::empty({s.M, s.N}, result), sums = Tensor::empty({s.N});
      const Tensor pre = random_tensor({s.M, s.N}, 7, 1.0f, result);
      p.args.c = c;
      p.args.bias = p.bias;
      EXPECT_TRUE(threads_do_not_matter(c, [&] { gemm(p.args); }));
      p.args.epilogue = Epilogue::dgelu;
      p.args.bias = Operand();
      p.args.pre_activation = pre;
      p.args.column_sum = sums;
      EXPECT_TRUE(threads_do_not_matter(sums, [&] { gemm(p.args); }));
    }
  }
}

TEST_P(Gemm, BitsOfARowDoNotDependOnTheOtherRowsInOurOwn) {
  gemm_use(GemmBackend::builtin);
  const Sizes s{131, 67, 1000};
  for (const auto& [element, result] : kTypes) {
    const Product p(s, false, true, element);
    const Tensor all = Tensor::empty({s.M, s.N}, result), one = Tensor::empty({1, s.N}, result);
    GemmArgs args = p.args;
    args.c = all;
    gemm(args);
    for (int64_t first : {0, 5, 96, 130}) {
      args.a = p.a.rows(first, 1);
      args.c = one;
      gemm(args);
      EXPECT_TRUE(same_bits(one, all.rows(first, 1))) << "row " << first;
    }
  }
}

TEST_P(Gemm, NaNAndInfinityReachTheirRowAndNoOther) {
  const Sizes s{15, 37, 770};
  for (const auto& [element, result] : kTypes) {
    for (float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
      Product p(s, false, true);
      p.a.data<float>()[7 * s.K + 769] = bad;
      const Tensor a = p.a.to(element), b = p.b.to(element);
      const Tensor c = Tensor::empty({s.M, s.N}, result);
      p.args.a = a;
      p.args.b = b;
      p.args.c = c;
      gemm(p.args);
      const std::vector<float> values = floats_of(c);
      for (int64_t i = 0; i < s.M * s.N; ++i)
        ASSERT_EQ(std::isfinite(values[static_cast<size_t>(i)]), i / s.N != 7) << i;
    }
  }
}

TEST_P(Gemm, AnOverflowOfF16IsAnInfinity) {
  const Tensor a = Tensor::zeros({3, 64}), y = Tensor::empty({3, 1}, DType::f16);
  for (float& x : a.rows(1, 1).span<float>()) x = 1000;
  const Tensor half = a.to(DType::f16);
  GemmArgs args;
  args.a = half;
  args.b = half.rows(1, 1);  // the middle element is 64 x 1000 x 1000
  args.transpose_b = true;
  args.c = y;
  gemm(args);
  EXPECT_EQ(floats_of(y), (std::vector<float>{0, std::numeric_limits<float>::infinity(), 0}));
}

// ---- oneDNN's matmul primitive, in types that this CPU multiplies ------------------------------
Tensor by_primitive(const Product& p, const Sizes& s, bool accumulate, bool into_c) {
  const Tensor c = accumulate ? random_tensor({s.M, s.N}, 3) : Tensor::empty({s.M, s.N});
  GemmProblem problem{s.M,
                      s.N,
                      s.K,
                      p.a.dtype(),
                      p.a.raw(),
                      p.b.raw(),
                      p.args.transpose_a,
                      p.args.transpose_b,
                      into_c ? c.data<float>() : nullptr,
                      accumulate,
                      {}};
  if (!into_c) {
    problem.finish = [&](const GemmPart& part) {
      for (int64_t i = 0; i < part.rows; ++i) {
        std::copy_n(part.product + i * part.stride, part.columns,
                    c.data<float>() + (part.row + i) * s.N + part.column);
      }
    };
  }
  EXPECT_TRUE(gemm_onednn_primitive(problem));
  return c;
}

TEST(GemmPrimitive, MatchesReferenceWithAnyNumberOfThreads) {
  if (!gemm_onednn_available()) GTEST_SKIP() << "this build has no oneDNN";
  const int threads = num_threads();
  for (DType type : {DType::f32, DType::bf16}) {
    if (!gemm_onednn_multiplies(type)) continue;
    for (const Sizes& s : {Sizes{1, 1, 1}, Sizes{7, 13, 17}, Sizes{257, 70, 33},
                           Sizes{300, 1100, 65}, Sizes{70, 1025, 130}}) {
      for (int transposes = 0; transposes < 4; ++transposes) {
        Product p(s, transposes & 1, transposes & 2, type);
        SCOPED_TRACE(describe(p.args, DType::f32));
        for (bool accumulate : {false, true}) {
          p.args.accumulate = accumulate;
          const Tensor expected =
              accumulate ? random_tensor({s.M, s.N}, 3) : Tensor::empty({s.M, s.N});
          p.args.c = expected;
          gemm_reference(p.args);
          set_num_threads(1);
          const Tensor one = by_primitive(p, s, accumulate, /* into_c= */ true);
          set_num_threads(2);
          const Tensor two = by_primitive(p, s, accumulate, /* into_c= */ true);
          EXPECT_TRUE(near("c", one, expected, Tolerance::reduction));
          EXPECT_TRUE(same_bits(one, two));
          if (accumulate) continue;
          const Tensor parts = by_primitive(p, s, accumulate, /* into_c= */ false);
          EXPECT_TRUE(near("parts", parts, expected, Tolerance::reduction));
        }
      }
    }
  }
  set_num_threads(threads);
}

TEST(GemmErrors, NameBothShapes) {
  const Tensor a = Tensor::zeros({3, 4}), b = Tensor::zeros({5, 6}), c = Tensor::zeros({3, 6});
  const Tensor right_b = Tensor::zeros({4, 6});
  GemmArgs args;
  args.a = a;
  args.b = b;
  args.c = c;
  try {
    gemm(args);
    FAIL() << "inner dimensions 4 and 5 were taken";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("[5, 6]"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("[3, 4]"), std::string::npos) << error.what();
  }
  args.b = right_b;
  EXPECT_NO_THROW(gemm(args));
  const auto rejects = [&](Operand GemmArgs::*which, const Tensor& tensor, auto change) {
    GemmArgs bad = args;
    bad.*which = tensor.defined() ? Operand(tensor) : Operand();
    change(bad);
    EXPECT_THROW(gemm(bad), UsageError);
  };
  const auto unchanged = [](GemmArgs&) {};
  const auto dgelu = [](GemmArgs& g) { g.epilogue = Epilogue::dgelu; };
  rejects(&GemmArgs::c, Tensor::zeros({6, 3}), unchanged);
  rejects(&GemmArgs::c, Tensor::zeros({3, 6}, DType::bf16), unchanged);
  rejects(&GemmArgs::a, Tensor::zeros({12}), unchanged);
  rejects(&GemmArgs::a, Tensor(), unchanged);
  rejects(&GemmArgs::a, Tensor::zeros({3, 4}, DType::i32), unchanged);
  rejects(&GemmArgs::b, Tensor::zeros({4, 6}, DType::bf16), unchanged);
  rejects(&GemmArgs::bias, Tensor::zeros({3}), unchanged);
  rejects(&GemmArgs::bias, Tensor::zeros({6}, DType::bf16), unchanged);
  rejects(&GemmArgs::pre_activation, Tensor(), dgelu);
  rejects(&GemmArgs::pre_activation, Tensor::zeros({6}), unchanged);
  rejects(&GemmArgs::pre_activation, Tensor::zeros({3, 6}, DType::f16), dgelu);
  rejects(&GemmArgs::c, c, [](GemmArgs& g) {
    g.epilogue = Epilogue::bias_gelu;
    g.accumulate = true;
  });
  rejects(&GemmArgs::row_sum, Tensor::zeros({3}), unchanged);  // a is not transposed
  rejects(&GemmArgs::residual, c, unchanged);
  const auto residual = [](GemmArgs& g) { g.epilogue = Epilogue::residual; };
  rejects(&GemmArgs::residual, Tensor(), residual);
  rejects(&GemmArgs::residual, Tensor::zeros({6, 3}), residual);
  rejects(&GemmArgs::residual, Tensor::zeros({3, 6}, DType::bf16), residual);
  rejects(&GemmArgs::position, Tensor(), [&](GemmArgs& g) {
    g.epilogue = Epilogue::residual;
    g.residual = c;
    g.dropout = make_dropout(0.5f, 1, nullptr, 0, DropoutPurpose::user);
  });
  rejects(&GemmArgs::column_sum, Tensor::zeros({3}), [](GemmArgs& g) {
    g.epilogue = Epilogue::dgelu;
    g.pre_activation = g.c;
  });
}

TEST(GemmImplementation, SaysWhichOneIsUsed) {
  const std::string ours = std::string("built-in (") + name_of(simd_level()) + ")";
  if (gemm_onednn_available()) {
    EXPECT_EQ(gemm_implementation().rfind("oneDNN ", 0), 0u) << gemm_implementation();
  }
  EXPECT_EQ(gemm_implementation(DType::f16), "converted to f32, " + ours);
  EXPECT_EQ(gemm_implementation(DType::bf16), gemm_onednn_multiplies(DType::bf16)
                                                  ? gemm_onednn_description()
                                                  : "converted to f32, " + ours);
  gemm_use(GemmBackend::builtin);
  EXPECT_EQ(gemm_implementation(), ours);
  EXPECT_EQ(gemm_implementation(DType::bf16), "converted to f32, " + ours);
  gemm_use(GemmBackend::fastest);
}

// Sizes at which the two implementations' bits differ, so that bits tell who multiplied.
TEST(GemmImplementation, FastestTakesOurOwnForTransposedAAndForRowsOfWholePages) {
  if (!gemm_onednn_available()) GTEST_SKIP() << "this build has no oneDNN to choose";
  const auto bits = [](GemmArgs args, const Sizes& s, GemmBackend backend) {
    gemm_use(backend);
    const Tensor c = Tensor::empty({s.M, s.N});
    args.c = c;
    gemm(args);
    gemm_use(GemmBackend::fastest);
    return c;
  };
  struct Case {
    Sizes sizes;
    bool transpose_a, transpose_b, ours;
  };
  for (const Case& c :
       {Case{{300, 500, 900}, false, true, false}, Case{{300, 500, 900}, false, false, false},
        Case{{300, 500, 900}, true, false, true}, Case{{300, 500, 2048}, false, true, true},
        Case{{300, 1024, 900}, false, false, true}, Case{{300, 1024, 900}, false, true, false}}) {
    const Product p(c.sizes, c.transpose_a, c.transpose_b);
    const Tensor ours = bits(p.args, c.sizes, GemmBackend::builtin);
    const Tensor theirs = bits(p.args, c.sizes, GemmBackend::onednn);
    const Tensor chosen = bits(p.args, c.sizes, GemmBackend::fastest);
    ASSERT_FALSE(same_bits(ours, theirs)) << "these sizes can't tell";
    EXPECT_TRUE(same_bits(chosen, c.ours ? ours : theirs))
        << c.sizes.M << " " << c.sizes.N << " " << c.sizes.K << " " << c.transpose_a
        << c.transpose_b;
  }
}

INSTANTIATE_TEST_SUITE_P(Implementations, Gemm, ::testing::ValuesIn(implementations()),
                         [](const auto& info) -> std::string {
                           return info.param ? std::string("builtin_") + name_of(*info.param)
                                             : "default";
                         });

}  // namespace
}  // namespace minibert::testing
