// Convolutions of few pixels, as one product, against the plain sum in float64.
#include "nn/gathered_convolution.h"

#include <gtest/gtest.h>

#include "nn/convolution_cases.h"
#include "nn/linear.h"

namespace emulsion::nn {
namespace {

// 1e-5 of the largest value: a sum of up to 9 * 320 products in float32.
TEST(GatheredConvolutionTest, IsTheSumForwardAndBackward) {
  at::manual_seed(1);
  const Function ours = [](const Inputs& in) { return gathered_convolution(in[0], in[1], bias_of(in)); };
  const ConvolutionCase cases[] = {
      {1, 16, 16, 1, 1}, {2, 32, 48, 5, 2}, {1, 64, 16, 3, 1, false}, {3, 16, 32, 4, 7}, {1, 320, 160, 4, 4}, {1, 3, 5, 6, 4},
  };
  for (const ConvolutionCase& c : cases) expect_same(ours, plain_sum, convolution_inputs(c), at::kFloat, 1e-5, name(c, ""));
}

TEST(GatheredConvolutionTest, TakesFewPixelsAndWeightsThatNeedNoCopy) {
  const auto last = at::MemoryFormat::ChannelsLast;
  const auto fits = [&](at::IntArrayRef x, const Tensor& weight, int64_t stride = 1, int64_t padding = 1) {
    return fits_gathered_convolution(at::empty(x), weight, stride, padding);
  };
  const Tensor weight = at::empty({32, 64, 3, 3}).contiguous(last);
  const bool fast = fits({1, 64, 4, 4}, weight);
  EXPECT_EQ(fast, fits_tiled_linear(at::empty({1, 4, 4, 9 * 64}), at::empty({32, 9 * 64})));
  EXPECT_FALSE(fits({1, 64, 64, 64}, weight));
  EXPECT_FALSE(fits({1, 64, 4, 4}, weight, 2));
  EXPECT_FALSE(fits({1, 64, 4, 4}, weight, 1, 0));
  EXPECT_FALSE(fits({1, 64, 4, 4}, at::empty({32, 64, 3, 3})));
  EXPECT_FALSE(fits({1, 64, 4, 4}, at::empty({32, 64, 1, 1})));
  EXPECT_FALSE(fits({1, 10, 4, 4}, at::empty({32, 10, 3, 3}).contiguous(last)));
  EXPECT_FALSE(fits_gathered_convolution(at::empty({1, 64, 4, 4}, at::kDouble), weight, 1, 1));
}

}  // namespace
}  // namespace emulsion::nn
