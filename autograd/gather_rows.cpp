// gather_rows.cpp: some rows of a matrix, in a given order: the masked rows for the MLM head, the
// first row of each sequence for the pooler. Kernel: core/kernels/copy.h.
// Test: ctest -R autograd_op_info.
#include "autograd/check.h"
#include "autograd/op_samples.h"
#include "autograd/ops.h"
#include "core/kernels/copy.h"

namespace minibert {

Variable gather_rows(const Variable& x, const Tensor& row) {
  check_rank("gather_rows", "x", x, 2);
  check_index("gather_rows", "row", row, row.numel(), "row of the result");
  Tensor y = Tensor::empty({row.numel(), x.shape()[1]});
  gather_rows(x.value(), row, y);
  return make_result("gather_rows", y, {x},
                     [row](const Tensor& dy, std::vector<GradientTarget>& inputs) {
                       scatter_add_rows(dy, row, inputs[0].buffer, inputs[0].accumulate);
                     });
}

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

OpSample gather_rows_sample(int64_t T, int64_t H, int64_t P, uint64_t seed) {
  SampleMaker make(seed);
  const Tensor row = make.indices(P, T);  // rows may repeat
  OpSample s;
  s.sizes = fmt::format("T={} H={} P={}", T, H, P);
  s.inputs = {make.values({T, H})};
  s.forward = [row](const std::vector<Variable>& in) { return gather_rows(in[0], row); };
  s.reference = [=](const std::vector<Doubles>& in) {
    Doubles y(static_cast<size_t>(P * H));
    for (int64_t i = 0; i < P * H; ++i) y[i] = in[0][row.data<int32_t>()[i / H] * H + i % H];
    return y;
  };
  s.forward_cost = moved(2.0 * P * H + P);
  s.backward_cost = moved(1.0 * T * H + 3.0 * P * H + P, 1.0 * P * H);
  return s;
}

}  // namespace

OpInfo gather_rows_info() {
  return {"gather_rows",
          "y[p] = x[row[p]]",
          "x [T, H]; row [P]; y [P, H]",
          "nothing but the indices",
          {"x"},
          ToleranceClass::exact,
          [](uint64_t seed) {
            return std::vector<OpSample>{gather_rows_sample(3, 4, 0, seed),
                                         gather_rows_sample(1, 1, 1, seed),
                                         gather_rows_sample(11, 13, 29, seed)};
          },
          [](uint64_t seed) {
            return gather_rows_sample(BertBase::T, BertBase::H, BertBase::P, seed);
          }};
}

}  // namespace minibert
