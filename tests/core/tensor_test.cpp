// tensor_test.cpp: shapes, slices and sharing of core/tensor.h, and its errors.
#include "core/tensor.h"

#include <vector>

#include <gtest/gtest.h>

#include "core/device_value.h"
#include "core/error.h"

namespace minibert {
namespace {

Tensor counting(Shape shape) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return Tensor::from<float>(values, shape);
}

TEST(Tensor, DefaultIsUndefinedAndScalarHasOneElement) {
  EXPECT_FALSE(Tensor().defined());
  const Tensor scalar = Tensor::zeros({});
  EXPECT_EQ(scalar.rank(), 0);
  EXPECT_EQ(scalar.numel(), 1);
  EXPECT_EQ(scalar.item(), 0.0f);
}

TEST(Tensor, EmptyDimensionsHaveNoElements) {
  const Tensor t = Tensor::empty({0, 768});
  EXPECT_TRUE(t.defined());
  EXPECT_EQ(t.numel(), 0);
  EXPECT_EQ(t.rows(0, 0).numel(), 0);
  t.fill_zero();
}

TEST(Tensor, RowsAndReshapeShareStorage) {
  const Tensor t = counting({4, 3});
  const Tensor middle = t.rows(1, 2);
  EXPECT_EQ(middle.shape(), Shape({2, 3}));
  EXPECT_EQ(middle.data<float>()[0], 3.0f);
  middle.data<float>()[0] = -1.0f;
  EXPECT_EQ(t.reshape({12}).data<float>()[3], -1.0f);
}

TEST(Tensor, CloneDoesNotShareStorage) {
  const Tensor t = counting({5});
  const Tensor copy = t.clone();
  copy.data<float>()[0] = 9.0f;
  EXPECT_EQ(t.data<float>()[0], 0.0f);
  EXPECT_EQ(copy.data<float>()[4], 4.0f);
}

TEST(Tensor, SliceOutlivesItsParent) {
  Tensor tail;
  {
    const Tensor t = counting({100});
    tail = t.slice(98, {2});
  }
  EXPECT_EQ(tail.data<float>()[1], 99.0f);
}

TEST(Tensor, DataIsAlignedTo64Bytes) {
  for (int64_t n : {1, 3, 17, 1000, 5000}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(Tensor::empty({n}).raw()) % 64, 0u) << n;
  }
}

TEST(Tensor, ErrorsShowBothShapes) {
  const Tensor t = counting({4, 3});
  try {
    t.reshape({5, 3});
    FAIL() << "reshape to another size was accepted";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("[5, 3]"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("[4, 3]"), std::string::npos) << error.what();
  }
  EXPECT_THROW(t.rows(3, 2), UsageError);
  EXPECT_THROW(t.rows(-1, 1), UsageError);
  EXPECT_THROW(t.slice(11, {2}), UsageError);
  EXPECT_THROW(Tensor::empty({2, -1}), UsageError);
  EXPECT_THROW(Shape({1, 1, 1, 1, 1}), UsageError);
  EXPECT_THROW(t.copy_from(counting({12})), UsageError);
  EXPECT_THROW(t.item(), UsageError);
}

TEST(Tensor, ReadingAsAnotherTypeIsOurBug) {
  EXPECT_THROW(counting({2}).data<int32_t>(), InternalError);
}

TEST(Operand, SeesWhatTheTensorIs) {
  const Tensor t = Tensor::zeros({3, 4}, DType::bf16);
  const Operand rows = t.rows(1, 2);
  EXPECT_EQ(rows.rank(), 2);
  EXPECT_EQ(rows.dim(0), 2);
  EXPECT_EQ(rows.numel(), 8);
  EXPECT_EQ(rows.bytes(), 16);
  EXPECT_EQ(rows.dtype(), DType::bf16);
  EXPECT_EQ(rows.data<bf16>(), t.data<bf16>() + 4);
  EXPECT_THROW(rows.data<float>(), InternalError);
  const Operand nothing = Tensor();
  EXPECT_FALSE(nothing.defined());
  EXPECT_EQ(nothing.data_or_null<float>(), nullptr);
}

TEST(DeviceValue, ReadsBackWhatWasWritten) {
  struct Pair {
    int64_t a = 3;
    double b = 0.5;
  };
  const DeviceValue<Pair> value;
  EXPECT_EQ(value.read().a, 3);
  value.write({-1, 2.5});
  EXPECT_EQ(value.read().a, -1);
  EXPECT_EQ(value.get()->b, 2.5);
}

}  // namespace
}  // namespace minibert
