// elementwise.cpp: add, multiply, scale, gelu, tanh, sum and add_bias: each a forward and, below
// it, its backward. Kernels: core/kernels/elementwise.h and reduce.h.
// Test: ctest -R autograd_op_info.
#include "core/kernels/elementwise.h"

#include <cmath>
#include <numeric>

#include "autograd/check.h"
#include "autograd/op_samples.h"
#include "autograd/ops.h"
#include "core/kernels/cast.h"
#include "core/kernels/reduce.h"

namespace minibert {
namespace {

void check_same_shape(const char* op, const Variable& a, const Variable& b) {
  MB_CHECK(a.defined() && b.defined(), "{}: an input is undefined, expected two tensors", op);
  check_shape(op, "b", b.shape(), a.shape(), "the shape of a", a.shape());
  check_type(op, "b", b, a.value().dtype(), "the type of a");
}

}  // namespace

Variable add(const Variable& a, const Variable& b) {
  check_same_shape("add", a, b);
  const Tensor y = a.value().like(a.shape());
  add_forward({a.value(), b.value(), y});
  return make_result("add", y, {a, b}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    inputs[0].pass(dy);
    inputs[1].pass(dy);
  });
}

Variable multiply(const Variable& a, const Variable& b) {
  check_same_shape("multiply", a, b);
  const Tensor y = a.value().like(a.shape());
  multiply({a.value(), b.value(), y});
  return make_result(
      "multiply", y, {a, b},
      [a = a.value(), b = b.value()](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        inputs[0].write_or_add(dy.dtype(), [&](const Tensor& da, bool accumulate) {
          multiply({dy, b, da, accumulate});
        });
        inputs[1].write_or_add(dy.dtype(), [&](const Tensor& db, bool accumulate) {
          multiply({dy, a, db, accumulate});
        });
      });
}

Variable scale(const Variable& x, float factor) {
  const Tensor y = x.value().like(x.shape());
  scale({x.value(), factor, y});
  return make_result("scale", y, {x},
                     [factor](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
                         scale({dy, factor, dx, accumulate});
                       });
                     });
}

Variable gelu(const Variable& x, Gelu kind) {
  const Tensor y = x.value().like(x.shape());
  gelu_forward({x.value(), y, kind});
  return make_result("gelu", y, {x},
                     [x = x.value(), kind](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
                         gelu_backward({x, dy, dx, kind, accumulate});
                       });
                     });
}

Variable tanh(const Variable& x) {
  const Tensor y = x.value().like(x.shape());
  tanh_forward({x.value(), y});
  return make_result("tanh", y, {x}, [y](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
      tanh_backward({y, dy, dx, accumulate});
    });
  });
}

// The sum is f32 whatever x is: it may be a loss.
Variable sum(const Variable& x) {
  const Tensor y = Tensor::empty({}, DType::f32, MemoryCategory::activations, x.value().device());
  sum(x.value(), y);
  return make_result("sum", y, {x}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
    fill_from({dy, inputs[0].buffer, inputs[0].accumulate});
  });
}

Variable add_bias(const Variable& x, const Variable& bias) {
  check_rank("add_bias", "x", x, 2);
  check_rank("add_bias", "bias", bias, 1);
  check_shape("add_bias", "bias", bias.shape(), {x.shape()[1]}, "last dimension of x", x.shape());
  check_type("add_bias", "bias", bias, x.value().dtype(), "the type of x");
  const Tensor y = x.value().like(x.shape());
  add_bias({x.value(), bias.value(), y});
  return make_result(
      "add_bias", y, {x, bias}, [](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        inputs[0].pass(dy);
        inputs[1].write_or_add(
            DType::f32, [&](const Tensor& db, bool accumulate) { column_sum(dy, db, accumulate); });
      });
}

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

using Variables = std::vector<Variable>;

// Adds the samples: a shape each that is empty, one element, odd, longer than a vector; and the
// rows of a BERT-base layer, `columns` wide.
OpInfo at_all_shapes(OpInfo op, std::function<OpSample(const Shape&, uint64_t)> make,
                     int64_t columns = BertBase::H) {
  op.samples = [make](uint64_t seed) {
    return std::vector<OpSample>{make({0, 3}, seed), make({1}, seed), make({37}, seed),
                                 make({3, 67}, seed)};
  };
  op.bert_base = [make, columns](uint64_t seed) { return make({BertBase::T, columns}, seed); };
  return op;
}

std::string sizes_of(const Shape& shape) {
  return "shape=" + shape.str();
}

OpSample binary_sample(const Shape& shape, uint64_t seed,
                       Variable (*op)(const Variable&, const Variable&),
                       double (*plain)(double, double)) {
  SampleMaker make(seed);
  OpSample s;
  s.sizes = sizes_of(shape);
  s.inputs = {make.values(shape), make.values(shape)};
  s.forward = [op](const Variables& in) { return op(in[0], in[1]); };
  s.reference = [plain](const std::vector<Doubles>& in) {
    Doubles y(in[0].size());
    for (size_t i = 0; i < y.size(); ++i) y[i] = plain(in[0][i], in[1][i]);
    return y;
  };
  return s;
}

OpSample add_sample(const Shape& shape, uint64_t seed) {
  OpSample s = binary_sample(shape, seed, add, [](double a, double b) { return a + b; });
  const Tensor& x = s.inputs[0];
  s.forward_cost = add_forward_cost({x, x, x});
  s.backward_cost = cast_cost({x, x}) + cast_cost({x, x});  // into leaves; shared elsewhere
  return s;
}

OpSample multiply_sample(const Shape& shape, uint64_t seed) {
  OpSample s = binary_sample(shape, seed, multiply, [](double a, double b) { return a * b; });
  const Tensor& x = s.inputs[0];
  s.forward_cost = multiply_cost({x, x, x});
  s.backward_cost = s.forward_cost + s.forward_cost;
  return s;
}

// y = f(x), element by element.
OpSample unary_sample(const Shape& shape, uint64_t seed,
                      std::function<Variable(const Variable&)> op,
                      std::function<double(double)> plain) {
  SampleMaker make(seed);
  OpSample s;
  s.sizes = sizes_of(shape);
  // An error is relative to the largest gradient: one element alone stays where slopes are large.
  const bool alone = shape.numel() == 1;
  s.inputs = {make.values(shape, alone ? 0.4 : 1.5, alone ? 1 : 0)};
  s.forward = [op](const Variables& in) { return op(in[0]); };
  s.reference = [plain](const std::vector<Doubles>& in) { return plain::map(in[0], plain); };
  return s;
}

OpSample scale_sample(const Shape& shape, uint64_t seed) {
  OpSample s = unary_sample(
      shape, seed, [](const Variable& x) { return scale(x, -2.5f); },
      [](double x) { return -2.5 * x; });
  s.forward_cost = s.backward_cost = scale_cost({s.inputs[0], 1, s.inputs[0]});
  return s;
}

OpSample gelu_sample(const Shape& shape, uint64_t seed, Gelu kind) {
  OpSample s = unary_sample(
      shape, seed, [kind](const Variable& x) { return gelu(x, kind); },
      [kind](double x) { return plain::gelu(x, kind); });
  s.sizes += kind == Gelu::erf ? " erf" : " tanh";
  const Tensor& x = s.inputs[0];
  s.forward_cost = gelu_forward_cost({x, x});
  s.backward_cost = gelu_backward_cost({x, x, x});
  return s;
}

OpSample tanh_sample(const Shape& shape, uint64_t seed) {
  OpSample s = unary_sample(
      shape, seed, [](const Variable& x) { return tanh(x); },
      [](double x) { return std::tanh(x); });
  const Tensor& x = s.inputs[0];
  s.forward_cost = tanh_forward_cost({x, x});
  s.backward_cost = tanh_backward_cost({x, x, x});
  return s;
}

OpSample sum_sample(const Shape& shape, uint64_t seed) {
  OpSample s = unary_sample(shape, seed, [](const Variable& x) { return sum(x); }, {});
  s.reference = [](const std::vector<Doubles>& in) {
    return Doubles{std::accumulate(in[0].begin(), in[0].end(), 0.0)};
  };
  const double n = static_cast<double>(shape.numel());
  s.forward_cost = moved(n, n);
  s.backward_cost = moved(n);
  return s;
}

OpSample add_bias_sample(int64_t T, int64_t H, uint64_t seed) {
  SampleMaker make(seed);
  OpSample s;
  s.sizes = fmt::format("T={} H={}", T, H);
  s.inputs = {make.values({T, H}), make.values({H})};
  s.forward = [](const Variables& in) { return add_bias(in[0], in[1]); };
  s.reference = [](const std::vector<Doubles>& in) {
    Doubles y = in[0];
    for (size_t i = 0; i < y.size(); ++i) y[i] += in[1][i % in[1].size()];
    return y;
  };
  const double n = static_cast<double>(T * H);
  s.forward_cost = add_bias_cost({s.inputs[0], s.inputs[1], s.inputs[0]});
  s.backward_cost = moved(3 * n + H, n);  // a copy, and sums over columns
  return s;
}

}  // namespace

OpInfo add_info() {
  return at_all_shapes({"add",
                        "y = a + b",
                        "a, b, y any one shape",
                        "nothing",
                        {"a", "b"},
                        ToleranceClass::elementwise,
                        {},
                        {}},
                       add_sample);
}

OpInfo multiply_info() {
  return at_all_shapes({"multiply",
                        "y = a * b",
                        "a, b, y any one shape",
                        "a, b",
                        {"a", "b"},
                        ToleranceClass::elementwise,
                        {},
                        {}},
                       multiply_sample);
}

OpInfo scale_info() {
  return at_all_shapes({"scale",
                        "y = factor * x",
                        "x, y any one shape",
                        "nothing",
                        {"x"},
                        ToleranceClass::elementwise,
                        {},
                        {}},
                       scale_sample);
}

OpInfo gelu_info() {
  const auto at = [](Gelu kind) {
    return [kind](const Shape& shape, uint64_t seed) { return gelu_sample(shape, seed, kind); };
  };
  OpInfo op = at_all_shapes(
      {"gelu",
       "y = x/2 (1 + erf(x/sqrt 2)), or x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
       "x, y any one shape",
       "x",
       {"x"},
       ToleranceClass::elementwise,
       {},
       {}},
      at(Gelu::erf), BertBase::F);
  const auto approximate = at_all_shapes(op, at(Gelu::tanh)).samples;
  op.samples = [exact = op.samples, approximate](uint64_t seed) {
    std::vector<OpSample> samples = exact(seed);
    for (OpSample& sample : approximate(seed)) samples.push_back(std::move(sample));
    return samples;
  };
  return op;
}

OpInfo tanh_info() {
  return at_all_shapes({"tanh",
                        "y = tanh(x)",
                        "x, y any one shape",
                        "y",
                        {"x"},
                        ToleranceClass::elementwise,
                        {},
                        {}},
                       tanh_sample);
}

OpInfo sum_info() {
  return at_all_shapes({"sum",
                        "y = sum of all x",
                        "x any shape; y []",
                        "nothing",
                        {"x"},
                        ToleranceClass::reduction,
                        {},
                        {}},
                       sum_sample);
}

OpInfo add_bias_info() {
  return {"add_bias",
          "y[t, h] = x[t, h] + bias[h]",
          "x, y [T, H]; bias [H]",
          "nothing",
          {"x", "bias"},
          ToleranceClass::elementwise,
          [](uint64_t seed) {
            return std::vector<OpSample>{add_bias_sample(0, 3, seed), add_bias_sample(1, 1, seed),
                                         add_bias_sample(37, 19, seed)};
          },
          [](uint64_t seed) { return add_bias_sample(BertBase::T, BertBase::H, seed); }};
}

}  // namespace minibert
