#include "diffusion/training_draws.h"

#include <gtest/gtest.h>

#include "support/support.h"

namespace emulsion::diffusion {
namespace {

TEST(TrainingDrawsTest, TimestepsDependOnlyOnStepAndIndex) {
  const Rng rng(7);
  for (const auto kind : {TimestepSampling::uniform, TimestepSampling::stratified}) {
    const Tensor whole = sample_timesteps(kind, rng, 3, 0, 8, 8, 1000);
    const Tensor parts = at::cat({sample_timesteps(kind, rng, 3, 0, 3, 8, 1000),
                                  sample_timesteps(kind, rng, 3, 3, 5, 8, 1000)});
    EXPECT_TRUE(at::equal(whole, parts));
    EXPECT_FALSE(at::equal(whole, sample_timesteps(kind, rng, 4, 0, 8, 8, 1000)));
    EXPECT_FALSE(at::equal(whole, sample_timesteps(kind, Rng(8), 3, 0, 8, 8, 1000)));
  }
}

TEST(TrainingDrawsTest, UniformTimestepsFillTheWholeRange) {
  const Tensor t = sample_timesteps(TimestepSampling::uniform, Rng(1), 0, 0, 20000, 1, 10);
  const Tensor counts = at::bincount(t, {}, 10);
  EXPECT_EQ(counts.numel(), 10);
  // Expected 2000 each, standard deviation 42; five of those allowed.
  EXPECT_GT(counts.min().item<int64_t>(), 1790);
  EXPECT_LT(counts.max().item<int64_t>(), 2210);
}

TEST(TrainingDrawsTest, StratifiedTimestepsHaveOneInEachPart) {
  for (int64_t step = 0; step < 50; ++step) {
    const Tensor t = sample_timesteps(TimestepSampling::stratified, Rng(1), step, 0, 4, 4, 1000);
    EXPECT_TRUE(at::equal(t.floor_divide(250), at::arange(4, at::kLong))) << t;
  }
}

}  // namespace
}  // namespace emulsion::diffusion
