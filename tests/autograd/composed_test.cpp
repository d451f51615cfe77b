// composed_test.cpp: each fused op equals its twin made of simple ops, forward and all gradients,
// in f32, bf16 and f16.
#include "autograd/composed.h"

#include <gtest/gtest.h>

#include "autograd/gradcheck.h"
#include "autograd/op_info.h"
#include "autograd/tape.h"
#include "tests/autograd/samples.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::floats_of;
using testing::leaves_of;
using testing::OpCase;
using testing::Tolerance;

class FusedOp : public ::testing::TestWithParam<OpCase> {
 protected:
  std::vector<OpSample> samples() const {
    return GetParam().op.samples(7, GetParam().dtype, Device::cpu);
  }
};

TEST_P(FusedOp, HasTheResultOfItsTwin) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    const Tensor fused = sample.forward(leaves_of(sample)).value(),
                 twin = sample.composed(leaves_of(sample)).value();
    const auto expected = testing::expected_of(GetParam(), sample, fused.dtype());
    EXPECT_EQ(fused.dtype(), twin.dtype());
    EXPECT_TRUE(testing::near("y", floats_of(fused), floats_of(twin), expected.tolerance));
  }
}

// op_info_test.cpp compares the fused op's gradients with the same differences.
TEST_P(FusedOp, TheTwinHasTheGradientsOfTheFormula) {
  std::vector<Role> roles;
  for (const OpInput& input : GetParam().op.inputs) roles.push_back(input.role);
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    for (const GradcheckResult& result :
         gradcheck(sample.composed, sample.inputs, sample.reference, {}, roles))
      EXPECT_TRUE(result.passed()) << result.str();
  }
}

TEST_P(FusedOp, HasTheGradientsOfItsTwinInF32) {
  if (GetParam().dtype != DType::f32) return;
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    const auto fused_leaves = leaves_of(sample), twin_leaves = leaves_of(sample);
    const Variable fused = sample.forward(fused_leaves), twin = sample.composed(twin_leaves);
    const Tensor dy = fused.value().clone();
    run_tape(fused, dy, {}, true);
    run_tape(twin, dy, {}, true);
    for (size_t i = 0; i < fused_leaves.size(); ++i) {
      EXPECT_TRUE(testing::near(GetParam().op.inputs[i].name, fused_leaves[i].grad(),
                                twin_leaves[i].grad(), Tolerance::gradient));
    }
  }
}

std::vector<OpInfo> fused_ops() {
  std::vector<OpInfo> result;
  for (const OpInfo& op : all_ops())
    if (op.samples(1, DType::f32, Device::cpu)[0].composed) result.push_back(op);
  return result;
}

INSTANTIATE_TEST_SUITE_P(Composed, FusedOp, ::testing::ValuesIn(testing::in_each_type(fused_ops())),
                         testing::name_of_case);

TEST(Composed, EveryFusedOpHasATwin) {
  std::vector<std::string> names;
  for (const OpInfo& op : fused_ops()) names.push_back(op.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"linear_gelu", "linear_tanh", "add_norm", "linear_add_norm",
                                      "feed_forward_add_norm", "qkv_attention", "masked_lm_loss"}));
}

}  // namespace
}  // namespace minibert
