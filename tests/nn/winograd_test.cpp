// Winograd's convolution against the plain sum in float64, on every path of this machine.
#include "nn/winograd.h"

#include <gtest/gtest.h>

#include "core/operator_profile.h"
#include "nn/attention_tiled.h"
#include "nn/convolution_cases.h"

namespace emulsion::nn {
namespace {

// Odd and even sides, pictures smaller than a tile, channels beside the widths of a vector and of a register block.
const ConvolutionCase kConvolutionCases[] = {
    {1, 1, 1, 1, 1},      {2, 3, 5, 2, 2},     {1, 4, 4, 3, 1},          {3, 8, 16, 5, 4},      {2, 17, 33, 7, 6},
    {16, 32, 16, 4, 4},   {1, 64, 64, 16, 16}, {2, 48, 20, 9, 31, false}, {1, 130, 40, 33, 17}, {1, 16, 300, 12, 10},
    {1, 320, 16, 8, 8},
};

Function by_winograd(const std::string& path) {
  return [path](const Inputs& in) { return winograd_convolution(in[0], in[1], bias_of(in), path); };
}

// 1e-5 of the largest value: a sum of up to 9 * 320 products in float32, and the transforms' additions before and after.
TEST(WinogradTest, IsTheSumForwardAndBackward) {
  at::manual_seed(1);
  for (const std::string& path : tile_paths(at::kFloat)) {
    for (const ConvolutionCase& c : kConvolutionCases) {
      expect_same(by_winograd(path), plain_sum, convolution_inputs(c), at::kFloat, 1e-5, name(c, path));
    }
  }
}

TEST(WinogradTest, LargePicturesInPartsAreTheSum) {
  at::manual_seed(2);
  const ConvolutionCase c = {1, 256, 256, 100, 90};  // more tiles than a part of the weight's gradient holds
  expect_same(by_winograd(tile_paths(at::kFloat).front()), plain_sum, convolution_inputs(c), at::kFloat, 1e-5, name(c, ""));
}

TEST(WinogradTest, LayoutsGiveTheSameBits) {
  at::manual_seed(3);
  const Inputs in = convolution_inputs({2, 24, 40, 6, 8});
  const Function ours = by_winograd(tile_paths(at::kFloat).front());
  const Tensor cotangent = at::randn({2, 40, 6, 8});
  Inputs contiguous;
  for (const Tensor& x : in) contiguous.push_back(x.contiguous());
  const Inputs a = run(ours, cast(in, at::kFloat), cotangent), b = run(ours, cast(contiguous, at::kFloat), cotangent);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
}

TEST(WinogradTest, TheNumberOfThreadsChangesNoBit) {
  at::manual_seed(4);
  const int before = at::get_num_threads();
  const ConvolutionCase c = {3, 40, 56, 14, 18};
  const Inputs in = convolution_inputs(c);
  const Tensor cotangent = at::randn({c.batch, c.out, c.height, c.width});
  const Function ours = by_winograd(tile_paths(at::kFloat).front());
  at::set_num_threads(1);
  const Inputs one = run(ours, cast(in, at::kFloat), cotangent);
  for (const int threads : {2, 3, 40}) {
    at::set_num_threads(threads);
    const Inputs many = run(ours, cast(in, at::kFloat), cotangent);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], many[i])) << threads << " threads, result " << i;
  }
  at::set_num_threads(before);
}

TEST(WinogradTest, AFrozenWeightStillCarriesTheGradientToTheInput) {
  at::manual_seed(5);
  const Inputs in = convolution_inputs({1, 20, 30, 8, 6});
  const std::string path = tile_paths(at::kFloat).front();
  Tensor x = in[0].clone().requires_grad_(true), same = in[0].clone().requires_grad_(true);
  winograd_convolution(x, in[1], in[2], path).square().sum().backward();
  plain_sum({same, in[1], in[2]}).square().sum().backward();
  EXPECT_TRUE(test::close(x.grad(), same.grad(), 1e-5));
}

TEST(WinogradTest, FitsOnlyWhatItCanDo) {
  const auto fits = [](at::IntArrayRef x, at::IntArrayRef w, int64_t stride, int64_t padding, at::ScalarType dtype = at::kFloat) {
    return fits_winograd(at::empty(x, dtype), at::empty(w, dtype), stride, padding);
  };
  EXPECT_TRUE(fits({1, 64, 32, 32}, {64, 64, 3, 3}, 1, 1));
  EXPECT_FALSE(fits({1, 64, 32, 32}, {64, 64, 3, 3}, 2, 1));
  EXPECT_FALSE(fits({1, 64, 32, 32}, {64, 64, 3, 3}, 1, 0));
  EXPECT_FALSE(fits({1, 64, 32, 32}, {64, 64, 1, 1}, 1, 0));
  EXPECT_FALSE(fits({1, 4, 32, 32}, {64, 4, 3, 3}, 1, 1));
  EXPECT_FALSE(fits({1, 64, 2, 2}, {64, 64, 3, 3}, 1, 1));
  EXPECT_FALSE(fits({1, 64, 32, 32}, {64, 64, 3, 3}, 1, 1, at::kDouble));
}

TEST(WinogradTest, TheProfileCountsTheMultiplicationsThatAreLeft) {
  const Tensor x = at::randn({2, 16, 8, 8}).requires_grad_(true), w = at::randn({32, 16, 3, 3}).requires_grad_(true);
  OperatorProfile profile;
  winograd_convolution(x, w, {}, "portable").sum().backward();
  const double once = 2e-9 * 2 * 16 * 32 * (8 * 8 / 4) * 16;  // 16 per tile of 2 x 2
  const auto gflop = [&](const std::string& name) {
    for (const OperatorTime& row : profile.times()) {
      if (row.name == name) return row.gflop;
    }
    return 0.0;
  };
  EXPECT_NEAR(gflop("emulsion::convolution"), once, 1e-12);
  EXPECT_NEAR(gflop("emulsion::convolution_backward"), 2 * once, 1e-12);
}

TEST(WinogradTest, WrongShapesAndPathsAreNamed) {
  const Tensor x = at::zeros({1, 4, 8, 8});
  EXPECT_NE(test::error_message([&] { winograd_convolution(x, at::zeros({4, 5, 3, 3}), {}, "portable"); }).find("[4, 5, 3, 3]"),
            std::string::npos);
  EXPECT_NE(test::error_message([&] { winograd_convolution(x, at::zeros({4, 4, 3, 3}), {}, "abacus"); }).find("'abacus'"),
            std::string::npos);
}

}  // namespace
}  // namespace emulsion::nn
