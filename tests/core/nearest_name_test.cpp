// nearest_name_test.cpp: the name that a user probably meant.
#include "core/nearest_name.h"

#include <gtest/gtest.h>

namespace minibert {
namespace {

const std::vector<std::string> kNames = {"train", "tokenizer", "learning_rate", "warmup"};

TEST(NearestName, FindsTyposAndKeepsSilentOtherwise) {
  EXPECT_EQ(nearest_name("trian", kNames), "train");
  EXPECT_EQ(nearest_name("learning-rate", kNames), "learning_rate");
  EXPECT_EQ(nearest_name("warm_up", kNames), "warmup");
  EXPECT_EQ(nearest_name("LAMB", {"sgd", "lamb"}), "lamb");
  EXPECT_EQ(nearest_name("label", {"Text", "Label"}), "Label");
  EXPECT_EQ(nearest_name("quux", kNames), "");
  EXPECT_EQ(nearest_name("", kNames), "");
  EXPECT_EQ(nearest_name("train", {}), "");
  EXPECT_EQ(did_you_mean("trian", kNames), " Did you mean train?");
  EXPECT_EQ(did_you_mean("quux", kNames), "");
}

// Neighbours that changed places are one slip, not two replacements, as far as another name.
TEST(NearestName, TwoLettersThatChangedPlacesAreOneSlip) {
  EXPECT_EQ(nearest_name("cdua", {"cpu", "cuda"}), "cuda");
  EXPECT_EQ(nearest_name("bf61", {"fp16", "bf16"}), "bf16");
  EXPECT_EQ(nearest_name("lmab", {"lans", "lamb"}), "lamb");
}

}  // namespace
}  // namespace minibert
