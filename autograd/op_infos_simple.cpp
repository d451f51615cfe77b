// op_infos_simple.cpp: what is known of the element-wise ops and of those on rows, beside their
// code: formula in double, random inputs at several sizes, what is saved. One function a sample,
// one entry an op in the list at the end, in the order of autograd/ops.h. Read through op_info.h.
// Easy to break: samples hold the sizes 0, 1 and odd ones, and an error is measured against the
// largest gradient of its tensor, so an element alone must stay where slopes are large.
// Test: ctest -R autograd_op_info.
#include <cmath>
#include <numeric>

#include "autograd/op_samples.h"
#include "autograd/ops.h"
#include "autograd/reference.h"
#include "core/kernels/embedding.h"

namespace minibert {
namespace {

using Inputs = std::vector<Doubles>;

// ---- Element-wise ------------------------------------------------------------------------------

OpSample binary_sample(SampleMaker make, const Shape& shape,
                       Variable (*op)(const Variable&, const Variable&),
                       double (*formula)(double, double)) {
  return {.sizes = shape.str(),
          .inputs = {make.values(shape), make.values(shape)},
          .forward = [op](const Variables& in) { return op(in[0], in[1]); },
          .reference = {[formula](const Inputs& in) {
            Doubles y(in[0].size());
            for (size_t i = 0; i < y.size(); ++i) y[i] = formula(in[0][i], in[1][i]);
            return y;
          }}};
}

OpSample add_sample(SampleMaker make, Shape shape) {
  return binary_sample(make, shape, add, [](double a, double b) { return a + b; });
}

OpSample multiply_sample(SampleMaker make, Shape shape) {
  return binary_sample(make, shape, multiply, [](double a, double b) { return a * b; });
}

// y = formula(x).
OpSample unary_sample(SampleMaker make, const Shape& shape,
                      std::function<Variable(const Variable&)> op, Step formula) {
  const bool alone = shape.numel() == 1;
  return {.sizes = shape.str(),
          .inputs = {make.values(shape, alone ? 0.4 : 1.5, alone ? 1 : 0)},
          .forward = [op](const Variables& in) { return op(in[0]); },
          .reference = {formula}};
}

OpSample scale_sample(SampleMaker make, Shape shape) {
  return unary_sample(
      make, shape, [](const Variable& x) { return scale(x, -2.5f); },
      plain::each([](double x) { return -2.5 * x; }));
}

OpSample gelu_sample(SampleMaker make, Shape shape, Gelu kind) {
  OpSample sample = unary_sample(
      make, shape, [kind](const Variable& x) { return gelu(x, kind); }, plain::gelu(kind));
  sample.sizes += kind == Gelu::erf ? " erf" : " tanh";
  return sample;
}

OpSample tanh_sample(SampleMaker make, Shape shape) {
  return unary_sample(
      make, shape, [](const Variable& x) { return tanh(x); }, plain::tanh());
}

OpSample sum_sample(SampleMaker make, Shape shape) {
  return {.sizes = shape.str(),
          .inputs = {make.values(shape)},
          .forward = [](const Variables& in) { return sum(in[0]); },
          .reference = {[](const Inputs& in) {
            return Doubles{std::accumulate(in[0].begin(), in[0].end(), 0.0)};
          }}};
}

OpSample dropout_sample(SampleMaker make, int64_t T, int64_t H, float p) {
  const RowPlaces places = make.places(T);
  const Dropout site = make.dropout(p);
  return {
      .sizes = fmt::format("T={} H={} p={}", T, H, p),
      .inputs = {make.values({T, H})},
      .forward = [places = make.there(places), site = make.there(site)](
                     const Variables& in) { return dropout(in[0], places, site); },
      .reference = {[=](const Inputs& in) { return plain::dropout(in[0], T, H, places, site); }}};
}

// ---- Rows --------------------------------------------------------------------------------------

OpSample add_bias_sample(SampleMaker make, int64_t T, int64_t H) {
  return {.sizes = fmt::format("T={} H={}", T, H),
          .inputs = {make.values({T, H}), make.values({H})},
          .forward = [](const Variables& in) { return add_bias(in[0], in[1]); },
          .reference = {[](const Inputs& in) { return plain::add_bias(in[0], in[1]); }}};
}

OpSample embedding_sample(SampleMaker make, int64_t T, int64_t H, std::vector<int64_t> rows) {
  std::vector<Tensor> tables, indices, indices_there;
  std::vector<RowGroups> groups;
  for (int64_t count : rows) {
    tables.push_back(make.values({count, H}));
    indices.push_back(make.indices(T, count));
    indices_there.push_back(make.there(indices.back()));
    groups.push_back(make.there(group_rows(indices.back().span<int32_t>(), count, T)));
  }
  tables.resize(EmbeddingForward::kMaxTables);  // the others are left out
  return {.sizes = fmt::format("T={} H={} rows={}", T, H, fmt::join(rows, ",")),
          .inputs = tables,
          .forward =
              [=](const Variables& in) {
                const auto count = static_cast<std::ptrdiff_t>(rows.size());
                return embedding({in.begin(), in.begin() + count}, indices_there, groups);
              },
          .reference = {[=](const Inputs& in) {
            Doubles y(static_cast<size_t>(T * H), 0.0);
            for (size_t k = 0; k < rows.size(); ++k)
              for (int64_t i = 0; i < T * H; ++i)
                y[i] += in[k][indices[k].data<int32_t>()[i / H] * H + i % H];
            return y;
          }}};
}

// P of T rows, each once; each fifth is no row.
Tensor distinct_rows(SampleMaker& make, int64_t P, int64_t T) {
  std::vector<int32_t> rows(static_cast<size_t>(T));
  std::iota(rows.begin(), rows.end(), 0);
  const Tensor row = make.indices(P, T);  // which of the rows left
  for (int64_t p = 0; p < P; ++p) {
    const auto other = static_cast<size_t>(p + row.data<int32_t>()[p] % (T - p));
    std::swap(rows[static_cast<size_t>(p)], rows[other]);
    row.data<int32_t>()[p] = p % 5 == 4 ? -1 : rows[static_cast<size_t>(p)];
  }
  return row;
}

OpSample gather_rows_sample(SampleMaker make, int64_t T, int64_t H, int64_t P) {
  const Tensor row = distinct_rows(make, P, T);
  return {
      .sizes = fmt::format("T={} H={} P={}", T, H, P),
      .inputs = {make.values({T, H})},
      .forward = [row = make.there(row)](const Variables& in) { return gather_rows(in[0], row); },
      .reference = {[=](const Inputs& in) {
        Doubles y(static_cast<size_t>(P * H));
        for (int64_t i = 0; i < P * H; ++i) {
          const int64_t from = row.data<int32_t>()[i / H];
          y[i] = from < 0 ? 0 : in[0][from * H + i % H];
        }
        return y;
      }}};
}

// ---- The list ----------------------------------------------------------------------------------

// Empty, one element, odd, longer than a vector.
std::vector<std::tuple<Shape>> shapes() {
  return {{{0, 3}}, {{1}}, {{37}}, {{3, 67}}};
}

std::vector<std::tuple<Shape, Gelu>> gelu_shapes() {
  std::vector<std::tuple<Shape, Gelu>> sizes;
  for (Gelu kind : {Gelu::erf, Gelu::tanh})
    for (const auto& [shape] : shapes()) sizes.emplace_back(shape, kind);
  return sizes;
}

}  // namespace

std::vector<OpInfo> simple_ops() {
  using enum ToleranceClass;
  using enum Role;
  return {
      {.name = "add",
       .formula = "y = a + b",
       .shapes = "a, b, y any one shape",
       .saved = "nothing",
       .inputs = {{"a", activation}, {"b", activation}},
       .tolerance = elementwise,
       .samples = at(add_sample, shapes()),
       .bert_base = once(add_sample, {{BertBase::T, BertBase::H}})},
      {.name = "multiply",
       .formula = "y = a * b",
       .shapes = "a, b, y any one shape",
       .saved = "a, b",
       .inputs = {{"a", activation}, {"b", activation}},
       .tolerance = elementwise,
       .samples = at(multiply_sample, shapes()),
       .bert_base = once(multiply_sample, {{BertBase::T, BertBase::H}})},
      {.name = "scale",
       .formula = "y = factor * x",
       .shapes = "x, y any one shape",
       .saved = "nothing",
       .inputs = {{"x", activation}},
       .tolerance = elementwise,
       .samples = at(scale_sample, shapes()),
       .bert_base = once(scale_sample, {{BertBase::T, BertBase::H}})},
      {.name = "gelu",
       .formula = "y = x/2 (1 + erf(x/sqrt 2)), or x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
       .shapes = "x, y any one shape",
       .saved = "x",
       .inputs = {{"x", activation}},
       .tolerance = elementwise,
       .samples = at(gelu_sample, gelu_shapes()),
       .bert_base = once(gelu_sample, {{BertBase::T, BertBase::F}, Gelu::erf})},
      {.name = "tanh",
       .formula = "y = tanh(x)",
       .shapes = "x, y any one shape",
       .saved = "y",
       .inputs = {{"x", activation}},
       .tolerance = elementwise,
       .samples = at(tanh_sample, shapes()),
       .bert_base = once(tanh_sample, {{BertBase::T, BertBase::H}})},
      {.name = "sum",
       .formula = "y = sum of all x",
       .shapes = "x any shape; y []",
       .saved = "nothing",
       .inputs = {{"x", activation}},
       .tolerance = reduction,
       .samples = at(sum_sample, shapes()),
       .bert_base = once(sum_sample, {{BertBase::T, BertBase::H}})},
      {.name = "dropout",
       .formula = "y[t, h] = keep(t, h) ? x[t, h] / (1 - p) : 0",
       .shapes = "x, y [T, H]",
       .saved = "nothing (the mask is drawn again)",
       .inputs = {{"x", activation}},
       .tolerance = elementwise,
       .samples = at(dropout_sample, {{0, 5, 0.1f}, {1, 1, 0.5f}, {13, 37, 0.1f}, {5, 8, 0}}),
       .bert_base = once(dropout_sample, {BertBase::T, BertBase::H, 0.1f})},
      {.name = "add_bias",
       .formula = "y[t, h] = x[t, h] + bias[h]",
       .shapes = "x, y [T, H]; bias [H]",
       .saved = "nothing",
       .inputs = {{"x", activation}, {"bias", parameter}},
       .tolerance = elementwise,
       .samples = at(add_bias_sample, {{0, 3}, {1, 1}, {37, 19}}),
       .bert_base = once(add_bias_sample, {BertBase::T, BertBase::H})},
      {.name = "embedding",
       .formula = "y[n] = sum over k of table_k[index_k[n]]",
       .shapes = "table_k [rows_k, H], up to three; index_k [N]; y [N, H]",
       .saved = "nothing but the groups of each index",
       .inputs = {{"table_0", parameter}, {"table_1", parameter}, {"table_2", parameter}},
       .tolerance = elementwise,
       .samples =
           at(embedding_sample, {{0, 4, {3}}, {1, 1, {1}}, {17, 9, {11, 2}}, {37, 5, {23, 2, 40}}}),
       .bert_base = once(embedding_sample, {BertBase::T, BertBase::H, {BertBase::V, 2, 512}})},
      {.name = "gather_rows",
       .formula = "y[p] = x[row[p]], or 0 where row[p] is -1",
       .shapes = "x [T, H]; row [P]; y [P, H]",
       .saved = "nothing but the indices",
       .inputs = {{"x", activation}},
       .tolerance = exact,
       .samples = at(gather_rows_sample, {{3, 4, 0}, {1, 1, 1}, {29, 13, 11}}),
       .bert_base = once(gather_rows_sample, {BertBase::T, BertBase::H, BertBase::P})},
  };
}

}  // namespace minibert
