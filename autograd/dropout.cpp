// dropout.cpp: dropout on hidden rows. Nothing is saved: the mask is a function of a counter
// (core/philox.h), so backward draws it again. In BERT most dropout is inside add_norm and
// attention; this op stands after the embeddings and before a classifier. Kernel:
// core/kernels/elementwise.h. Test: ctest -R autograd_op_info.
#include "autograd/check.h"
#include "autograd/op_samples.h"
#include "autograd/ops.h"
#include "core/kernels/elementwise.h"

namespace minibert {

Variable dropout(const Variable& x, const RowPlaces& places, const Dropout& dropout) {
  check_rank("dropout", "x", x, 2);
  if (!dropout.active()) return x;
  check_index("dropout", "position", places.position, x.shape()[0], "row of x");
  check_index("dropout", "row_sample", places.row_sample, x.shape()[0], "row of x");
  const Tensor y = x.value().like(x.shape());
  dropout_rows({x.value(), places.position, places.row_sample, dropout, y});
  return make_result(
      "dropout", y, {x}, [places, dropout](const Tensor& dy, std::vector<GradientTarget>& inputs) {
        inputs[0].write_or_add(dy.dtype(), [&](const Tensor& dx, bool accumulate) {
          dropout_rows({dy, places.position, places.row_sample, dropout, dx, accumulate});
        });
      });
}

// ---- OpInfo ------------------------------------------------------------------------------------
namespace {

OpSample dropout_sample(int64_t T, int64_t H, float p, uint64_t seed) {
  SampleMaker make(seed);
  const RowPlaces places = make.places(T);
  const Dropout site = make.dropout(p);
  OpSample s;
  s.sizes = fmt::format("T={} H={} p={}", T, H, p);
  s.inputs = {make.values({T, H})};
  s.forward = [=](const std::vector<Variable>& in) { return dropout(in[0], places, site); };
  s.reference = [=](const std::vector<Doubles>& in) {
    return plain::dropout(in[0], T, H, places, site);
  };
  s.forward_cost = s.backward_cost =
      dropout_rows_cost({s.inputs[0], places.position, places.row_sample, site, s.inputs[0]});
  return s;
}

}  // namespace

OpInfo dropout_info() {
  return {"dropout",
          "y[t, h] = keep(t, h) ? x[t, h] / (1 - p) : 0",
          "x, y [T, H]",
          "nothing (the mask is drawn again)",
          {"x"},
          ToleranceClass::elementwise,
          [](uint64_t seed) {
            return std::vector<OpSample>{
                dropout_sample(0, 5, 0.1f, seed), dropout_sample(1, 1, 0.5f, seed),
                dropout_sample(13, 37, 0.1f, seed), dropout_sample(5, 8, 0, seed)};
          },
          [](uint64_t seed) { return dropout_sample(BertBase::T, BertBase::H, 0.1f, seed); }};
}

}  // namespace minibert
