// formula_test.cpp: values and gradients of formulas with one step and with several, exact and with
// what is stored between the steps rounded, against derivatives written out by hand.
#include "autograd/formula.h"

#include <cmath>

#include <gtest/gtest.h>

namespace minibert {
namespace {

using Tensors = std::vector<Doubles>;

constexpr double kDigits = 1e-9;  // what central differences in double leave

// y = sin(a * b), in two steps.
Formula sine_of_product() {
  return {[](const Tensors& in) { return Doubles{in[0][0] * in[1][0]}; },
          [](const Tensors& in) { return Doubles{std::sin(in[2][0])}; }};
}

TEST(Rounding, IsToTheNearestOfTheType) {
  // 1 + 2^-9 lies below the middle of bf16's neighbours 1 and 1 + 2^-7, and 1 + 3 * 2^-9 above it.
  EXPECT_EQ(rounding_to(DType::bf16)(1 + 0x1p-9), 1);
  EXPECT_EQ(rounding_to(DType::bf16)(1 + 3 * 0x1p-9), 1 + 0x1p-7);
  EXPECT_EQ(rounding_to(DType::f16)(1 + 0x1p-12), 1);
  EXPECT_EQ(rounding_to(DType::f16)(1 + 3 * 0x1p-12), 1 + 0x1p-10);
  EXPECT_EQ(rounding_to(DType::f32)(1 + 0x1p-40), 1 + 0x1p-40);
}

TEST(Formula, ValueIsThatOfItsStepsOneAfterTheOther) {
  EXPECT_DOUBLE_EQ(value_of(sine_of_product(), {{0.7}, {1.9}})[0], std::sin(0.7 * 1.9));
}

TEST(Formula, OnlyWhatLiesBetweenTheStepsIsRounded) {
  const double a = 1 + 0x1p-9, b = 1.5, product = a * b, rounded = 1.5;  // bf16: steps of 2^-7
  ASSERT_NE(product, rounded);
  const double y = value_of(sine_of_product(), {{a}, {b}}, rounding_to(DType::bf16))[0];
  EXPECT_DOUBLE_EQ(y, std::sin(rounded));
}

TEST(Formula, GradientsFollowTheChainRule) {
  const double a = 0.7, b = 1.9, dy = -1.3;
  const Tensors gradients = gradients_of(sine_of_product(), {{a}, {b}}, {dy}, {{0}, {0}});
  EXPECT_NEAR(gradients[0][0], dy * std::cos(a * b) * b, kDigits);
  EXPECT_NEAR(gradients[1][0], dy * std::cos(a * b) * a, kDigits);
}

TEST(Formula, GradientsOfPlainLoopsUseWhatWasStored) {
  const double a = 0.3, b = 1.9, dy = -1.25;
  const Rounding round = rounding_to(DType::bf16);
  const Tensors gradients = gradients_of(sine_of_product(), {{a}, {b}}, {dy}, {{0}, {0}}, round);
  const double dproduct = round(dy * std::cos(round(a * b)));
  EXPECT_NEAR(gradients[0][0], dproduct * b, kDigits);
  EXPECT_NEAR(gradients[1][0], dproduct * a, kDigits);
  EXPECT_GT(std::abs(gradients[0][0] - dy * std::cos(a * b) * b), 1e-4) << "nothing was rounded";
}

TEST(Formula, AnInputOfSeveralStepsGetsTheSum) {
  const Formula formula = {[](const Tensors& in) { return Doubles{in[0][0] * in[0][0]}; },
                           [](const Tensors& in) { return Doubles{in[1][0] * in[0][0]}; }};
  EXPECT_NEAR(gradients_of(formula, {{1.5}}, {1}, {{0}})[0][0], 3 * 1.5 * 1.5, kDigits);
}

TEST(Formula, ElementsThatAreNotAskedForAreZero) {
  const Formula formula = {[](const Tensors& in) { return Doubles{in[0][0] + 2 * in[0][1]}; }};
  const Doubles gradient = gradients_of(formula, {{1, 1}}, {1}, {{1}})[0];
  EXPECT_EQ(gradient[0], 0);
  EXPECT_NEAR(gradient[1], 2, kDigits);
}

TEST(Formula, PlainLoopsAloneUseABackwardThatReadsTheResult) {
  const auto square = [](const Tensors& in) { return Doubles{in[0][0] * in[0][0]}; };
  const auto backward = [](const Doubles& x, const Doubles& y, const Doubles& dy) {
    return Doubles{2 * y[0] / x[0] * dy[0]};  // dy/dx = 2 x = 2 y / x
  };
  const Formula formula = {Step(square, backward)};
  const double x = 1.1;
  EXPECT_NEAR(gradients_of(formula, {{x}}, {1}, {{0}})[0][0], 2 * x, kDigits);
  const Rounding round = rounding_to(DType::bf16);
  EXPECT_DOUBLE_EQ(gradients_of(formula, {{x}}, {1}, {{0}}, round)[0][0], 2 * round(x * x) / x);
}

TEST(Formula, EmptyTensorsHaveEmptyGradients) {
  const Formula formula = {[](const Tensors& in) { return in[0]; },
                           [](const Tensors& in) { return in[1]; }};
  EXPECT_TRUE(gradients_of(formula, {{}}, {}, {{}})[0].empty());
}

}  // namespace
}  // namespace minibert
