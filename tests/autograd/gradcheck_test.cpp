// gradcheck_test.cpp: the check finds what it is for. Each case plants one fault in a good op,
// y = x^3 * w, and asks that the check fails, and says why.
#include "autograd/gradcheck.h"

#include <cmath>

#include <gtest/gtest.h>

#include "autograd/ops.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

// The verb and the tests must agree on what passes.
static_assert(kGradientTolerance == testing::Tolerance::gradient);
static_assert(kDifferenceTolerance == testing::Tolerance::gradcheck);

using Inputs = std::vector<Variable>;

struct Fault {
  double factor = 1;            // of dx
  int64_t wrong_element = -1;   // of dw, off by 1 % of the largest
  bool forgets_to_add = false;  // dx overwrites always
  bool leaves_unwritten = false;
  bool writes_dy = false;
};

Variable cube_times(const Variable& x, const Variable& w, const Fault& fault) {
  const int64_t n = x.value().numel();
  const Tensor y = Tensor::empty(x.shape());
  const float *px = x.value().data<float>(), *pw = w.value().data<float>();
  for (int64_t i = 0; i < n; ++i) y.data<float>()[i] = px[i] * px[i] * px[i] * pw[i];
  return make_result(
      "cube_times", y, {x, w},
      [x = x.value(), w = w.value(), fault, n](const Tensor& dy, std::vector<GradientTarget>& in) {
        const float *px = x.data<float>(), *pw = w.data<float>();
        float* g = dy.data<float>();
        for (int64_t i = 0; i < n && in[0].wanted(); ++i) {
          float& dx = in[0].buffer.data<float>()[i];
          const double contribution = fault.factor * 3 * px[i] * px[i] * pw[i] * g[i];
          const bool add = in[0].accumulate && !fault.forgets_to_add;
          dx = static_cast<float>((add ? dx : 0) + contribution);
        }
        for (int64_t i = 0; i < n && in[1].wanted() && !fault.leaves_unwritten; ++i) {
          float& dw = in[1].buffer.data<float>()[i];
          dw = (in[1].accumulate ? dw : 0) + px[i] * px[i] * px[i] * g[i];
          if (i == fault.wrong_element) dw += 0.01f;
        }
        if (fault.writes_dy) g[0] = 7;
      });
}

std::vector<GradcheckResult> check(const Fault& fault, bool with_reference, int64_t n = 19) {
  std::vector<float> x, w;
  for (int64_t i = 0; i < n; ++i) {
    x.push_back(static_cast<float>(std::sin(i + 1.0)));
    w.push_back(static_cast<float>(std::cos(2.0 * i)));
  }
  Formula reference;
  if (with_reference) {
    reference = {[](const std::vector<Doubles>& in) {
      Doubles y(in[0].size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = in[0][i] * in[0][i] * in[0][i] * in[1][i];
      return y;
    }};
  }
  return gradcheck([=](const Inputs& in) { return cube_times(in[0], in[1], fault); },
                   {Tensor::from<float>(x, {n}), Tensor::from<float>(w, {n})}, reference);
}

class Gradcheck : public ::testing::TestWithParam<bool> {};

TEST_P(Gradcheck, PassesARightGradient) {
  const auto results = check({}, GetParam());
  ASSERT_EQ(results.size(), 2u);
  for (const auto& result : results) {
    EXPECT_TRUE(result.passed()) << result.str();
    EXPECT_EQ(result.elements, 19);
  }
}

TEST_P(Gradcheck, FailsAGradientThatIsHalfAPercentTooLarge) {
  Fault fault;
  fault.factor = 1.005;
  const auto results = check(fault, GetParam());
  EXPECT_FALSE(results[0].passed());
  EXPECT_NEAR(results[0].error, 0.005, 0.0005);
  EXPECT_TRUE(results[1].passed()) << results[1].str();
}

TEST_P(Gradcheck, FailsOneWrongElementAndNamesIt) {
  Fault fault;
  fault.wrong_element = 13;
  const auto results = check(fault, GetParam());
  EXPECT_TRUE(results[0].passed()) << results[0].str();
  EXPECT_FALSE(results[1].passed());
  EXPECT_EQ(results[1].worst, 13);
  EXPECT_NE(results[1].str().find("element 13"), std::string::npos) << results[1].str();
}

TEST_P(Gradcheck, FailsAnOpThatOverwritesWhereItShouldAdd) {
  Fault fault;
  fault.forgets_to_add = true;
  const auto results = check(fault, GetParam());
  EXPECT_FALSE(results[0].passed());
  EXPECT_NE(results[0].fault, "");
  EXPECT_LE(results[0].error, results[0].tolerance) << "the first run alone is right";
}

TEST_P(Gradcheck, FailsAGradientThatIsNeverWritten) {
  Fault fault;
  fault.leaves_unwritten = true;
  const auto results = check(fault, GetParam());
  EXPECT_TRUE(results[0].passed()) << results[0].str();
  EXPECT_FALSE(results[1].passed());
}

TEST_P(Gradcheck, FailsABackwardThatWritesIntoDy) {
  Fault fault;
  fault.writes_dy = true;
  EXPECT_FALSE(check(fault, GetParam())[0].passed());
}

INSTANTIATE_TEST_SUITE_P(Gradcheck, Gradcheck, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "reference" : "differences"; });

TEST(GradcheckByReference, SeesAnErrorOfOnePartIn50000) {
  Fault fault;
  fault.factor = 1.00002;
  EXPECT_FALSE(check(fault, true)[0].passed());
}

TEST(GradcheckByReference, ProbesARandomPartOfLargeInputs) {
  const auto results = check({}, true, 3000);
  EXPECT_EQ(results[0].elements, 1024);
  EXPECT_TRUE(results[0].passed()) << results[0].str();
  Fault fault;
  fault.factor = 1.001;
  EXPECT_FALSE(check(fault, true, 3000)[0].passed());
}

TEST(GradcheckByReference, AcceptsInputsWithoutElements) {
  for (const auto& result : check({}, true, 0)) EXPECT_TRUE(result.passed()) << result.str();
}

TEST(GradcheckByReference, AnInputThatNothingDependsOnHasAZeroGradient) {
  const auto fn = [](const Inputs& in) { return scale(in[0], 2); };
  const Tensor x = Tensor::zeros({3});
  const auto results = gradcheck(fn, {x, x}, {[](const std::vector<Doubles>& in) {
                                   Doubles y = in[0];
                                   for (double& v : y) v *= 2;
                                   return y;
                                 }});
  ASSERT_EQ(results.size(), 2u);
  EXPECT_TRUE(results[1].passed()) << results[1].str();
}

// ---- 16 bits -----------------------------------------------------------------------------------

struct NarrowFault {
  float factor = 1;              // of dx
  bool rounds_dw = false;        // to the type of x, on its way to f32
  bool overwrites_type = false;  // dx overwrites where its buffer has the type of x
};

// cube_times in the type of x and w; x is an activation and w a parameter.
Variable narrow_cube_times(const Variable& x, const Variable& w, const NarrowFault& fault) {
  const std::vector<float> px = testing::floats_of(x.value()), pw = testing::floats_of(w.value());
  const Shape shape = x.shape();
  const DType dtype = x.value().dtype();
  std::vector<float> y(px.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = px[i] * px[i] * px[i] * pw[i];
  return make_result("cube_times", Tensor::from<float>(y, shape).to(dtype), {x, w},
                     [=](const Tensor& dy, std::vector<GradientTarget>& in) {
                       const std::vector<float> g = testing::floats_of(dy);
                       std::vector<float> dx(g.size()), dw(g.size());
                       for (size_t i = 0; i < g.size(); ++i) {
                         dx[i] = fault.factor * 3 * px[i] * px[i] * pw[i] * g[i];
                         dw[i] = px[i] * px[i] * px[i] * g[i];
                       }
                       if (in[0].buffer.dtype() == dtype && fault.overwrites_type)
                         in[0].accumulate = false;
                       in[0].pass(Tensor::from<float>(dx, shape).to(dtype));
                       const Tensor exact = Tensor::from<float>(dw, shape);
                       in[1].pass(fault.rounds_dw ? exact.to(dtype) : exact);
                     });
}

class GradcheckInType : public ::testing::TestWithParam<DType> {
 protected:
  std::vector<GradcheckResult> check(const NarrowFault& fault, Role of_w = Role::parameter) const {
    std::vector<float> x, w;
    for (int i = 0; i < 19; ++i) {
      x.push_back(std::sin(i + 1.0f));
      w.push_back(std::cos(2.0f * i));
    }
    const Formula reference = {[](const std::vector<Doubles>& in) {
      Doubles y(in[0].size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = in[0][i] * in[0][i] * in[0][i] * in[1][i];
      return y;
    }};
    return gradcheck(
        [=](const Inputs& in) { return narrow_cube_times(in[0], in[1], fault); },
        {Tensor::from<float>(x, {19}).to(GetParam()), Tensor::from<float>(w, {19}).to(GetParam())},
        reference, {}, {Role::activation, of_w});
  }
  // Unit roundoff.
  double rounding() const { return GetParam() == DType::bf16 ? 0x1p-8 : 0x1p-11; }
};

TEST_P(GradcheckInType, PassesARightGradientWithinOneOrTwoRoundings) {
  const auto results = check({});
  ASSERT_EQ(results.size(), 2u);
  for (const auto& result : results) EXPECT_TRUE(result.passed()) << result.str();
  EXPECT_LT(results[0].tolerance, 2.1 * rounding());
  EXPECT_EQ(results[1].tolerance, kGradientTolerance) << "a parameter's gradient is f32";
}

TEST_P(GradcheckInType, FailsAGradientThatIsThreeRoundingsTooLarge) {
  NarrowFault fault;
  fault.factor = 1 + 3 * static_cast<float>(rounding());
  const auto results = check(fault);
  EXPECT_FALSE(results[0].passed()) << results[0].str();
  EXPECT_TRUE(results[1].passed()) << results[1].str();
}

TEST_P(GradcheckInType, FailsAParametersGradientThatIsRounded) {
  NarrowFault fault;
  fault.rounds_dw = true;
  EXPECT_FALSE(check(fault)[1].passed());
  const auto as_activation = check(fault, Role::activation);
  EXPECT_TRUE(as_activation[1].passed()) << as_activation[1].str();
}

TEST_P(GradcheckInType, FailsAnOpThatOverwritesTheGradientOfAnActivation) {
  NarrowFault fault;
  fault.overwrites_type = true;
  const auto results = check(fault);
  EXPECT_FALSE(results[0].passed()) << results[0].str();
  EXPECT_EQ(results[0].fault, "") << "leaves alone do not show it";
}

TEST_P(GradcheckInType, RefusesToDifferenceValuesOf16Bits) {
  const auto fn = [](const Inputs& in) { return scale(in[0], 2); };
  EXPECT_THROW(gradcheck(fn, {Tensor::zeros({3}, GetParam())}), UsageError);
}

INSTANTIATE_TEST_SUITE_P(Gradcheck, GradcheckInType, ::testing::Values(DType::bf16, DType::f16),
                         [](const auto& info) { return name_of(info.param); });

TEST(GradcheckByReference, RefusesAFunctionOfNothing) {
  const auto fn = [](const Inputs&) { return Variable(Tensor::zeros({2})); };
  EXPECT_THROW(gradcheck(fn, {Tensor::zeros({2})}), UsageError);
}

}  // namespace
}  // namespace minibert
