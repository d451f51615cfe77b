// classification_test.cpp: accuracy and macro F1 by hand-worked values, as scikit-learn's
// f1_score(average="macro") gives them.
#include "models/bert/classification.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace minibert {
namespace {

using Classes = std::vector<int32_t>;

TEST(ClassScores, AreMeansOverTextsAndOverClasses) {
  // Class 0: 2 of 2 found, 1 guessed wrongly: F1 = 4/5. Class 1: 1 of 3 found, none wrongly: 1/2.
  // Class 2 is guessed once, wrongly: 0. Class 3 does not occur.
  const ClassScores scores =
      score_classes(Classes{0, 0, 0, 1, 2}, Classes{0, 0, 1, 1, 1}, /* classes= */ 4);
  EXPECT_DOUBLE_EQ(scores.accuracy, 0.6);
  EXPECT_DOUBLE_EQ(scores.macro_f1, (0.8 + 0.5 + 0) / 3);
  EXPECT_EQ(scores.texts, 5);
  EXPECT_EQ(to_json(scores).find("{\"accuracy\": 0.6, \"macro_f1\": "), 0u);
}

TEST(ClassScores, OfNothingAreZero) {
  EXPECT_EQ(score_classes(Classes{}, Classes{}, 3).accuracy, 0);
  EXPECT_EQ(score_classes(Classes{}, Classes{}, 3).macro_f1, 0);
  EXPECT_THROW(score_classes(Classes{1}, Classes{}, 3), UsageError);
}

}  // namespace
}  // namespace minibert
