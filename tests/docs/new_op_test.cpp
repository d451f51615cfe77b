// new_op_test.cpp: the code of docs/new_op.md (the parts between `// [name]` lines, which
// tests/docs_snippets_test.py compares with the page): RMSNorm as a new op, and its check.
// [include]
#include <cmath>

#include "autograd/check.h"
#include "autograd/gradcheck.h"
#include "autograd/ops.h"

using namespace minibert;
// [/include]

#include <gtest/gtest.h>

namespace {

// [op]
namespace example {

// y = x * r * weight,  r = 1 / sqrt(avg_H(x^2) + eps).   x, y [T, H]; weight [H].  arXiv 1910.07467
// Backward, xhat = x * r, g = dy * weight:  dx = r * (g - xhat * avg_H(g * xhat))
//                                           dweight = sum_T(dy * xhat)
float inverse_root(const float* x, int64_t H, float eps) {
  double squares = 0;
  for (int64_t h = 0; h < H; ++h) squares += static_cast<double>(x[h]) * x[h];
  return static_cast<float>(1 / std::sqrt(squares / static_cast<double>(H) + eps));
}

Variable rms_norm(const Variable& x, const Variable& weight, float eps) {
  check_rank("rms_norm", "x", x, 2);
  check_rank("rms_norm", "weight", weight, 1);
  const int64_t T = x.shape()[0], H = x.shape()[1];
  check_shape("rms_norm", "weight", weight.shape(), {H}, "the columns of x", x.shape());
  Tensor y = Tensor::empty(x.shape());
  const float *px = x.value().data<float>(), *pw = weight.value().data<float>();
  for (int64_t t = 0; t < T; ++t) {
    const float r = inverse_root(px + t * H, H, eps);
    for (int64_t h = 0; h < H; ++h) y.data<float>()[t * H + h] = px[t * H + h] * r * pw[h];
  }
  const auto backward = [=, x = x.value(), weight = weight.value()](
                            const Tensor& dy, std::vector<GradientTarget>& inputs) {
    Tensor dx = Tensor::empty({T, H}), dweight = Tensor::zeros({H});
    for (int64_t t = 0; t < T; ++t) {
      const float *px = x.data<float>() + t * H, *pdy = dy.data<float>() + t * H;
      const float *pw = weight.data<float>(), r = inverse_root(px, H, eps);
      double average = 0;
      for (int64_t h = 0; h < H; ++h) average += pdy[h] * pw[h] * px[h] * r / H;
      for (int64_t h = 0; h < H; ++h) {
        const float xhat = px[h] * r;
        dx.data<float>()[t * H + h] = r * (pdy[h] * pw[h] - xhat * static_cast<float>(average));
        dweight.data<float>()[h] += pdy[h] * xhat;
      }
    }
    inputs[0].pass(dx);  // overwrites or adds, whichever is due; skipped if nobody wants it
    inputs[1].pass(dweight);
  };
  return make_result("rms_norm", y, {x, weight}, backward);
}

}  // namespace example
// [/op]

Tensor values(Shape shape, float start) {
  Tensor t = Tensor::empty(shape);
  for (float& v : t.span<float>()) v = std::sin(start += 0.7f);
  return t;
}

TEST(DocsNewOp, RmsNormPassesTheGradientCheck) {
  // [check]
  const auto op = [](const std::vector<Variable>& in) {
    return example::rms_norm(in[0], in[1], 1e-3f);
  };
  for (const GradcheckResult& result : gradcheck(op, {values({5, 7}, 0), values({7}, 3)}))
    EXPECT_TRUE(result.passed()) << result.str();
  // [/check]
}

TEST(DocsNewOp, AForgottenTermFailsTheCheck) {
  // The same forward with r taken for a constant in backward, as a beginner might.
  const auto op = [](const std::vector<Variable>& in) {
    const Tensor y = example::rms_norm(in[0], in[1], 1e-3f).value();
    const Tensor x = in[0].value(), weight = in[1].value();
    return make_result("rms_norm", y, {in[0], in[1]},
                       [x, weight](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                         Tensor dx = dy.clone();
                         for (int64_t i = 0; i < dx.numel(); ++i)
                           dx.data<float>()[i] *=
                               example::inverse_root(x.data<float>() + i / 7 * 7, 7, 1e-3f) *
                               weight.data<float>()[i % 7];
                         inputs[0].pass(dx);
                         if (inputs[1].wanted()) inputs[1].buffer.fill_zero();
                       });
  };
  const auto results = gradcheck(op, {values({5, 7}, 0), values({7}, 3)});
  EXPECT_FALSE(results[0].passed());
  EXPECT_FALSE(results[1].passed());
}

TEST(DocsNewOp, TrainsLikeAnyOther) {
  const Variable weight = Variable::leaf(values({7}, 3));
  sum(example::rms_norm(scale(Variable(values({5, 7}, 0)), 3), weight, 1e-3f)).backward();
  EXPECT_TRUE(weight.grad().defined());
}

TEST(DocsNewOp, RefusesWhatDoesNotFit) {
  const Variable x(values({5, 7}, 0)), weight(values({7}, 3));
  EXPECT_NO_THROW(example::rms_norm(x, weight, 1e-3f));
  EXPECT_THROW(example::rms_norm(Variable(values({5, 6}, 0)), weight, 1e-3f), UsageError);
  EXPECT_THROW(example::rms_norm(Variable(values({5, 7, 2}, 0)), weight, 1e-3f), UsageError);
  EXPECT_THROW(example::rms_norm(weight, weight, 1e-3f), UsageError);
  EXPECT_THROW(example::rms_norm(x, x, 1e-3f), UsageError);
  EXPECT_THROW(example::rms_norm(x, {}, 1e-3f), UsageError);
}

}  // namespace
