// misspelt_test.cpp: a misspelt verb, flag or word gets the nearest one, in every verb, before anything
// that is required is asked for.
#include <gtest/gtest.h>

#include "tests/run_minibert.h"

namespace {

using minibert::testing::run_minibert;

void expect_meant(const std::string& arguments, const std::string& meant) {
  const auto got = run_minibert(arguments);
  EXPECT_EQ(got.code, 2) << arguments << "\n" << got.output;
  EXPECT_NE(got.output.find(meant), std::string::npos) << arguments << "\n" << got.output;
  EXPECT_EQ(got.output.find("is required"), std::string::npos) << arguments << "\n" << got.output;
}

TEST(Misspelt, AFlagOfEachVerbGetsTheNearest) {
  expect_meant("tokenizer train --vocab-sice 99 --output v.txt", "Did you mean --vocab-size?");
  expect_meant("tokenizer encode --vocb v.txt", "Did you mean --vocab?");
  expect_meant("data build --vocab v --ouput o t.txt", "Did you mean --output?");
  expect_meant("data inspect --jsn d", "Did you mean --json?");
  expect_meant("train --learning_rate 1e-3", "Did you mean --learning-rate?");
  expect_meant("verify-resume --kils 3", "Did you mean --kills?");
  expect_meant("report --ouptut p.html", "Did you mean --output?");
  expect_meant("compare a b --tolerence 0.1", "Did you mean --tolerance?");
  expect_meant("finetune squad --inti-from m", "Did you mean --init-from?");
  expect_meant("finetune classify --epoch 3", "Did you mean --epochs?");
  expect_meant("eval mlm --modle m --data d", "Did you mean --model?");
  expect_meant("eval squad --modle m --data d", "Did you mean --model?");
  expect_meant("eval classify --modle=m --data d", "Did you mean --model?");
  expect_meant("fill-mask --modle m '[MASK]'", "Did you mean --model?");
  expect_meant("embed --model m --poling mean a", "Did you mean --pooling?");
  expect_meant("env --jason", "Did you mean --json?");
  expect_meant("doctor --jsom", "Did you mean --json?");
  expect_meant("gradcheck --precison bf16", "Did you mean --precision?");
  expect_meant("bench gemm --tokns 3", "Did you mean --tokens?");
  expect_meant("plan --clustr h100", "Did you mean --cluster?");
}

TEST(Misspelt, AFlagOfTheProgramItself) {
  expect_meant("--vesrion",
               "minibert: there is no flag --vesrion. Did you mean --version? minibert --help");
}

/// CLI11 would take the next word for the value.
TEST(Misspelt, AnEmptyValueTakesNoOtherWord) {
  expect_meant("train --print-config --max-steps= --seed=3", "--max-steps= has no value");
  expect_meant("data build --vocab v --memory= t.txt", "--memory= has no value");
  const auto empty = run_minibert("train --print-config --init-from '' --seed=3");
  EXPECT_EQ(empty.code, 0) << empty.output;
}

TEST(Misspelt, OneDashOrATypographicOneIsMeantAsTwo) {
  expect_meant("eval mlm -model m --data d", "there is no flag -model. Did you mean --model?");
  expect_meant("train -learning-rate 1", "Did you mean --learning-rate?");
  expect_meant("eval mlm \u2013model m --data d", "Did you mean --model?");
  expect_meant("eval mlm \u2014model m --data d", "Did you mean --model?");
}

TEST(Misspelt, AFlagOfOtherProgramsGetsThoseThatHaveItsWords) {
  expect_meant("train --batch-size 8", "Did you mean --micro-batch-size or --global-batch-size");
}

TEST(Misspelt, AWordOfAListGetsTheNearest) {
  expect_meant("train --print-config --precision bf61", "Did you mean bf16?");
  expect_meant("train --print-config --optimizer lmab", "Did you mean lamb?");
  expect_meant("train --print-config --schedule liner", "Did you mean linear?");
  expect_meant("train --print-config --device cdua", "Did you mean cuda?");
  expect_meant("embed --model m --device cdua a", "Did you mean cuda?");
  expect_meant("embed --model m --pooling maen a", "Did you mean mean?");
  expect_meant("embed --model m --on-error stpo a",
               "--on-error is \"stpo\", expected one of: skip, stop. Did you mean stop?");
  expect_meant("data build --vocab v --output o --masking dynamc t", "Did you mean dynamic?");
  expect_meant("data build --vocab v --output o --format line t", "Did you mean lines?");
  expect_meant("bench gemm --dtype bf61", "Did you mean bf16?");
  expect_meant("trian", "Did you mean train?");
}

}  // namespace
