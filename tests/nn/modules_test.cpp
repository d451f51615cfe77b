// modules_test.cpp: the two walks over a tree of modules, and the encoder layer against the same
// layer written with simple ops. Values against PyTorch: tests/models/bert/parity_test.cpp.
#include "nn/modules.h"

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "core/allocator.h"
#include "tests/data_step.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::near;
using testing::Tolerance;

struct Model {
  Embedding words{5, 4, 8, {}};
  std::vector<EncoderLayer> layers;
  Model() { layers.emplace_back(4, 6, 2, 1e-5f, Gelu::erf); }
  void parameters(ParameterWalk& walk) {
    walk.child("words", words);
    walk.child("layers.0", layers[0]);
  }
};

struct Built {
  Model model;
  std::vector<Initializer> initializers;
  std::vector<Variable> leaves;
  Arena arena;

  explicit Built(bool gradients = true) : arena(declare()) {
    if (gradients) arena.with_gradients();
    ParameterWalk bind(arena, leaves);
    model.parameters(bind);
  }
  ParameterTable declare() {
    ParameterTable table;
    ParameterWalk walk(table, initializers);
    model.parameters(walk);
    return table;
  }
};

TEST(ParameterWalk, NamesFollowThePathAndHuggingFace) {
  const Built built;
  std::vector<std::string> names;
  for (const ParameterSlice& slice : built.arena.table().slices()) names.push_back(slice.name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "words.weight",
                       "layers.0.attention.self.query.weight",
                       "layers.0.attention.self.key.weight",
                       "layers.0.attention.self.value.weight",
                       "layers.0.attention.self.query.bias",
                       "layers.0.attention.self.key.bias",
                       "layers.0.attention.self.value.bias",
                       "layers.0.attention.output.dense.weight",
                       "layers.0.attention.output.dense.bias",
                       "layers.0.attention.output.LayerNorm.weight",
                       "layers.0.attention.output.LayerNorm.bias",
                       "layers.0.intermediate.dense.weight",
                       "layers.0.intermediate.dense.bias",
                       "layers.0.output.dense.weight",
                       "layers.0.output.dense.bias",
                       "layers.0.output.LayerNorm.weight",
                       "layers.0.output.LayerNorm.bias",
                   }));
}

TEST(ParameterWalk, LeavesViewTheArena) {
  const Built built;
  const ParameterTable& table = built.arena.table();
  const EncoderLayer& layer = built.model.layers[0];
  const auto address = [&](const Tensor& flat, const char* name) {
    return flat.data<float>() + table[table.find(name)].offset;
  };
  EXPECT_EQ(built.model.words.weight.shape(), (Shape{8, 4}));
  EXPECT_EQ(table[0].shape, (Shape{5, 4}));
  const Variable& qkv = layer.attention.self.weight;
  EXPECT_EQ(qkv.shape(), (Shape{12, 4}));
  EXPECT_EQ(qkv.name(), "layers.0.attention.self.query.weight+key.weight+value.weight");
  const std::string self = "layers.0.attention.self.";
  const float* first = address(built.arena.masters(), (self + "query.weight").c_str());
  EXPECT_EQ(qkv.value().data<float>(), first);
  EXPECT_EQ(address(built.arena.masters(), (self + "key.weight").c_str()), first + 16);
  EXPECT_EQ(address(built.arena.masters(), (self + "value.weight").c_str()), first + 32);
  const float* bias = address(built.arena.masters(), (self + "query.bias").c_str());
  EXPECT_EQ(layer.attention.self.bias.value().data<float>(), bias);
  EXPECT_EQ(address(built.arena.masters(), (self + "value.bias").c_str()), bias + 8);
  EXPECT_EQ(layer.output.layer_norm.bias.value().data<float>(),
            address(built.arena.masters(), "layers.0.output.LayerNorm.bias"));

  sum(layer.output.layer_norm.bias).backward();
  EXPECT_EQ(*address(built.arena.gradients(), "layers.0.output.LayerNorm.bias"), 1.0f);
}

TEST(ParameterWalk, RefusesTheSameNameTwice) {
  ParameterTable table;
  std::vector<Initializer> initializers;
  ParameterWalk walk(table, initializers);
  Linear linear{2, 3, {}, {}};
  walk.child("a", linear);
  EXPECT_THROW(walk.child("a", linear), UsageError);
}

/// Softmax attention of one sequence and one head, in double.
std::vector<double> attend(const std::vector<double>& q, const std::vector<double>& k,
                           const std::vector<double>& v, int S, int D) {
  std::vector<double> out(static_cast<size_t>(S * D), 0.0);
  for (int i = 0; i < S; ++i) {
    std::vector<double> weight(static_cast<size_t>(S));
    double total = 0;
    for (int j = 0; j < S; ++j) {
      double score = 0;
      for (int d = 0; d < D; ++d)
        score += q[static_cast<size_t>(i * D + d)] * k[static_cast<size_t>(j * D + d)];
      total += weight[static_cast<size_t>(j)] = std::exp(score / std::sqrt(double(D)));
    }
    for (int j = 0; j < S; ++j) {
      for (int d = 0; d < D; ++d) {
        out[static_cast<size_t>(i * D + d)] +=
            weight[static_cast<size_t>(j)] / total * v[static_cast<size_t>(j * D + d)];
      }
    }
  }
  return out;
}

/// x [rows, in] times weight [out, in] transposed, plus bias.
std::vector<double> affine(const std::vector<double>& x, const Variable& weight,
                           const Variable& bias) {
  const auto out = static_cast<size_t>(weight.shape()[0]),
             in = static_cast<size_t>(weight.shape()[1]);
  std::vector<double> y(x.size() / in * out);
  for (size_t t = 0; t < x.size() / in; ++t) {
    for (size_t o = 0; o < out; ++o) {
      double value = bias.value().data<float>()[o];
      for (size_t i = 0; i < in; ++i) {
        value += x[t * in + i] * weight.value().data<float>()[o * in + i];
      }
      y[t * out + o] = value;
    }
  }
  return y;
}

std::vector<double> normalise(const std::vector<double>& x, const LayerNorm& norm) {
  const auto H = static_cast<size_t>(norm.size);
  std::vector<double> y(x.size());
  for (size_t first = 0; first < x.size(); first += H) {
    double mean = 0, variance = 0;
    for (size_t h = 0; h < H; ++h) mean += x[first + h] / double(H);
    for (size_t h = 0; h < H; ++h) variance += std::pow(x[first + h] - mean, 2) / double(H);
    for (size_t h = 0; h < H; ++h) {
      y[first + h] = (x[first + h] - mean) / std::sqrt(variance + norm.eps) *
                         norm.weight.value().data<float>()[h] +
                     norm.bias.value().data<float>()[h];
    }
  }
  return y;
}

std::vector<double> plus(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

TEST(EncoderLayer, EqualsItsFormulaInDouble) {
  const Built built;
  RandomStream stream(5, StreamPurpose::user, 0);
  for (float& w : built.arena.masters().span<float>()) w = static_cast<float>(stream.normal());
  const EncoderLayer& layer = built.model.layers[0];
  const int S = 7, H = 4, A = 2, D = 2;
  std::vector<float> x32;
  for (int i = 0; i < S * H; ++i) x32.push_back(static_cast<float>(stream.normal()));
  const std::vector<double> x(x32.begin(), x32.end());

  const std::vector<double> qkv = affine(x, layer.attention.self.weight, layer.attention.self.bias);
  std::vector<double> context(x.size());
  for (int a = 0; a < A; ++a) {
    std::vector<double> part[3];
    for (int which = 0; which < 3; ++which) {
      for (int t = 0; t < S; ++t) {
        for (int d = 0; d < D; ++d) {
          part[which].push_back(qkv[static_cast<size_t>(t * 3 * H + which * H + a * D + d)]);
        }
      }
    }
    const std::vector<double> head = attend(part[0], part[1], part[2], S, D);
    for (int t = 0; t < S; ++t) {
      for (int d = 0; d < D; ++d)
        context[static_cast<size_t>(t * H + a * D + d)] = head[static_cast<size_t>(t * D + d)];
    }
  }
  const auto& output = layer.attention.output;
  const std::vector<double> attended = normalise(
      plus(affine(context, output.dense.weight, output.dense.bias), x), output.layer_norm);
  std::vector<double> expanded =
      affine(attended, layer.intermediate.dense.weight, layer.intermediate.dense.bias);
  for (double& value : expanded) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
  const std::vector<double> expected = normalise(
      plus(affine(expanded, layer.output.dense.weight, layer.output.dense.bias), attended),
      layer.output.layer_norm);

  std::vector<int32_t> cu = {0, S}, sample = {0}, position(S), row_sample(S, 0);
  for (int t = 0; t < S; ++t) position[static_cast<size_t>(t)] = t;
  const Variable y =
      layer(Variable(Tensor::from<float>(x32, {S, H})),
            {Tensor::from<int32_t>(cu, {2}), Tensor::from<int32_t>(sample, {1})},
            {Tensor::from<int32_t>(position, {S}), Tensor::from<int32_t>(row_sample, {S})}, {});
  const std::vector<float> expected32(expected.begin(), expected.end());
  EXPECT_TRUE(near("y", y.value().span<float>(), expected32, Tolerance::reduction));
}

// Rows come in any order; dropout is that of the whole. Row -1 is no row: nobody reads what it gives,
// and then it adds to no gradient.
TEST(EncoderLayer, SomeRowsAreThoseOfAllRowsWithTheirGradients) {
  const Built built;
  RandomStream stream(6, StreamPurpose::user, 0);
  for (float& w : built.arena.masters().span<float>()) w = static_cast<float>(stream.normal());
  const auto i32 = [](std::vector<int32_t> values) {
    return Tensor::from<int32_t>(values, {static_cast<int64_t>(values.size())});
  };
  const Sequences sequences{i32({0, 4, 5, 9}), i32({3, 70, 1})};
  const RowPlaces places{i32({0, 1, 2, 3, 0, 0, 1, 2, 3}), i32({3, 3, 3, 3, 70, 1, 1, 1, 1})};
  const auto site = [](DropoutPurpose purpose) {
    return make_dropout(0.4f, 9, testing::data_step(2), 0, purpose);
  };
  const LayerDropout dropout{site(DropoutPurpose::attention),
                             site(DropoutPurpose::attention_output),
                             site(DropoutPurpose::feed_forward)};
  Tensor x = Tensor::empty({9, 4});
  for (float& value : x.span<float>()) value = static_cast<float>(stream.normal());
  const PickedRows picked{i32({8, 0, -1, 2, 4}), {i32({3, 0, 0, 2, 0}), i32({1, 3, 0, 3, 70})}};
  const Tensor rows = i32({8, 0, 2, 4}), read = i32({0, 1, 3, 4});  // of all, of those picked
  const EncoderLayer& layer = built.model.layers[0];

  const auto gradients_of = [&](const std::function<Variable(const Variable&)>& rows_of,
                                Tensor& y) {
    for (const Variable& leaf : built.leaves) leaf.reset_grad();
    const Variable input = Variable::leaf(x);
    const Variable result = rows_of(input);
    y = result.value();
    sum(multiply(result, result)).backward(1.0f, built.leaves);
    return std::pair{input.grad().clone(), built.arena.gradients().clone()};
  };
  Tensor some, all;
  const auto got = gradients_of(
      [&](const Variable& in) {
        return gather_rows(layer(in, sequences, places, dropout, picked), read);
      },
      some);
  const auto expected = gradients_of(
      [&](const Variable& in) { return gather_rows(layer(in, sequences, places, dropout), rows); },
      all);
  EXPECT_TRUE(near("y", some, all, Tolerance::reduction));
  EXPECT_TRUE(near("dx", got.first, expected.first, Tolerance::gradient));
  EXPECT_TRUE(near("parameters' gradients", got.second, expected.second, Tolerance::gradient));
}

// A layer's two sums are written over the products that lead to them: no [T, H] buffer more.
TEST(DenseAddNorm, WritesTheSumOverItsProduct) {
  constexpr int64_t T = 64, H = 32;
  const auto activations = [] {
    return Allocator::instance().usage(MemoryCategory::activations).bytes;
  };
  DenseAddNorm module{{H, H, {}, {}}, {H, 1e-5f, {}, {}}};
  module.dense.weight = Variable::leaf(Tensor::zeros({H, H}));
  module.dense.bias = Variable::leaf(Tensor::zeros({H}));
  module.layer_norm.weight = Variable::leaf(Tensor::zeros({H}));
  module.layer_norm.bias = Variable::leaf(Tensor::zeros({H}));
  const Variable x = Variable::leaf(Tensor::zeros({T, H})), residual = x;
  const int64_t before = activations();
  const Variable y = module(x, residual, {}, {});
  EXPECT_EQ(activations() - before, 4 * (2 * T * H + 2 * T));  // the sum, y; mean, rstd
}

TEST(EncoderLayer, HoldsNoProductBesideItsSum) {
  constexpr int64_t T = 128, H = 64, kRows = 4 * T * H;  // bytes of [T, H]
  struct Layer {
    EncoderLayer layer{H, 1, 1, 1e-5f, Gelu::erf};
    void parameters(ParameterWalk& walk) { walk.child("layer", layer); }
  } model;
  ParameterTable table;
  std::vector<Initializer> initializers;
  ParameterWalk declare(table, initializers);
  model.parameters(declare);
  Arena arena(table);
  arena.with_gradients();
  std::vector<Variable> leaves;
  ParameterWalk bind(arena, leaves);
  model.parameters(bind);
  const Variable x = Variable::leaf(Tensor::zeros({T, H}));
  const auto ints = [](std::vector<int32_t> values) {
    return Tensor::from<int32_t>(values, {static_cast<int64_t>(values.size())});
  };
  const Sequences sequences{ints({0, T}), ints({0})};
  Allocator& allocator = Allocator::instance();
  const int64_t before = allocator.usage(MemoryCategory::activations).bytes;
  allocator.reset_peak();
  const Variable y = model.layer(x, sequences, {}, {});
  const MemoryUsage usage = allocator.usage(MemoryCategory::activations);
  // qkv (3), attention's result, two sums, two results; the rest is [T] or [T, 1].
  EXPECT_LT(usage.peak_bytes - before, 8 * kRows + kRows / 2);
  EXPECT_GE(usage.bytes - before, 8 * kRows);
}

}  // namespace
}  // namespace minibert
