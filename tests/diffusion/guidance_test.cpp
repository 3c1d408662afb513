#include "diffusion/guidance.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace emulsion::diffusion {
namespace {

TEST(GuidanceTest, MovesFromUnconditionalThroughConditional) {
  const Tensor uncond = at::tensor({1.0f, 2.0f}).view({1, 1, 1, 2});
  const Tensor cond = at::tensor({3.0f, 1.0f}).view({1, 1, 1, 2});
  EXPECT_TRUE(at::equal(cfg(uncond, cond, 7.5), at::tensor({16.0f, -5.5f}).view({1, 1, 1, 2})));
  EXPECT_TRUE(at::equal(cfg(uncond, cond, 0), uncond));
}

TEST(GuidanceTest, ScaleOneIsTheConditionalPredictionBitForBit) {
  const Tensor uncond = at::linspace(1, 2, 24).view({2, 3, 2, 2}).sin();
  const Tensor cond = at::linspace(5, 9, 24).view({2, 3, 2, 2}).sin();
  EXPECT_TRUE(at::equal(cfg(uncond, cond, 1), cond));
}

TEST(GuidanceTest, RescaleGivesTheConditionalDeviationPerImage) {
  const Tensor uncond = at::linspace(1, 2, 24).view({2, 3, 2, 2}).sin();
  const Tensor cond = at::linspace(5, 9, 24).view({2, 3, 2, 2}).sin();
  const Tensor plain = cfg(uncond, cond, 7), full = cfg(uncond, cond, 7, 1);
  for (int64_t b = 0; b < 2; ++b) {
    EXPECT_NEAR(full[b].std().item<double>(), cond[b].std().item<double>(), 1e-6);
    EXPECT_GT(plain[b].std().item<double>(), 1.5 * cond[b].std().item<double>());
  }
  EXPECT_TRUE(test::close(cfg(uncond, cond, 7, 0.25), 0.25 * full + 0.75 * plain, 1e-6));
}

}  // namespace
}  // namespace emulsion::diffusion
