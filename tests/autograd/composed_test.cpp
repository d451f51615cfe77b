// composed_test.cpp: each fused op equals its twin made of simple ops, forward and all gradients.
#include "autograd/composed.h"

#include <gtest/gtest.h>

#include "autograd/op_info.h"
#include "autograd/tape.h"
#include "tests/autograd/samples.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::leaves_of;
using testing::Tolerance;

class FusedOp : public ::testing::TestWithParam<OpInfo> {};

TEST_P(FusedOp, EqualsItsComposedTwin) {
  for (const OpSample& sample : GetParam().samples(7)) {
    SCOPED_TRACE(sample.sizes);
    const auto fused_leaves = leaves_of(sample), twin_leaves = leaves_of(sample);
    const Variable fused = sample.forward(fused_leaves), twin = sample.composed(twin_leaves);
    EXPECT_TRUE(testing::near("y", fused.value(), twin.value(), Tolerance::reduction));
    const Tensor dy = fused.value().clone();
    run_tape(fused, dy, {}, true);
    run_tape(twin, dy, {}, true);
    for (size_t i = 0; i < fused_leaves.size(); ++i) {
      EXPECT_TRUE(testing::near(GetParam().inputs[i], fused_leaves[i].grad(), twin_leaves[i].grad(),
                                Tolerance::gradient));
    }
  }
}

std::vector<OpInfo> fused_ops() {
  std::vector<OpInfo> result;
  for (const OpInfo& op : all_ops())
    if (op.samples(1)[0].composed) result.push_back(op);
  return result;
}

std::string name_of_case(const ::testing::TestParamInfo<OpInfo>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(Composed, FusedOp, ::testing::ValuesIn(fused_ops()), name_of_case);

TEST(Composed, EveryFusedOpHasATwin) {
  std::vector<std::string> names;
  for (const OpInfo& op : fused_ops()) names.push_back(op.name);
  EXPECT_EQ(names, (std::vector<std::string>{"linear_gelu", "linear_tanh", "feed_forward",
                                             "add_norm", "qkv_attention", "masked_lm_loss"}));
}

}  // namespace
}  // namespace minibert
