// gemm_cuda_test.cpp: GEMM on device cuda against the double reference: every rung, tile and split, in
// f32, tf32, bf16 and f16, all forms and epilogues, and the choice between our kernels and cuBLASLt.
// Sizes lie on, below and above fragments (8, 16), chunks of 16 bytes, rounds (16, 32) and tiles (64,
// 128). The schedules of the engine (tools/simt) must not change a bit.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "core/kernels/gelu.h"
#include "core/kernels/gemm_cuda_table.h"
#include "core/kernels/reduce.h"
#include "core/random.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

using Epilogue = GemmArgs::Epilogue;
using Tile = GemmTileSize;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

class GemmCuda : public CudaTest {
 protected:
  void TearDown() override {
    if (cuda_available()) gemm_cuda_use(GemmCudaBackend::fastest);
  }
};

struct Sizes {
  int64_t M, N, K;
};
const Sizes kSizes[] = {{0, 5, 3},    {5, 0, 3},     {5, 3, 0},     {1, 1, 1},      {7, 7, 7},
                        {16, 8, 16},  {33, 24, 40},  {63, 65, 31},  {64, 64, 32},   {65, 63, 33},
                        {72, 80, 96}, {128, 64, 64}, {129, 7, 100}, {127, 136, 65}, {8, 200, 136}};

struct Types {
  DType element, result;
  bool tf32;
};
constexpr Types kTypes[] = {{DType::f32, DType::f32, false},   {DType::f32, DType::f32, true},
                            {DType::bf16, DType::bf16, false}, {DType::bf16, DType::f32, false},
                            {DType::f16, DType::f16, false},   {DType::f16, DType::f32, false}};

/// A way to run a call on the device.
struct Way {
  std::string name;
  std::function<void(const GemmArgs&)> run;
};
Way planned(Tile tile, int splits) {
  return {fmt::format("{} tiles, {} splits", tile == Tile::large ? "large" : "small", splits),
          [=](const GemmArgs& args) {
            gemm_cuda_planned(args, {}, {tile, splits});
          }};
}
Way rung(GemmRung which, const char* name) {
  return {name, [=](const GemmArgs& args) { gemm_cuda_rung(args, {}, which); }};
}
const Way kPublic{"gemm", [](const GemmArgs& args) { gemm(args); }};
std::vector<Way> production() {
  return {planned(Tile::small, 1), planned(Tile::large, 1), planned(Tile::small, 3),
          planned(Tile::large, 2)};
}

/// Rounded to 10 bits of mantissa, ties away from zero, as tensor cores take f32.
float tf32(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return std::isfinite(x) ? std::bit_cast<float>((bits + 0x1000u) & ~0x1FFFu) : x;
}
Tensor tf32(const Tensor& x) {
  const Tensor y = x.clone();
  for (float& value : y.span<float>()) value = tf32(value);
  return y;
}

/// A product's tensors on the host.
struct Product {
  Sizes s;
  bool transpose_a, transpose_b;
  Types types;
  Tensor a, b, bias, before, pre, sums, residual, row_sums;
  std::vector<int32_t> position, row_sample;  // of c's rows

  Product(const Sizes& s, int form, const Types& types)
      : s(s),
        transpose_a(form & 1),
        transpose_b(form & 2),
        types(types),
        a(random_tensor(transpose_a ? Shape{s.K, s.M} : Shape{s.M, s.K}, 1, 1.0f, types.element)),
        b(random_tensor(transpose_b ? Shape{s.N, s.K} : Shape{s.K, s.N}, 2, 1.0f, types.element)),
        bias(random_tensor({s.N}, 6, 1.0f, types.element)),
        before(random_tensor({s.M, s.N}, 3, 1.0f, types.result)),
        pre(random_tensor({s.M, s.N}, 4, 1.0f, types.result)),
        sums(random_tensor({s.N}, 5)),
        residual(random_tensor({s.M, s.N}, 7, 1.0f, types.element)),
        row_sums(random_tensor({s.M}, 8)) {
    for (int32_t m = 0; m < s.M; ++m) {
      position.push_back(m % 11);
      row_sample.push_back(90 - m / 11);
    }
  }

  std::string describe() const {
    return fmt::format("{}{} {}x{}x{} {}{} to {}", name_of(types.element),
                       types.tf32 ? " as tf32" : "", s.M, s.N, s.K, transpose_a ? "t" : "n",
                       transpose_b ? "t" : "n", name_of(types.result));
  }
};

/// What a call does with the product, beside multiplying.
struct Options {
  Epilogue epilogue = Epilogue::none;
  Gelu gelu = Gelu::erf;
  bool bias = false, accumulate = false, pre = false, sums = false, accumulate_sums = false;
  float dropout = 0;
  bool row_sums = false, accumulate_row_sums = false;
};

struct Results {
  Tensor c, pre, sums, row_sums;
};

GemmArgs arguments(const Product& p, const Options& o) {
  GemmArgs args;
  args.transpose_a = p.transpose_a, args.transpose_b = p.transpose_b;
  args.tf32 = p.types.tf32;
  args.accumulate = o.accumulate;
  args.epilogue = o.epilogue;
  args.gelu = o.gelu;
  args.accumulate_column_sum = o.accumulate_sums;
  args.accumulate_row_sum = o.accumulate_row_sums;
  args.dropout = make_dropout(o.dropout, 9, nullptr, 2, DropoutPurpose::attention_output);
  return args;
}

/// What exact arithmetic gives, in f32, from operands as the tensor cores take them.
Results expected_of(const Product& p, const Options& o) {
  Results r{p.before.to(DType::f32), p.pre.to(DType::f32), p.sums.clone(), p.row_sums.clone()};
  const Tensor a = p.types.tf32 ? tf32(p.a) : p.a, b = p.types.tf32 ? tf32(p.b) : p.b;
  GemmArgs args = arguments(p, o);
  args.a = a, args.b = b, args.c = r.c;
  if (o.bias) args.bias = p.bias;
  if (o.pre) args.pre_activation = r.pre;
  if (o.sums) args.column_sum = r.sums;
  if (o.row_sums) args.row_sum = r.row_sums;
  const Tensor position = integers(p.position), row_sample = integers(p.row_sample);
  args.position = position, args.row_sample = row_sample;
  // The reference stores c in the residual's type: f32, so that nothing is rounded.
  const Tensor a32 = a.to(DType::f32), b32 = b.to(DType::f32), bias32 = p.bias.to(DType::f32),
               residual32 = p.residual.to(DType::f32);
  if (o.epilogue == Epilogue::residual) {
    args.a = a32, args.b = b32, args.residual = residual32;
    if (o.bias) args.bias = bias32;
  }
  gemm_reference(args);
  if (!o.row_sums || !p.types.tf32) return r;
  const Tensor exact = p.row_sums.clone();  // a sum is no product: its terms are not rounded
  column_sum_reference({p.a, exact, o.accumulate_row_sums});
  r.row_sums = exact;
  return r;
}

/// Operands and results on the device, results between guards. Unless it is added to, c is stale NaN.
class OnDevice {
 public:
  OnDevice(const Product& p, const Options& o, bool misaligned)
      : a_(p.a.shape(), p.a.dtype(), misaligned),
        b_(p.b.shape(), p.b.dtype(), misaligned),
        bias_(p.bias.shape(), p.bias.dtype(), misaligned),
        c_(p.before.shape(), p.types.result, misaligned),
        pre_(p.pre.shape(), p.types.result, misaligned),
        sums_(p.sums.shape()),
        residual_(p.residual.shape(), p.types.element, misaligned),
        row_sums_(p.row_sums.shape()),
        position_(on_cuda(integers(p.position))),
        row_sample_(on_cuda(integers(p.row_sample))),
        args(arguments(p, o)) {
    copy_to_device(p.a.raw(), *a_);
    copy_to_device(p.b.raw(), *b_);
    copy_to_device(p.bias.raw(), *bias_);
    const Tensor stale = Tensor::empty(p.before.shape());
    for (float& x : stale.span<float>()) x = kNaN;
    const Tensor c = o.accumulate ? p.before : stale.to(p.types.result);
    copy_to_device(c.raw(), *c_);
    const bool reads_pre = o.epilogue == Epilogue::dgelu;
    copy_to_device((reads_pre ? p.pre : stale.to(p.types.result)).raw(), *pre_);
    copy_to_device(p.sums.raw(), *sums_);
    copy_to_device(p.residual.raw(), *residual_);
    copy_to_device(p.row_sums.raw(), *row_sums_);
    args.a = *a_, args.b = *b_, args.c = *c_;
    if (o.bias) args.bias = *bias_;
    if (o.pre) args.pre_activation = *pre_;
    if (o.sums) args.column_sum = *sums_;
    if (o.row_sums) args.row_sum = *row_sums_;
    if (o.epilogue == Epilogue::residual) args.residual = *residual_;
    if (o.dropout > 0) args.position = position_, args.row_sample = row_sample_;
  }
  Results results() const {
    return {on_cpu(*c_), on_cpu(*pre_), on_cpu(*sums_), on_cpu(*row_sums_)};
  }
  std::vector<Tensor> tensors() const { return {*c_, *pre_, *sums_, *row_sums_}; }
  bool intact() const {
    return a_.intact() && b_.intact() && c_.intact() && pre_.intact() && sums_.intact() &&
           row_sums_.intact();
  }

 private:
  GuardedCuda a_, b_, bias_, c_, pre_, sums_, residual_, row_sums_;
  Tensor position_, row_sample_;

 public:
  GemmArgs args;
};

/// c as it follows from a stored pre-activation, in double.
Tensor gelu_of(const Tensor& pre, Gelu kind) {
  const Tensor y = pre.to(DType::f32);
  for (float& x : y.span<float>()) x = static_cast<float>(gelu_value(x, kind));
  return y;
}

/// more: what a library may lose on the way, as a share of the largest of c.
void expect_reference(const Product& p, const Options& o, const std::vector<Way>& ways,
                      bool misaligned = false, double more = 0) {
  const Results expected = expected_of(p, o);
  for (const Way& way : ways) {
    SCOPED_TRACE(p.describe() + ", " + way.name);
    const OnDevice device(p, o, misaligned);
    way.run(device.args);
    const Results got = device.results();
    // GELU is applied to p as it is stored, so c follows from the p that this call stored.
    const bool from_stored = o.epilogue == Epilogue::bias_gelu && o.pre;
    const Tensor c = from_stored ? gelu_of(got.pre, o.gelu) : expected.c;
    EXPECT_TRUE(near_in("c", got.c, c, Tolerance::reduction + more));
    EXPECT_TRUE(near("row_sum", got.row_sums, expected.row_sums, Tolerance::reduction));
    if (o.pre) {
      EXPECT_TRUE(near_in("pre_activation", got.pre, expected.pre, Tolerance::reduction));
    }
    EXPECT_TRUE(near("column_sum", got.sums, expected.sums, Tolerance::reduction));
    EXPECT_TRUE(device.intact());
  }
}

TEST_F(GemmCuda, ProductsOfAllFormsMatchReference) {
  for (const Sizes& s : kSizes) {
    for (int form = 0; form < 4; ++form) {
      for (const Types& types : kTypes) {
        const Product p(s, form, types);
        expect_reference(p, {}, production());
        expect_reference(p, {.bias = true, .accumulate = true}, production());
      }
    }
  }
}

TEST_F(GemmCuda, RungsMatchReference) {
  const std::vector<Way> rungs = {rung(GemmRung::naive, "naive"), rung(GemmRung::tiled, "tiled"),
                                  rung(GemmRung::tensor_core, "tensor core")};
  for (const Sizes& s : {Sizes{0, 5, 3}, Sizes{5, 3, 0}, Sizes{1, 1, 1}, Sizes{7, 9, 17},
                         Sizes{31, 33, 32}, Sizes{65, 63, 40}, Sizes{64, 72, 96}}) {
    for (int form = 0; form < 4; ++form) {
      for (const Types& types : kTypes) {
        Product p(s, form, types);
        for (const Way& way : rungs) {
          p.types.tf32 = types.tf32 && way.name == "tensor core";  // the others are exact
          expect_reference(p, {.bias = true}, {way});
        }
        p.types.tf32 = false;
        if (types.tf32) continue;
        const Options dgelu{.epilogue = Epilogue::dgelu, .pre = true, .sums = true};
        expect_reference(p, dgelu, rungs);
        if (form == 1) expect_reference(p, {.row_sums = true}, rungs);
        if (types.element == types.result)
          expect_reference(p, {.epilogue = Epilogue::residual, .bias = true, .dropout = 0.2f},
                           rungs);
      }
    }
  }
}

TEST_F(GemmCuda, EachRungLaunchesItsKernel) {
  const Product p({65, 40, 32}, 2, kTypes[2]);
  const OnDevice device(p, {}, false);
  expect_rungs({"gemm_naive_kernel<", "gemm_tiled_kernel<", "gemm_tensor_core_kernel<"},
               [&](int rung) { gemm_cuda_rung(device.args, {}, static_cast<GemmRung>(rung - 1)); });
}

TEST_F(GemmCuda, BiasGeluMatchesReference) {
  for (const Sizes& s : kSizes) {
    for (const Types& types : kTypes) {
      const Product p(s, /* form= */ 2, types);
      for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
        Options o{.epilogue = Epilogue::bias_gelu, .gelu = kind, .bias = true, .pre = true};
        expect_reference(p, o, production());
        o.bias = false;
        expect_reference(p, o, {planned(Tile::small, 2)});
      }
    }
  }
}

TEST_F(GemmCuda, DgeluAndColumnSumsMatchReference) {
  for (const Sizes& s : kSizes) {
    for (const Types& types : kTypes) {
      const Product p(s, /* form= */ 0, types);
      for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
        Options o{.epilogue = Epilogue::dgelu, .gelu = kind, .pre = true, .sums = true};
        expect_reference(p, o, production());
        o.accumulate_sums = true;
        expect_reference(p, o, {planned(Tile::large, 1), planned(Tile::small, 2)});
        o.sums = false;
        expect_reference(p, o, {planned(Tile::small, 1)});
      }
    }
  }
}

TEST_F(GemmCuda, BiasDropoutAndResidualMatchReference) {
  for (const Sizes& s : kSizes) {
    for (const Types& types : kTypes) {
      if (types.element != types.result) continue;
      const Product p(s, /* form= */ 2, types);
      Options o{.epilogue = Epilogue::residual, .bias = true, .dropout = 0.3f};
      expect_reference(p, o, production());
      o.bias = false;
      expect_reference(p, o, {planned(Tile::small, 1)});
      o.dropout = 0;
      expect_reference(p, o, {planned(Tile::large, 1), planned(Tile::small, 2)});
    }
  }
}

TEST_F(GemmCuda, WhatIsDroppedMayBeInfinite) {
  for (const Types& types : {kTypes[0], kTypes[2]}) {
    Product p({8, 64, 40}, 2, types);
    const Tensor bias = Tensor::empty({64});
    for (float& x : bias.span<float>()) x = std::numeric_limits<float>::infinity();
    p.bias = bias.to(types.element);
    const OnDevice device(p, {.epilogue = Epilogue::residual, .bias = true, .dropout = 0.5f},
                          false);
    gemm(device.args);
    const std::vector<float> c = floats_of(device.results().c), residual = floats_of(p.residual);
    int64_t dropped = 0;
    for (size_t i = 0; i < c.size(); ++i) {
      if (std::isinf(c[i])) continue;
      ++dropped;
      EXPECT_EQ(c[i], residual[i]);
    }
    EXPECT_NEAR(static_cast<double>(dropped), 256, 64);
  }
}

TEST_F(GemmCuda, RowSumsMatchReference) {
  for (const Sizes& s : kSizes) {
    for (const Types& types : kTypes) {
      const Product p(s, /* form= */ 1, types);
      Options o{.row_sums = true};
      expect_reference(p, o, production());
      o.accumulate = o.accumulate_row_sums = true;
      expect_reference(p, o, {planned(Tile::large, 1), planned(Tile::small, 2)});
      expect_reference({s, /* form= */ 3, types}, o, {planned(Tile::small, 2)});
    }
  }
}

TEST_F(GemmCuda, RowsThatAreNotAlignedMatchReference) {
  for (const Sizes& s : {Sizes{1, 1, 1}, Sizes{64, 64, 64}, Sizes{65, 72, 40}}) {
    for (int form = 0; form < 4; ++form) {
      for (const Types& types : kTypes) {
        const Product p(s, form, types);
        expect_reference(p, {.bias = true, .accumulate = true}, production(), true);
        expect_reference(p, {.epilogue = Epilogue::bias_gelu, .bias = true, .pre = true},
                         production(), true);
        expect_reference(p, {.epilogue = Epilogue::dgelu, .pre = true, .sums = true}, production(),
                         true);
        if (form == 1) expect_reference(p, {.row_sums = true}, production(), true);
        if (types.element == types.result)
          expect_reference(p, {.epilogue = Epilogue::residual, .bias = true, .dropout = 0.3f},
                           production(), true);
      }
    }
  }
}

// A layer of a small BERT: 70 tokens, hidden size 64, feed-forward size 256, 3 x 64 for q, k and v.
TEST_F(GemmCuda, ProductsOfASmallBertMatchReference) {
  constexpr int64_t T = 70, H = 64, F = 256;
  const std::vector<Way> ways = {kPublic};
  for (const Types& types : kTypes) {
    const bool gradient = types.result == DType::f32;  // of a weight: f32 in every type
    if (!gradient || types.element == DType::f32) {
      expect_reference({{T, 3 * H, H}, 2, types}, {.bias = true}, ways);
      expect_reference({{T, H, F}, 2, types},
                       {.epilogue = Epilogue::residual, .bias = true, .dropout = 0.1f}, ways);
      for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
        expect_reference({{T, F, H}, 2, types},
                         {.epilogue = Epilogue::bias_gelu, .gelu = kind, .bias = true, .pre = true},
                         ways);
        expect_reference({{T, F, H}, 0, types},
                         {.epilogue = Epilogue::dgelu, .gelu = kind, .pre = true, .sums = true},
                         ways);
      }
      expect_reference({{T, H, 3 * H}, 0, types}, {.accumulate = true}, ways);
    }
    if (gradient) {
      expect_reference({{H, F, T}, 1, types}, {}, ways);
      expect_reference({{3 * H, H, T}, 1, types}, {.accumulate = true, .row_sums = true}, ways);
    }
  }
}

TEST_F(GemmCuda, SchedulesDoNotChangeBits) {
  struct Case {
    Sizes sizes;
    int form;
    Options options;
    Way way;
  };
  const Options dgelu{.epilogue = Epilogue::dgelu, .pre = true, .sums = true};
  const Options row_sums{.row_sums = true};
  const Options residual{.epilogue = Epilogue::residual, .bias = true, .dropout = 0.1f};
  const Options gelu{.epilogue = Epilogue::bias_gelu, .bias = true, .pre = true};
  const Case cases[] = {{{70, 72, 200}, 2, gelu, planned(Tile::small, 1)},
                        {{70, 136, 168}, 0, dgelu, planned(Tile::large, 1)},
                        {{72, 64, 300}, 1, {.accumulate = true}, planned(Tile::small, 3)},
                        {{65, 66, 67}, 1, row_sums, planned(Tile::large, 2)},
                        {{72, 64, 300}, 1, row_sums, planned(Tile::small, 3)},
                        {{70, 72, 200}, 2, residual, planned(Tile::large, 1)},
                        {{40, 24, 40}, 3, dgelu, planned(Tile::small, 2)}};
  for (const Case& c : cases) {
    for (const Types& types : kTypes) {
      if (c.options.epilogue == Epilogue::residual && types.element != types.result) continue;
      const Product p(c.sizes, c.form, types);
      SCOPED_TRACE(p.describe() + ", " + c.way.name);
      const Results expected = expected_of(p, c.options);
      const std::vector<Tensor> got = same_bits_in_every_schedule([&] {
        const OnDevice device(p, c.options, false);
        c.way.run(device.args);
        return device.tensors();
      });
      EXPECT_TRUE(near("column_sum", got[2], expected.sums, Tolerance::reduction));
      EXPECT_TRUE(near("row_sum", got[3], expected.row_sums, Tolerance::reduction));
    }
  }
  for (GemmRung which : {GemmRung::naive, GemmRung::tiled, GemmRung::tensor_core}) {
    const Product p({65, 33, 70}, 2, kTypes[2]);
    same_bits_in_every_schedule([&] {
      const OnDevice device(p, gelu, false);
      gemm_cuda_rung(device.args, {}, which);
      return device.tensors();
    });
  }
}

TEST_F(GemmCuda, SavingThePreActivationDoesNotChangeTheResult) {
  for (const Types& types : kTypes) {
    const Product p({65, 72, 40}, 2, types);
    for (const Way& way : production()) {
      Options o{.epilogue = Epilogue::bias_gelu, .bias = true, .pre = true};
      const OnDevice saved(p, o, false);
      o.pre = false;
      const OnDevice unsaved(p, o, false);
      way.run(saved.args);
      way.run(unsaved.args);
      EXPECT_TRUE(same_bits(saved.results().c, unsaved.results().c))
          << p.describe() << ", " << way.name;
    }
  }
}

TEST_F(GemmCuda, CMayTakeThePlaceOfThePreActivation) {
  for (const Types& types : kTypes) {
    const Product p({130, 72, 40}, 0, types);
    const Options o{.epilogue = Epilogue::dgelu, .pre = true, .sums = true};
    for (const Way& way : production()) {
      const OnDevice apart(p, o, false), together(p, o, false);
      way.run(apart.args);
      GemmArgs args = together.args;
      args.c = args.pre_activation;
      way.run(args);
      EXPECT_TRUE(same_bits(apart.results().c, together.results().pre)) << way.name;
      EXPECT_TRUE(same_bits(apart.results().sums, together.results().sums)) << way.name;
    }
  }
}

TEST_F(GemmCuda, BitsOfARowDoNotDependOnTheOtherRows) {
  constexpr int64_t kM = 131, kN = 72, kK = 104;
  for (const Types& types : kTypes) {
    const Product p({kM, kN, kK}, 2, types);
    for (const Way& way : production()) {
      const OnDevice all(p, {}, false);
      way.run(all.args);
      const Tensor expected = all.results().c;
      for (int64_t row : {0, 63, 64, 130}) {
        Product one({1, kN, kK}, 2, types);
        one.a = p.a.rows(row, 1);
        const OnDevice alone(one, {}, false);
        way.run(alone.args);
        EXPECT_TRUE(same_bits(alone.results().c, expected.rows(row, 1)))
            << p.describe() << ", " << way.name << ", row " << row;
      }
    }
  }
}

TEST_F(GemmCuda, NaNAndInfinityReachTheirRowAndNoOther) {
  const Sizes s{67, 37, 71};
  for (const Types& types : kTypes) {
    for (float bad : {kNaN, std::numeric_limits<float>::infinity()}) {
      for (int64_t row : {7, 66}) {  // of the last row, tiles hold copies
        Product p(s, 2, types);
        const Tensor a = p.a.to(DType::f32);
        a.data<float>()[row * s.K + 70] = bad;
        p.a = a.to(types.element);
        for (const Way& way : production()) {
          const OnDevice device(p, {}, false);
          way.run(device.args);
          const std::vector<float> values = floats_of(device.results().c);
          for (int64_t i = 0; i < s.M * s.N; ++i)
            ASSERT_EQ(std::isfinite(values[static_cast<size_t>(i)]), i / s.N != row)
                << i << ", " << p.describe() << ", " << way.name;
        }
      }
    }
  }
}

TEST_F(GemmCuda, AnOverflowOfF16IsAnInfinity) {
  Product p({3, 1, 64}, 2, {DType::f16, DType::f16, false});
  const Tensor a = Tensor::zeros({3, 64});
  for (float& x : a.rows(1, 1).span<float>()) x = 1000;
  p.a = a.to(DType::f16);
  p.b = p.a.rows(1, 1);  // the middle element is 64 x 1000 x 1000
  const OnDevice device(p, {}, false);
  gemm(device.args);
  EXPECT_EQ(floats_of(device.results().c),
            (std::vector<float>{0, std::numeric_limits<float>::infinity(), 0}));
}

TEST_F(GemmCuda, F32IsExactUnlessTf32IsAllowed) {
  Product p({1, 1, 1}, 2, kTypes[0]);
  p.a.data<float>()[0] = 1 + 0x1p-12f;  // 12 bits of mantissa
  p.b.data<float>()[0] = 1 + 0x1p-10f;  // 10
  const auto product = [&](bool tf32, const Way& way) {
    p.types.tf32 = tf32;
    const OnDevice device(p, {}, false);
    way.run(device.args);
    return device.results().c.item();
  };
  for (const Way& way : {kPublic, planned(Tile::small, 1), planned(Tile::large, 1),
                         rung(GemmRung::tensor_core, "tensor core")}) {
    EXPECT_EQ(product(false, way), 1 + 0x1p-10f + 0x1p-12f + 0x1p-22f) << way.name;
    EXPECT_EQ(product(true, way), 1 + 0x1p-10f) << way.name;
  }
}

TEST_F(GemmCuda, Tf32IsNearTheExactProduct) {
  for (int form = 0; form < 4; ++form) {
    Product p({130, 72, 264}, form, kTypes[1]);
    const OnDevice device(p, {}, false);
    gemm(device.args);
    p.types.tf32 = false;
    EXPECT_TRUE(near("c", device.results().c, expected_of(p, {}).c, Tolerance::tf32));
  }
}

// ---- How K and c are divided --------------------------------------------------------------------
// ---- Our own or cuBLASLt ------------------------------------------------------------------------
TEST_F(GemmCuda, CublasLtMatchesReference) {
  gemm_cuda_use(GemmCudaBackend::cublaslt);
  for (const Sizes& s : {Sizes{0, 5, 3}, Sizes{5, 3, 0}, Sizes{1, 1, 1}, Sizes{7, 9, 17},
                         Sizes{64, 72, 96}, Sizes{129, 40, 64}}) {
    for (int form = 0; form < 4; ++form) {
      for (const Types& types : kTypes) {
        const Product p(s, form, types);
        expect_reference(p, {}, {kPublic});
        expect_reference(p, {.bias = true, .accumulate = true}, {kPublic});
        for (Gelu kind : {Gelu::erf, Gelu::tanh}) {
          for (bool more : {false, true}) {
            Options o{.epilogue = Epilogue::bias_gelu, .gelu = kind, .bias = true, .pre = true};
            o.bias = o.pre = more;
            expect_reference(p, o, {kPublic});
            expect_reference(p,
                             {.epilogue = Epilogue::dgelu,
                              .gelu = kind,
                              .pre = true,
                              .sums = true,
                              .accumulate_sums = more},
                             {kPublic});
          }
        }
        expect_reference(p, {.epilogue = Epilogue::dgelu, .pre = true}, {kPublic});
        if (form == 1)
          expect_reference(p, {.row_sums = true, .accumulate_row_sums = true}, {kPublic});
        if (types.element != types.result || s.M * s.N == 1) continue;
        // The library rounds its product to 16 bits. The largest of c is no smaller, except one.
        const double rounding = types.element == DType::f32    ? 0
                                : types.element == DType::bf16 ? 0x1p-8
                                                               : 0x1p-11;
        expect_reference(p, {.epilogue = Epilogue::residual, .bias = true, .dropout = 0.3f},
                         {kPublic}, false, rounding);
        expect_reference(p, {.epilogue = Epilogue::residual}, {kPublic}, false, rounding);
      }
    }
  }
}

TEST_F(GemmCuda, ChoicesCanBeSavedAndLoaded) {
  gemm_cuda_load_choices("");
  EXPECT_EQ(gemm_cuda_choices(), "");
  const Product p({64, 72, 96}, 2, kTypes[2]), q({64, 72, 96}, 0, kTypes[2]);
  const OnDevice device(p, {.bias = true}, false), other(q, {}, false);
  gemm(device.args);
  const std::string one = gemm_cuda_choices();
  EXPECT_EQ(std::count(one.begin(), one.end(), '\n'), 1) << one;
  EXPECT_NE(one.find("bf16 64x80x96 nt bias"), std::string::npos) << one;  // 72: up to 5/4 of 64
  EXPECT_EQ(one.find(" 0.0us"), std::string::npos) << "one of the two did not multiply: " << one;
  gemm(device.args);
  EXPECT_EQ(gemm_cuda_choices(), one) << "a form is timed once";
  const Product near({64, 70, 90}, 2, kTypes[2]);
  const OnDevice neighbour(near, {.bias = true}, false);
  gemm(neighbour.args);
  EXPECT_EQ(gemm_cuda_choices(), one) << "sizes of one class share a form";
  gemm(other.args);
  const std::string two = gemm_cuda_choices();
  EXPECT_EQ(std::count(two.begin(), two.end(), '\n'), 2) << two;
  gemm_cuda_load_choices(one);
  EXPECT_EQ(gemm_cuda_choices(), one);
  gemm_cuda_load_choices(two);
  EXPECT_EQ(gemm_cuda_choices(), two);
  EXPECT_THROW(gemm_cuda_load_choices("bf16 64x72x96 nt bias fastest\n"), DataError);
  EXPECT_EQ(gemm_cuda_choices(), two) << "a bad table changed the choices";
}

TEST_F(GemmCuda, SaysWhoMultiplies) {
  gemm_cuda_use(GemmCudaBackend::ours);
  EXPECT_EQ(gemm_cuda_implementation(), "built-in");
  gemm_cuda_use(GemmCudaBackend::cublaslt);
  const std::string library = gemm_cuda_implementation();
  EXPECT_EQ(library.rfind("cuBLASLt ", 0), 0u) << library;
  gemm_cuda_use(GemmCudaBackend::fastest);
  EXPECT_EQ(gemm_cuda_implementation(), "the faster of " + library);
}

TEST_F(GemmCuda, ALoadedChoiceDecidesWhoMultiplies) {
  const Product p({64, 72, 200}, 2, kTypes[0]);
  const auto bits_of = [&](const Way& way) {
    const OnDevice device(p, {}, false);
    way.run(device.args);
    return device.results().c;
  };
  const Tensor ours = bits_of(
      {"ours", [](const GemmArgs& args) { gemm_cuda_rung(args, {}, GemmRung::production); }});
  gemm_cuda_use(GemmCudaBackend::ours);
  EXPECT_TRUE(same_bits(bits_of(kPublic), ours));
  gemm_cuda_use(GemmCudaBackend::fastest);
  gemm_cuda_load_choices("");
  bits_of(kPublic);
  std::string table = gemm_cuda_choices();
  const size_t last = table.rfind(' ');
  gemm_cuda_load_choices(table.substr(0, last) + " ours\n");
  EXPECT_TRUE(same_bits(bits_of(kPublic), ours));
}

#ifdef MINIBERT_SIMT
// Where nothing may be timed, a form takes the choice of its nearest relation and is not entered.
TEST_F(GemmCuda, AFormThatMayNotBeTimedFollowsTheNearestOne) {
  const std::string table =
      "bf16 64x80x96 nt plain 3.0us 1.0us cublaslt:0\nbf16 640x80x96 nt plain 1.0us 3.0us ours\n";
  gemm_cuda_load_choices(table);
  EXPECT_EQ(gemm_cuda_choice_count().ours, 1);
  EXPECT_EQ(gemm_cuda_choice_count().cublaslt, 1);
  gemm_cuda_time_new_forms(false);
  const auto library_multiplies = [](const Sizes& sizes, const Options& options) {
    const Product p(sizes, 2, kTypes[2]);
    const OnDevice device(p, options, false);
    simt::clear_launches();
    gemm(device.args);
    bool found = false;
    for (const simt::LaunchRecord& record : simt::launches())
      found |= record.name == "cublasLtMatmul";
    return found;
  };
  EXPECT_TRUE(library_multiplies({64, 80, 96}, {})) << "known";
  EXPECT_TRUE(library_multiplies({100, 80, 96}, {}));
  EXPECT_FALSE(library_multiplies({500, 80, 96}, {}));
  EXPECT_FALSE(library_multiplies({64, 80, 96}, {.bias = true})) << "no relation: ours";
  EXPECT_EQ(gemm_cuda_choices(), table);
  gemm_cuda_time_new_forms(true);
  EXPECT_FALSE(library_multiplies({100, 80, 96}, {.bias = true}) && gemm_cuda_choices() == table)
      << "timed again";
  EXPECT_NE(gemm_cuda_choices(), table);
}
#endif

TEST_F(GemmCuda, TimingAFormChangesNothingThatTheCallAddsTo) {
  gemm_cuda_load_choices("");
  for (const Types& types : {kTypes[0], kTypes[3]})
    expect_reference({{64, 72, 96}, 1, types}, {.accumulate = true}, {kPublic});
  expect_reference(
      {{64, 72, 96}, 0, kTypes[2]},
      {.epilogue = Epilogue::dgelu, .pre = true, .sums = true, .accumulate_sums = true}, {kPublic});
}

}  // namespace
}  // namespace minibert::testing
