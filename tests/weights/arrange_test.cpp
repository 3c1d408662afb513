// Layout and dtype as ATen would make them, bit for bit.
#include "weights/arrange.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace emulsion::weights {
namespace {

Tensor by_aten(const Tensor& value, at::ScalarType dtype) {
  const auto format = value.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  return value.to(dtype).contiguous(format);
}

TEST(ArrangeTest, EveryShapeAndDtypeComesOutAsAtenMakesIt) {
  const std::vector<std::vector<int64_t>> shapes = {{6, 21, 3, 3}, {40, 320, 3, 3}, {2, 9000, 3, 3}, {5, 4, 1, 1}, {3, 7, 5, 2},
                                                    {1, 17, 3, 3}, {4, 3, 16, 16},  {0, 4, 3, 3},    {300, 400},   {11}, {}};
  const at::ScalarType dtypes[] = {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble, at::kFloat8_e4m3fn};
  for (const auto& shape : shapes) {
    const Tensor numbers = at::randn(shape);
    for (const at::ScalarType from : dtypes) {
      for (const at::ScalarType to : dtypes) {
        const Tensor value = numbers.to(from), made = arranged(value, to), expected = by_aten(value, to);
        EXPECT_EQ(made.scalar_type(), to);
        EXPECT_TRUE(made.is_contiguous(shape.size() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous));
        const auto bits = [](const Tensor& t) { return t.contiguous().flatten().view(at::kByte); };
        EXPECT_TRUE(at::equal(bits(made), bits(expected))) << made.sizes() << " " << from << " " << to;
      }
    }
  }
}

TEST(ArrangeTest, WhatLiesAsNeededStaysWhereItIs) {
  const Tensor matrix = at::randn({4, 6}), kernel = at::randn({4, 6, 3, 3}), points = at::randn({4, 6, 1, 1});
  EXPECT_TRUE(arranged(matrix, at::kFloat).is_alias_of(matrix));
  EXPECT_TRUE(arranged(matrix, at::ScalarType::Undefined).is_alias_of(matrix));
  EXPECT_TRUE(arranged(points, at::kFloat).is_alias_of(points));
  EXPECT_FALSE(arranged(kernel, at::kFloat).is_alias_of(kernel));
  EXPECT_TRUE(arranged(matrix.t(), at::kFloat).is_contiguous());
  const Tensor last = kernel.contiguous(at::MemoryFormat::ChannelsLast);
  EXPECT_TRUE(arranged(last, at::kFloat).is_alias_of(last));
}

}  // namespace
}  // namespace emulsion::weights
