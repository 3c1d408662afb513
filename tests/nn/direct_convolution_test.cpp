// Convolutions as shifted products against the plain sum in float64, on every path of this machine.
#include "nn/direct_convolution.h"

#include <gtest/gtest.h>

#include "core/operator_profile.h"
#include "nn/attention_tiled.h"
#include "nn/convolution_cases.h"

namespace emulsion::nn {
namespace {

// Sides from 1 on, several blocks of rows, panels of columns that are not full, sums in several groups of pieces.
const ConvolutionCase kDirectCases[] = {
    {1, 16, 16, 1, 1}, {2, 16, 48, 2, 3}, {1, 32, 16, 5, 1},         {3, 48, 80, 9, 7},
    {1, 64, 64, 8, 8}, {2, 80, 144, 6, 33, false}, {1, 400, 96, 12, 10}, {1, 32, 32, 3, 70},
};

Function directly(const std::string& path) {
  return [path](const Inputs& in) { return direct_convolution(in[0], in[1], bias_of(in), path); };
}

/// The paths for bfloat16 operands: those of attention that widen them are none.
std::vector<std::string> direct_paths() {
  std::vector<std::string> paths;
  for (const std::string& path : tile_paths(at::kBFloat16)) {
    if (path == "brgemm" || path == "pairs") paths.push_back(path);
  }
  return paths;
}

// 4e-3 of the largest value: half a unit in the last of bfloat16's eight digits; the sums themselves are float32.
TEST(DirectConvolutionTest, IsTheSumForwardAndBackward) {
  at::manual_seed(1);
  for (const std::string& path : direct_paths()) {
    for (const ConvolutionCase& c : kDirectCases) {
      expect_same(directly(path), plain_sum, convolution_inputs(c), at::kBFloat16, 4e-3, name(c, path));
    }
  }
}

TEST(DirectConvolutionTest, DeepSumsInManyPiecesAreTheSum) {
  at::manual_seed(2);
  const std::string path = direct_paths().front();
  if (path == "pairs") GTEST_SKIP() << "slow without instructions for bfloat16";
  for (const ConvolutionCase& c : {ConvolutionCase{1, 1280, 192, 8, 8}, ConvolutionCase{1, 320, 320, 32, 32}}) {
    expect_same(directly(path), plain_sum, convolution_inputs(c), at::kBFloat16, 4e-3, name(c, path));
  }
}

TEST(DirectConvolutionTest, TheNumberOfThreadsChangesNoBit) {
  at::manual_seed(4);
  const int before = at::get_num_threads();
  for (const ConvolutionCase& c : {ConvolutionCase{3, 48, 160, 14, 18}, ConvolutionCase{1, 640, 208, 8, 8}}) {
    const Inputs in = convolution_inputs(c);
    const Tensor cotangent = at::randn({c.batch, c.out, c.height, c.width});
    const Function ours = directly(direct_paths().front());
    const auto result = [&](int threads) {
      at::set_num_threads(threads);
      const Tensor x = in[0].to(at::kBFloat16).requires_grad_(true);
      const Tensor y = ours({x, in[1].to(at::kBFloat16), in[2].to(at::kBFloat16)});
      y.backward(cotangent.to(at::kBFloat16));
      return Inputs{y.detach(), x.grad()};
    };
    const Inputs one = result(1);
    for (const int threads : {2, 3, 40}) {
      const Inputs many = result(threads);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], many[i])) << threads << " threads, result " << i;
    }
  }
  at::set_num_threads(before);
}

TEST(DirectConvolutionTest, FitsOnlyWhatItCanDo) {
  const auto fits = [](at::IntArrayRef x, at::IntArrayRef w, int64_t stride, int64_t padding, at::ScalarType dtype = at::kBFloat16) {
    return fits_direct_convolution(at::empty(x, dtype), at::empty(w, dtype), stride, padding);
  };
  EXPECT_EQ(fits({1, 64, 8, 8}, {64, 64, 3, 3}, 1, 1), direct_paths().size() > 1);
  EXPECT_FALSE(fits({1, 64, 8, 8}, {64, 64, 3, 3}, 2, 1));
  EXPECT_FALSE(fits({1, 64, 8, 8}, {64, 64, 1, 1}, 1, 1));
  EXPECT_FALSE(fits({1, 4, 8, 8}, {64, 4, 3, 3}, 1, 1));
  EXPECT_FALSE(fits({1, 64, 8, 8}, {64, 64, 3, 3}, 1, 1, at::kFloat));
}

TEST(DirectConvolutionTest, TheProfileCountsThePlainSum) {
  const Tensor x = at::randn({2, 16, 8, 8}).to(at::kBFloat16).requires_grad_(true), w = at::randn({32, 16, 3, 3}).to(at::kBFloat16);
  OperatorProfile profile;
  direct_convolution(x, w, {}, "pairs").sum().backward();
  double gflop = 0;
  for (const OperatorTime& row : profile.times()) {
    if (row.name.starts_with("emulsion::direct_convolution")) gflop += row.gflop;
  }
  EXPECT_NEAR(gflop, 2 * 2e-9 * 2 * 16 * 32 * 8 * 8 * 9, 1e-12);
}

TEST(DirectConvolutionTest, WrongShapesAndPathsAreNamed) {
  const Tensor x = at::zeros({1, 16, 8, 8}, at::kBFloat16);
  const auto message = [&](at::IntArrayRef weight, const char* path) {
    return test::error_message([&] { direct_convolution(x, at::zeros(weight, at::kBFloat16), {}, path); });
  };
  EXPECT_NE(message({16, 32, 3, 3}, "pairs").find("[16, 32, 3, 3]"), std::string::npos);
  EXPECT_NE(message({16, 16, 3, 3}, "abacus").find("'abacus'"), std::string::npos);
}

}  // namespace
}  // namespace emulsion::nn
