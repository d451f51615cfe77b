// gather_rows.cpp: some rows of a matrix, in a given order: the masked rows for the MLM head, the
// first row of each sequence for the pooler. Kernel: core/kernels/copy.h.
// Test: ctest -R autograd_op_info.
#include <numeric>

#include "autograd/check.h"
#include "autograd/op_samples.h"
#include "autograd/ops.h"
#include "core/kernels/copy.h"

namespace minibert {
namespace {

// Adds to the gradient itself where it has dy's type, else (a leaf) by way of a tensor that has.
void backward(const Tensor& dy, const Tensor& row, const GradientTarget& target) {
  const auto add = [&](const Tensor& dx, bool accumulate) {
    scatter_add_rows({dy, row, dx, accumulate});
  };
  if (target.buffer.dtype() == dy.dtype()) return add(target.buffer, target.accumulate);
  target.write(dy.dtype(), [&](const Tensor& dx) { add(dx, false); });
}

}  // namespace

Variable gather_rows(const Variable& x, const Tensor& row) {
  check_rank("gather_rows", "x", x, 2);
  check_index("gather_rows", "row", row, row.numel(), "row of the result");
  const Tensor y = x.value().like({row.numel(), x.shape()[1]});
  gather_rows(GatherRows{x.value(), row, y});
  return make_result("gather_rows", y, {x},
                     [row](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       backward(dy, row, inputs[0]);
                     });
}

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

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

OpSample gather_rows_sample(int64_t T, int64_t H, int64_t P, uint64_t seed) {
  SampleMaker make(seed);
  const Tensor row = distinct_rows(make, P, T);
  OpSample s;
  s.sizes = fmt::format("T={} H={} P={}", T, H, P);
  s.inputs = {make.values({T, H})};
  s.forward = [row](const std::vector<Variable>& in) { return gather_rows(in[0], row); };
  s.reference = [=](const std::vector<Doubles>& in) {
    Doubles y(static_cast<size_t>(P * H));
    for (int64_t i = 0; i < P * H; ++i) {
      const int64_t from = row.data<int32_t>()[i / H];
      y[i] = from < 0 ? 0 : in[0][from * H + i % H];
    }
    return y;
  };
  s.forward_cost = moved(2.0 * P * H + P);
  s.backward_cost = moved(1.0 * T * H + 3.0 * P * H + P, 1.0 * P * H);
  return s;
}

}  // namespace

OpInfo gather_rows_info() {
  return {"gather_rows",
          "y[p] = x[row[p]], or 0 where row[p] is -1",
          "x [T, H]; row [P]; y [P, H]",
          "nothing but the indices",
          {"x"},
          ToleranceClass::exact,
          [](uint64_t seed) {
            return std::vector<OpSample>{gather_rows_sample(3, 4, 0, seed),
                                         gather_rows_sample(1, 1, 1, seed),
                                         gather_rows_sample(29, 13, 11, seed)};
          },
          [](uint64_t seed) {
            return gather_rows_sample(BertBase::T, BertBase::H, BertBase::P, seed);
          }};
}

}  // namespace minibert
