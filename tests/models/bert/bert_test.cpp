// bert_test.cpp: what holds for any BERT: its size, its start, what may not change its results.
// Values are compared with Transformers' in parity_test.cpp.
#include "models/bert/bert.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

// Published totals for V = 30,522 and 512 positions : 110,106,428 and 336,226,108.
TEST(BertModel, HasThePublishedNumberOfParameters) {
  const auto count = [](const char* name) {
    return BertForPreTraining(BertConfig::named(name), ModelUse::inference)
        .arena()
        .table()
        .parameters();
  };
  EXPECT_EQ(count("bert-base"), 110'106'428);
  EXPECT_EQ(count("bert-large"), 336'226'108);
}

}  // namespace
}  // namespace minibert
