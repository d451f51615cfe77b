// op_info_test.cpp: every op on every sample of its OpInfo, in f32, bf16 and f16: forward against
// the formula in double, gradients against differences of that formula, threads, each gradient
// alone, the bytes it saves.
#include "autograd/op_info.h"

#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "core/allocator.h"
#include "core/parallel.h"
#include "tests/autograd/samples.h"
#include "tests/core/kernels/kernel_fixture.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::leaves_of;
using testing::OpCase;
using testing::result_and_gradients;
using testing::same_bits;

class EachOp : public ::testing::TestWithParam<OpCase> {
 protected:
  std::vector<OpSample> samples() const { return GetParam().samples(testing::kSeed); }
  const std::string& input(size_t i) const { return GetParam().op.inputs[i].name; }
};

TEST_P(EachOp, ForwardIsAsNearToTheFormulaAsPlainLoops) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    testing::expect_forward_as_near_as_plain_loops(GetParam(), sample);
  }
}

TEST_P(EachOp, GradientsMatchDifferencesOfTheFormula) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    testing::expect_gradients_of_the_formula(GetParam(), sample);
  }
}

TEST_P(EachOp, ThreadsDoNotChangeBits) {
  const int threads = num_threads();
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    set_num_threads(1);
    const std::vector<Tensor> one = result_and_gradients(sample);
    set_num_threads(2);
    const std::vector<Tensor> two = result_and_gradients(sample);
    for (size_t i = 0; i < one.size(); ++i)
      EXPECT_TRUE(!one[i].defined() || same_bits(one[i], two[i])) << (i == 0 ? "y" : input(i - 1));
  }
  set_num_threads(threads);
}

TEST_P(EachOp, EachGradientAloneHasTheSameBitsAsAllTogether) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    testing::expect_each_gradient_alone_as_together(GetParam(), sample);
  }
}

TEST_P(EachOp, ForwardHasTheSameBitsWithAndWithoutRecording) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    const Tensor recorded = sample.forward(leaves_of(sample)).value();
    NoGrad guard;
    EXPECT_TRUE(same_bits(sample.forward(leaves_of(sample)).value(), recorded));
  }
}

TEST_P(EachOp, SavesTheBytesItSays) {
  for (const OpSample& sample : samples()) {
    SCOPED_TRACE(sample.sizes);
    const auto leaves = leaves_of(sample);
    const auto bytes = [] {  // without the scratch that threads keep
      const Allocator& allocator = Allocator::instance();
      return allocator.total().bytes - allocator.usage(MemoryCategory::workspace).bytes;
    };
    const int64_t before = bytes();
    const Variable y = sample.forward(leaves);
    const bool is_input = y.value().raw() == sample.inputs[0].raw();  // dropout of p = 0
    EXPECT_EQ(bytes() - before, sample.saved_bytes + (is_input ? 0 : y.value().bytes()));
    {
      NoGrad guard;
      const int64_t middle = bytes();
      const Variable z = sample.forward(leaves);
      EXPECT_EQ(bytes() - middle, is_input ? 0 : z.value().bytes()) << "saved under NoGrad";
    }
    run_tape(y, y.value().clone(), {}, true);
    int64_t gradients = 0;  // f32, whatever the compute type
    for (const Variable& v : leaves) gradients += v.defined() ? 4 * v.value().numel() : 0;
    EXPECT_EQ(bytes() - before, gradients + (is_input ? 0 : y.value().bytes()))
        << "backward kept what it should free";
  }
}

TEST_P(EachOp, IsDescribed) {
  const OpInfo& op = GetParam().op;
  for (const std::string& text : {op.name, op.formula, op.shapes, op.saved}) EXPECT_NE(text, "");
  EXPECT_GE(samples().size(), 3u);
  for (const OpSample& sample : samples()) {
    ASSERT_EQ(sample.inputs.size(), op.inputs.size());
    for (size_t i = 0; i < op.inputs.size(); ++i)
      if (sample.inputs[i].defined() && op.inputs[i].role == Role::activation) {
        EXPECT_EQ(sample.inputs[i].dtype(), GetParam().dtype) << input(i);
      }
  }
}

INSTANTIATE_TEST_SUITE_P(OpInfo, EachOp, ::testing::ValuesIn(testing::in_each_type(all_ops())),
                         testing::name_of_case);

TEST(OpList, NamesAreUniqueAndFoundAgain) {
  std::set<std::string> names;
  for (const OpInfo& op : all_ops()) {
    EXPECT_TRUE(names.insert(op.name).second) << op.name;
    EXPECT_EQ(&find_op(op.name), &op);
  }
}

TEST(OpList, HoldsExactlyTheOpsThatTheHeaderDeclares) {
  const char* source = std::getenv("MINIBERT_SOURCE_DIR");
  std::ifstream header(std::string(source ? source : ".") + "/autograd/ops.h");
  ASSERT_TRUE(header) << "run by ctest, or from the root of the tree";
  const std::regex declaration("^Variable (\\w+)\\(.*");
  std::set<std::string> declared, listed;
  std::smatch match;
  for (std::string line; std::getline(header, line);)
    if (std::regex_match(line, match, declaration)) declared.insert(match[1]);
  for (const OpInfo& op : all_ops()) listed.insert(op.name);
  EXPECT_EQ(listed, declared);
}

TEST(OpList, AnUnknownNameIsAnsweredWithTheNearest) {
  try {
    find_op("layernorm");
    FAIL() << "found";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("layer_norm"), std::string::npos) << error.what();
  }
}

TEST(OpList, SamplesDependOnTheSeedAlone) {
  const OpInfo& op = find_op("add_norm");
  const auto a = op.samples(1, DType::f32, Device::cpu)[2],
             b = op.samples(1, DType::f32, Device::cpu)[2],
             c = op.samples(2, DType::f32, Device::cpu)[2];
  EXPECT_TRUE(testing::near("same seed", a.inputs[0], b.inputs[0], 0));
  EXPECT_FALSE(testing::near("other seed", a.inputs[0], c.inputs[0], 0.1));
}

}  // namespace
}  // namespace minibert
