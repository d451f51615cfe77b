// op_info_test.cpp: every op on every sample of its OpInfo: forward against the double reference,
// gradients against differences of that reference, each gradient alone, the bytes it saves.
#include "autograd/op_info.h"

#include <cstdlib>
#include <fstream>
#include <regex>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "autograd/gradcheck.h"
#include "autograd/tape.h"
#include "core/allocator.h"
#include "tests/autograd/samples.h"
#include "tests/tolerance.h"

namespace minibert {
namespace {

using testing::constants_of;
using testing::leaves_of;

constexpr uint64_t kSeed = 20190412;

double tolerance_of(ToleranceClass c) {
  using testing::Tolerance;
  switch (c) {
    case ToleranceClass::exact:
      return Tolerance::exact;
    case ToleranceClass::elementwise:
      return Tolerance::elementwise;
    case ToleranceClass::reduction:
      return Tolerance::reduction;
  }
  return 0;
}

std::vector<Doubles> doubles_of(const OpSample& sample) {
  std::vector<Doubles> result;
  for (const Tensor& t : sample.inputs) {
    result.emplace_back();
    if (t.defined()) result.back().assign(t.span<float>().begin(), t.span<float>().end());
  }
  return result;
}

class EachOp : public ::testing::TestWithParam<OpInfo> {};

TEST_P(EachOp, ForwardMatchesTheDoubleReference) {
  for (const OpSample& sample : GetParam().samples(kSeed)) {
    SCOPED_TRACE(sample.sizes);
    const Tensor y = sample.forward(constants_of(sample)).value();
    const Doubles expected = sample.reference(doubles_of(sample));
    const std::vector<float> rounded(expected.begin(), expected.end());
    EXPECT_TRUE(testing::near("y", y.span<float>(), rounded, tolerance_of(GetParam().tolerance)));
  }
}

TEST_P(EachOp, GradientsMatchDifferencesOfTheReference) {
  for (const OpSample& sample : GetParam().samples(kSeed)) {
    SCOPED_TRACE(sample.sizes);
    for (const GradcheckResult& result : gradcheck(sample, {kSeed}))
      EXPECT_TRUE(result.passed()) << result.str();
  }
}

// A backward that computes one gradient with the help of another's buffer breaks here.
TEST_P(EachOp, EachGradientAloneHasTheSameBitsAsAllTogether) {
  for (const OpSample& sample : GetParam().samples(kSeed)) {
    SCOPED_TRACE(sample.sizes);
    const auto all = leaves_of(sample);
    const Variable y = sample.forward(all);
    const Tensor dy = y.value().clone();
    run_tape(y, dy, all.front().defined() ? std::vector<Variable>{all.front()} : all, true);
    for (size_t i = 0; i < all.size(); ++i) {
      if (!all[i].defined()) continue;
      auto one = constants_of(sample);
      one[i] = Variable::leaf(sample.inputs[i]);
      run_tape(sample.forward(one), dy, {}, true);
      EXPECT_TRUE(testing::near(GetParam().inputs[i], one[i].grad(), all[i].grad(), 0));
    }
  }
}

TEST_P(EachOp, ForwardHasTheSameBitsWithAndWithoutRecording) {
  for (const OpSample& sample : GetParam().samples(kSeed)) {
    SCOPED_TRACE(sample.sizes);
    const Tensor recorded = sample.forward(leaves_of(sample)).value();
    NoGrad guard;
    EXPECT_TRUE(testing::near("y", sample.forward(leaves_of(sample)).value(), recorded, 0));
  }
}

TEST_P(EachOp, SavesTheBytesItSays) {
  for (const OpSample& sample : GetParam().samples(kSeed)) {
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
    int64_t gradients = 0;
    for (const Variable& v : leaves) gradients += v.defined() ? v.value().bytes() : 0;
    EXPECT_EQ(bytes() - before, gradients + (is_input ? 0 : y.value().bytes()))
        << "backward kept what it should free";
  }
}

TEST_P(EachOp, IsDescribed) {
  const OpInfo& op = GetParam();
  for (const std::string& text : {op.name, op.formula, op.shapes, op.saved}) EXPECT_NE(text, "");
  const auto samples = op.samples(kSeed);
  EXPECT_GE(samples.size(), 3u);
  for (const OpSample& sample : samples) EXPECT_EQ(sample.inputs.size(), op.inputs.size());
}

std::string name_of_case(const ::testing::TestParamInfo<OpInfo>& info) {
  return info.param.name;
}
INSTANTIATE_TEST_SUITE_P(OpInfo, EachOp, ::testing::ValuesIn(all_ops()), name_of_case);

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
  const auto a = op.samples(1)[2], b = op.samples(1)[2], c = op.samples(2)[2];
  EXPECT_TRUE(testing::near("same seed", a.inputs[0], b.inputs[0], 0));
  EXPECT_FALSE(testing::near("other seed", a.inputs[0], c.inputs[0], 0.1));
}

}  // namespace
}  // namespace minibert
