// cross_entropy_cuda_test.cpp: every rung of the CUDA cross-entropy against the double reference in
// each type, over widths around packs, warps and blocks and BERT's vocabulary; ignored rows, padding,
// in place, misaligned rows, what is counted, and NaN and infinities, which must not be hidden.
#include <cmath>
#include <limits>

#include "core/device_value.h"
#include "core/kernels/cross_entropy.h"
#include "tests/core/kernels/cuda_fixture.h"
#include "tests/tolerance.h"

namespace minibert::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kScale = 0.37f, kUpstream = 1.5f;
// {classes, V}: one class, a pack and its neighbours, a warp's packs, a block's, padding
constexpr int64_t kWidths[][2] = {{1, 1},     {2, 2},     {2, 64},      {7, 8},       {8, 8},
                                  {9, 16},    {31, 31},   {33, 64},     {255, 256},   {256, 256},
                                  {257, 264}, {300, 304}, {1023, 1024}, {2049, 2056}, {4099, 4160}};

class CrossEntropyCuda : public CudaTest {};

std::vector<int32_t> random_labels(int64_t P, int64_t classes) {
  RandomStream stream(5, StreamPurpose::user, 77);
  std::vector<int32_t> label(static_cast<size_t>(P));
  for (int32_t& l : label) l = static_cast<int32_t>(stream.below(static_cast<uint32_t>(classes)));
  return label;
}

/// What the host knows of both passes: inputs, and what the reference makes of them.
struct Rows {
  Tensor logits, label, lse, loss;
  int64_t classes;
  float scale = kScale;
  LossCounts counts = {};

  Rows(const Tensor& values, const std::vector<int32_t>& labels, int64_t n)
      : logits(values), label(integers(labels)), classes(n) {
    lse = Tensor::empty({P()});
    loss = Tensor::empty({});
    cross_entropy_forward_reference({logits, label, lse, loss, {&scale, &counts}, classes});
  }
  int64_t P() const { return logits.dim(0); }
  /// f32, so that it is not rounded to the logits' type.
  Tensor dlogits() const {
    const Tensor exact = logits.to(DType::f32), dy = Tensor::empty({}),
                 dlogits = Tensor::empty(logits.shape());
    *dy.data<float>() = kUpstream;
    cross_entropy_backward_reference({exact, label, lse, dy, dlogits, &scale, classes});
    return dlogits;
  }
};

// Logits with padding columns that would be noticed if they were read.
Rows make_rows(const Tensor& logits, const std::vector<int32_t>& label, int64_t classes,
               DType dtype = DType::f32) {
  const int64_t P = logits.dim(0), V = logits.dim(1);
  for (int64_t p = 0; p < P; ++p)
    for (int64_t v = classes; v < V; ++v) logits.data<float>()[p * V + v] = kNaN;
  return {dtype == DType::f32 ? logits : logits.to(dtype), label, classes};
}

Rows random_rows(int64_t P, int64_t classes, int64_t V, float spread, DType dtype = DType::f32,
                 std::vector<int64_t> ignored = {}) {
  std::vector<int32_t> label = random_labels(P, classes);
  for (const int64_t p : ignored)
    if (p < P) label[static_cast<size_t>(p)] = -1;
  return make_rows(random_tensor({P, V}, 1, spread), label, classes, dtype);
}

Rows one_row(const std::vector<float>& logits, int32_t label, DType dtype = DType::f32) {
  const auto n = static_cast<int64_t>(logits.size());
  return make_rows(Tensor::from<float>(logits, {1, n}), {label}, n, dtype);
}

/// The same rows on the device.
struct CudaRows {
  GuardedCuda logits, dlogits, lse;
  Tensor label, loss;
  DeviceArray<LossCounts> of_rows;
  DeviceValue<LossCounts> counts;
  int64_t classes;

  explicit CudaRows(const Rows& host, bool misaligned = false)
      : logits(host.logits.shape(), host.logits.dtype(), misaligned),
        dlogits(host.logits.shape(), host.logits.dtype(), misaligned),
        lse({host.P()}),
        label(on_cuda(host.label)),
        loss(on_cuda(Tensor::zeros({}))),
        of_rows(static_cast<size_t>(host.P()), MemoryCategory::workspace, Device::cuda),
        counts({}, Device::cuda),
        classes(host.classes) {
    copy_to_device(host.logits.raw(), *logits);
  }
  CrossEntropyForward forward_args() const {
    return {*logits, label, *lse, loss, {cuda_float(kScale), counts.get()}, classes};
  }
  CrossEntropyBackward backward_args() const {
    static const Tensor dy = [] {
      const Tensor host = Tensor::empty({});
      *host.data<float>() = kUpstream;
      return on_cuda(host);
    }();
    return {*logits, label, *lse, dy, *dlogits, cuda_float(kScale), classes};
  }
  void forward(int rung = kCrossEntropyForwardRungs) const {
    cross_entropy_forward_cuda_rung(forward_args(), of_rows.get(), current_stream(), rung);
  }
  void backward(int rung = kCrossEntropyBackwardRungs) const {
    cross_entropy_backward_cuda_rung(backward_args(), current_stream(), rung);
  }
  void run() const {
    forward();
    backward();
  }
  bool intact() const { return logits.intact() && dlogits.intact() && lse.intact(); }
};

/// lse, loss and counts.
void expect_forward(const CudaRows& got, const Rows& expected) {
  EXPECT_TRUE(near("lse", on_cpu(*got.lse), expected.lse, Tolerance::reduction));
  // Absolute below 1: log(1 + tiny) has no more digits.
  const auto within = [](double x) { return Tolerance::reduction * std::max(1.0, std::abs(x)); };
  const double loss = expected.loss.item();
  EXPECT_NEAR(on_cpu(got.loss).item(), loss, within(loss));
  const LossCounts counts = got.counts.read();
  EXPECT_NEAR(counts.loss_sum, expected.counts.loss_sum, within(expected.counts.loss_sum));
  EXPECT_EQ(counts.rows, expected.counts.rows);
  EXPECT_EQ(counts.correct, expected.counts.correct);
}

TEST_F(CrossEntropyCuda, ForwardMatchesReference) {
  for (const DType dtype : kComputeTypes) {
    for (const auto& [classes, V] : kWidths) {
      for (const int64_t P : {0, 1, 5}) {
        for (const float spread : {0.0f, 1.0f, 30.0f, 1e4f}) {
          if (P != 5 && spread != 1) continue;
          const Rows expected = random_rows(P, classes, V, spread, dtype, {1});
          for (int rung = 1; rung <= kCrossEntropyForwardRungs; ++rung) {
            SCOPED_TRACE(fmt::format("{} P {} classes {} V {} spread {} rung {}", name_of(dtype), P,
                                     classes, V, spread, rung));
            const CudaRows got(expected);
            got.forward(rung);
            expect_forward(got, expected);
            EXPECT_TRUE(got.intact());
          }
        }
      }
    }
  }
}

TEST_F(CrossEntropyCuda, BackwardMatchesReference) {
  for (const DType dtype : kComputeTypes) {
    for (const auto& [classes, V] : kWidths) {
      for (const int64_t P : {0, 1, 5}) {
        for (const float spread : {0.0f, 1.0f, 30.0f}) {
          if (P != 5 && spread != 1) continue;
          const Rows host = random_rows(P, classes, V, spread, dtype, {1});
          const Tensor expected = host.dlogits();
          for (int rung = 1; rung <= kCrossEntropyBackwardRungs; ++rung) {
            SCOPED_TRACE(fmt::format("{} P {} classes {} V {} spread {} rung {}", name_of(dtype), P,
                                     classes, V, spread, rung));
            const CudaRows got(host);
            copy_to_device(host.lse.raw(), *got.lse);
            got.backward(rung);
            EXPECT_TRUE(near_in("dlogits", on_cpu(*got.dlogits), expected, Tolerance::gradient));
            EXPECT_TRUE(got.intact());
          }
        }
      }
    }
  }
}

TEST_F(CrossEntropyCuda, EachRungLaunchesItsKernel) {
  const CudaRows rows(random_rows(3, 64, 64, 1));
  expect_rungs({"forward_thread_a_row<", "forward_two_passes<", "forward_online<float, 1>",
                "forward_online<float, 4>"},
               [&](int rung) { rows.forward(rung); });
  expect_rungs({"backward_thread_a_row<", "backward_row<float, 1>", "backward_row<float, 4>"},
               [&](int rung) { rows.backward(rung); });
}

TEST_F(CrossEntropyCuda, RowsAsWideAsTheVocabulary) {
  for (const DType dtype : kComputeTypes) {
    const Rows host = random_rows(3, 30522, 30528, 3, dtype, {1});
    const CudaRows got(host);
    cross_entropy_forward(got.forward_args());
    cross_entropy_backward(got.backward_args());
    expect_forward(got, host);
    EXPECT_TRUE(near_in("dlogits", on_cpu(*got.dlogits), host.dlogits(), Tolerance::gradient));
    EXPECT_TRUE(got.intact());
  }
}

// A thread's share of a row is nothing but -infinity, and another's holds all that counts.
TEST_F(CrossEntropyCuda, MinusInfinityInMostOfARowIsProbabilityZero) {
  for (const DType dtype : kComputeTypes) {
    for (const size_t at : {0, 1, 8, 1999, 2999}) {
      std::vector<float> logits(3000, -kInfinity);
      logits[at] = 2, logits[(at + 1) % 3000] = 1;
      const Rows host = one_row(logits, static_cast<int32_t>(at), dtype);
      for (int rung = 1; rung <= kCrossEntropyForwardRungs; ++rung) {
        SCOPED_TRACE(fmt::format("{} at {} rung {}", name_of(dtype), at, rung));
        const CudaRows got(host);
        got.forward(rung);
        expect_forward(got, host);
        EXPECT_NEAR(got.counts.read().loss_sum, std::log(1 + std::exp(-1.0)), 1e-6);
        EXPECT_EQ(got.counts.read().correct, 1);
      }
    }
  }
}

TEST_F(CrossEntropyCuda, MisalignedRowsGiveTheBitsOfAlignedOnes) {
  for (const DType dtype : kComputeTypes) {
    const Rows host = random_rows(5, 300, 304, 2, dtype, {3});
    const CudaRows aligned(host), misaligned(host, true);
    aligned.forward(3);  // an element a thread, as is done for misaligned rows
    aligned.backward(2);
    misaligned.run();
    EXPECT_TRUE(same_bits(on_cpu(*misaligned.lse), on_cpu(*aligned.lse)));
    EXPECT_TRUE(same_bits(on_cpu(misaligned.loss), on_cpu(aligned.loss)));
    EXPECT_TRUE(same_bits(on_cpu(*misaligned.dlogits), on_cpu(*aligned.dlogits)));
    EXPECT_TRUE(misaligned.intact());
    expect_forward(misaligned, host);
  }
}

TEST_F(CrossEntropyCuda, BackwardMayBeInPlace) {
  for (const DType dtype : kComputeTypes) {
    for (const int64_t V : {64, 61}) {
      const Rows host = random_rows(3, 33, V, 2, dtype, {1});
      for (int rung = 1; rung <= kCrossEntropyBackwardRungs; ++rung) {
        const CudaRows apart(host), in_place(host);
        apart.forward();
        apart.backward(rung);
        in_place.forward();
        CrossEntropyBackward args = in_place.backward_args();
        args.dlogits = *in_place.logits;
        cross_entropy_backward_cuda_rung(args, current_stream(), rung);
        EXPECT_TRUE(same_bits(on_cpu(*in_place.logits), on_cpu(*apart.dlogits)));
        EXPECT_TRUE(in_place.intact());
      }
    }
  }
}

TEST_F(CrossEntropyCuda, PaddingAndIgnoredRowsGetZeroGradientAlone) {
  for (const DType dtype : kComputeTypes) {
    const Rows host = random_rows(3, 30, 64, 2, dtype, {1});
    const CudaRows got(host);
    got.run();
    const std::vector<float> dlogits = floats_of(on_cpu(*got.dlogits));
    for (size_t i = 0; i < dlogits.size(); ++i)
      EXPECT_EQ(dlogits[i] == 0, i % 64 >= 30 || i / 64 == 1) << name_of(dtype) << " " << i;
    EXPECT_EQ(on_cpu(*got.lse).data<float>()[1], 0);
  }
}

TEST_F(CrossEntropyCuda, IgnoredRowsMayHoldAnything) {
  for (const DType dtype : kComputeTypes) {
    const Rows clean = random_rows(5, 33, 64, 1, dtype, {0, 3});
    Tensor poisoned = clean.logits.to(DType::f32);
    std::fill_n(poisoned.data<float>(), 64, kNaN);
    std::fill_n(poisoned.data<float>() + 3 * 64, 64, kInfinity);
    const CudaRows got(Rows(poisoned.to(dtype),
                            {-1, clean.label.data<int32_t>()[1], clean.label.data<int32_t>()[2], -1,
                             clean.label.data<int32_t>()[4]},
                            33));
    got.run();
    expect_forward(got, clean);
    EXPECT_EQ(got.counts.read().rows, 3);
    EXPECT_TRUE(near_in("dlogits", on_cpu(*got.dlogits), clean.dlogits(), Tolerance::gradient));
  }
}

TEST_F(CrossEntropyCuda, AllRowsIgnoredOrNoRowsIsNoLoss) {
  for (const DType dtype : kComputeTypes) {
    for (const int64_t P : {0, 3}) {
      const CudaRows got(random_rows(P, 33, 64, 1, dtype, {0, 1, 2}));
      got.run();
      EXPECT_EQ(on_cpu(got.loss).item(), 0);
      EXPECT_EQ(got.counts.read().loss_sum, 0);
      EXPECT_EQ(got.counts.read().rows, 0);
      EXPECT_EQ(got.counts.read().correct, 0);
      for (const float dx : floats_of(on_cpu(*got.dlogits))) EXPECT_EQ(dx, 0);
    }
  }
}

// More rows than the block that adds them has threads.
TEST_F(CrossEntropyCuda, ManyRowsAreAllCounted) {
  for (const int64_t P : {255, 256, 257, 700}) {
    const Rows host = random_rows(P, 2, 2, 1, DType::f32, {0, 5, 254});
    const CudaRows got(host);
    got.forward();
    expect_forward(got, host);
    EXPECT_EQ(got.counts.read().rows, P - 3);
  }
}

TEST_F(CrossEntropyCuda, CountsAddUpOverCallsAndMayBeLeftOut) {
  const CudaRows rows(random_rows(5, 33, 64, 1));
  rows.forward();
  const LossCounts once = rows.counts.read();
  EXPECT_EQ(once.rows, 5);
  const Tensor loss = on_cpu(rows.loss);
  rows.forward();
  EXPECT_EQ(rows.counts.read().rows, 10);
  EXPECT_EQ(rows.counts.read().correct, 2 * once.correct);
  EXPECT_EQ(rows.counts.read().loss_sum, 2 * once.loss_sum);
  CrossEntropyForward uncounted = rows.forward_args();
  uncounted.site.counts = nullptr;
  cross_entropy_forward(uncounted);
  EXPECT_EQ(rows.counts.read().rows, 10);
  EXPECT_TRUE(same_bits(on_cpu(rows.loss), loss));
}

TEST_F(CrossEntropyCuda, GradientOfASureRightRowKeepsItsDigits) {
  for (const std::vector<float>& logits :
       {std::vector<float>{30, 0, 0, 0}, std::vector<float>{30, 0, 0, 0, 0, 0, 0}}) {
    for (int rung = 1; rung <= kCrossEntropyBackwardRungs; ++rung) {
      const CudaRows got(one_row(logits, 0));
      got.forward();
      got.backward(rung);
      // lse = 30 + 3e-13 rounds to 30: the loss is lost, and so is its gradient, but nothing is noise
      EXPECT_NEAR(on_cpu(*got.dlogits).data<float>()[0],
                  -static_cast<double>(logits.size() - 1) * std::exp(-30.0) * kScale * kUpstream,
                  1e-12);
      EXPECT_EQ(got.counts.read().correct, 1);
    }
  }
  // Here lse, given exactly, keeps its digits, and softmax - 1 would lose them: expm1.
  const Rows host = one_row({0, -9, -kInfinity, -kInfinity}, 0);
  const double expected = -std::exp(-9.0) / (1 + std::exp(-9.0)) * kScale * kUpstream;
  for (int rung = 1; rung <= kCrossEntropyBackwardRungs; ++rung) {
    const CudaRows got(host);
    copy_to_device(host.lse.raw(), *got.lse);
    got.backward(rung);
    EXPECT_NEAR(on_cpu(*got.dlogits).data<float>()[0], expected,
                Tolerance::elementwise * -expected);
  }
}

TEST_F(CrossEntropyCuda, ANotANumberIsNeverHidden) {
  for (const DType dtype : kComputeTypes) {
    for (const int64_t classes : {1, 2, 16, 40, 2000}) {
      for (const int64_t at : {int64_t{0}, classes / 2, classes - 1}) {
        const Tensor poisoned = random_tensor({3, classes}, 1);
        poisoned.data<float>()[classes + at] = kNaN;
        const Rows host = make_rows(poisoned, random_labels(3, classes), classes, dtype);
        const CudaRows clean(random_rows(3, classes, classes, 1, dtype));
        clean.run();
        for (int rung = 1; rung <= kCrossEntropyForwardRungs; ++rung) {
          SCOPED_TRACE(
              fmt::format("{} classes {} NaN at {} rung {}", name_of(dtype), classes, at, rung));
          const CudaRows got(host);
          got.forward(rung);
          got.backward();
          const Tensor lse = on_cpu(*got.lse), dlogits = on_cpu(*got.dlogits);
          EXPECT_TRUE(std::isnan(lse.data<float>()[1]));
          EXPECT_TRUE(std::isnan(on_cpu(got.loss).item()));
          EXPECT_TRUE(std::isnan(got.counts.read().loss_sum));
          EXPECT_EQ(got.counts.read().rows, 3);
          for (const float dx : floats_of(dlogits.rows(1, 1))) EXPECT_TRUE(std::isnan(dx));
          if (rung != kCrossEntropyForwardRungs) continue;
          for (const int64_t other : {0, 2}) {
            EXPECT_TRUE(same_bits(lse.slice(other, {1}), on_cpu(*clean.lse).slice(other, {1})));
            EXPECT_TRUE(same_bits(dlogits.rows(other, 1), on_cpu(*clean.dlogits).rows(other, 1)));
          }
        }
      }
    }
  }
}

TEST_F(CrossEntropyCuda, InfinitiesGiveNaNUnlessTheyMeanProbabilityZero) {
  std::vector<float> infinite(600, 0.0f), nothing(600, -kInfinity);
  infinite[300] = kInfinity;
  for (const DType dtype : kComputeTypes) {
    for (int rung = 1; rung <= kCrossEntropyForwardRungs; ++rung) {
      for (const std::vector<float>& logits :
           {std::vector<float>{0, kInfinity, 1}, std::vector<float>(3, -kInfinity), infinite,
            nothing}) {
        const CudaRows rows(one_row(logits, 0, dtype));
        rows.forward(rung);
        rows.backward();
        EXPECT_TRUE(std::isnan(on_cpu(rows.loss).item()));
        EXPECT_EQ(rows.counts.read().correct, 0);
        for (const float dx : floats_of(on_cpu(*rows.dlogits))) EXPECT_TRUE(std::isnan(dx));
      }
      const CudaRows masked(one_row({0, -kInfinity, 0}, 2, dtype));
      masked.forward(rung);
      masked.backward();
      EXPECT_NEAR(masked.counts.read().loss_sum, std::log(2.0), 1e-6);
      EXPECT_EQ(floats_of(on_cpu(*masked.dlogits))[1], 0.0f);
      const CudaRows impossible(one_row({0, -kInfinity, 0}, 1, dtype));
      impossible.forward(rung);
      EXPECT_EQ(on_cpu(impossible.loss).item(), kInfinity);
    }
  }
}

TEST_F(CrossEntropyCuda, CorrectMeansTheFirstOfTheLargestAndNoNaN) {
  const int64_t expected[] = {0, 1, 0, 0, 0};
  for (int rung = 1; rung <= kCrossEntropyForwardRungs; ++rung) {
    for (const size_t shift : {0, 19, 253, 255, 1021}) {  // beyond a pack, a warp, a block
      for (int32_t label = 0; label < 5; ++label) {
        std::vector<float> logits(shift, -1);
        for (const float x : {1, 3, 2, 3, 3}) logits.push_back(x);
        const CudaRows rows(one_row(logits, static_cast<int32_t>(shift) + label));
        rows.forward(rung);
        EXPECT_EQ(rows.counts.read().correct, expected[label]) << shift << " " << label;
      }
    }
    for (const std::vector<float>& logits :
         {std::vector<float>{3, kNaN, 1}, {3, 1, kNaN}, {kNaN, 1, 0}}) {
      const CudaRows rows(one_row(logits, 0));
      rows.forward(rung);
      EXPECT_EQ(rows.counts.read().rows, 1);
      EXPECT_EQ(rows.counts.read().correct, 0);
    }
  }
}

TEST_F(CrossEntropyCuda, SchedulesDoNotMatter) {
  for (const DType dtype : kComputeTypes) {
    for (int rung = 2; rung <= kCrossEntropyForwardRungs; ++rung) {
      const Rows host = random_rows(4, 600, 608, 2, dtype, {1});
      const std::vector<Tensor> got = same_bits_in_every_schedule([&] {
        const CudaRows rows(host);
        rows.forward(rung);
        rows.backward();
        return std::vector<Tensor>{*rows.lse, rows.loss, *rows.dlogits};
      });
      EXPECT_TRUE(near("lse", got[0], host.lse, Tolerance::reduction));
    }
  }
}

}  // namespace
}  // namespace minibert::testing
