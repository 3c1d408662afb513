#include "diffusion/training_draws.h"

#include <gtest/gtest.h>

#include <cmath>

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

/// Channels with means 0.5, -1 and 0.
Tensor latent() { return at::tensor({0.5f, -1.0f, 0.0f}).view({3, 1, 1}).expand({3, 24, 20}); }

Tensor plain_noise(int64_t draw) {
  return Rng(3).normal({3, 24, 20}, Purpose::noise, static_cast<uint64_t>(draw));
}

TEST(TrainingDrawsTest, NoiseWithoutOptionsIsThatOfTheDraw) {
  EXPECT_TRUE(at::equal(training_noise({}, Rng(3), 7, latent()), plain_noise(7)));
  EXPECT_FALSE(input_perturbation({}, Rng(3), 7, {3, 24, 20}).defined());
}

/// The number that was added to a channel, one draw after the other: [draws, 3], float64.
Tensor offsets(const ObjectiveConfig& config, int64_t draws) {
  std::vector<Tensor> all;
  for (int64_t draw = 0; draw < draws; ++draw) {
    const Tensor added = training_noise(config, Rng(3), draw, latent()) - plain_noise(draw);
    EXPECT_LT((added - added.narrow(1, 0, 1).narrow(2, 0, 1)).abs().max().item<float>(), 1e-6);
    all.push_back(added.select(1, 0).select(1, 0).to(at::kDouble));
  }
  return at::stack(all);
}

TEST(TrainingDrawsTest, AnOffsetIsANumberPerChannelOfTheGivenDeviation) {
  const Tensor fixed = offsets({.noise_offset = 0.1}, 2000);
  // 6000 normal numbers: the mean is off by 0.0013 and the deviation by 0.0009, one time in three.
  EXPECT_NEAR(fixed.mean().item<double>(), 0, 5 * 0.0013);
  EXPECT_NEAR(fixed.std().item<double>(), 0.1, 5 * 0.0009);
  // Channels are independent: a correlation of 2000 pairs is off by 0.022.
  EXPECT_NEAR((fixed.select(1, 0) * fixed.select(1, 1)).mean().item<double>() / 0.01, 0, 5 * 0.022);
}

TEST(TrainingDrawsTest, ARandomStrengthIsOneUniformNumberPerDraw) {
  const Tensor share = offsets({.noise_offset = 0.1, .noise_offset_random = true}, 2000) /
                       offsets({.noise_offset = 0.1}, 2000);
  const Tensor one = share.select(1, 0);
  EXPECT_LT((share - one.unsqueeze(1)).abs().median().item<double>(), 1e-5);
  EXPECT_GT(one.median().item<double>(), 0.44);  // 0.5, five times its deviation of 0.011
  EXPECT_LT(one.median().item<double>(), 0.56);
  EXPECT_GT(one.min().item<double>(), -0.01);
  EXPECT_LT(one.max().item<double>(), 1.01);
}

TEST(TrainingDrawsTest, AnAdaptiveOffsetFollowsTheMeanOfTheChannel) {
  const Tensor unit = offsets({.noise_offset = 1}, 4);
  const auto strengths = [&](double adaptive) {
    return offsets({.noise_offset = 0.1, .noise_offset_adaptive = adaptive}, 4) / unit;
  };
  // 0.1 + 0.2 * (0.5, 1, 0), and max(0, 0.1 - 0.15 * (0.5, 1, 0)); noise near 4 rounds at 2e-7.
  const Tensor more = at::tensor({0.2, 0.3, 0.1}), less = at::tensor({0.025, 0.0, 0.1});
  EXPECT_LT((strengths(0.2) - more).abs().max().item<double>(), 2e-5);
  EXPECT_LT((strengths(-0.15) - less).abs().max().item<double>(), 2e-5);
}

/// Bilinear growth with half-pixel centres, in float64.
Tensor grown(const Tensor& coarse, int64_t height, int64_t width) {
  const auto weights = [](int64_t from, int64_t to) {
    Tensor matrix = at::zeros({to, from}, at::kDouble);
    for (int64_t i = 0; i < to; ++i) {
      const double ratio = static_cast<double>(from) / static_cast<double>(to);
      const double place = std::max(0.0, (static_cast<double>(i) + 0.5) * ratio - 0.5);
      const auto low = static_cast<int64_t>(place);
      const int64_t high = std::min(low + 1, from - 1);
      matrix[i][low] += 1 - (place - static_cast<double>(low));
      matrix[i][high] += place - static_cast<double>(low);
    }
    return matrix;
  };
  const Tensor rows = weights(coarse.size(1), height), columns = weights(coarse.size(2), width);
  return at::matmul(at::matmul(rows, coarse.to(at::kDouble)), columns.t());
}

TEST(TrainingDrawsTest, PyramidNoiseIsTheSumOfItsSizesBroughtToUnitDeviation) {
  const Rng rng(3);
  const ObjectiveConfig config{.pyramid_iterations = 8, .pyramid_discount = 0.5};
  for (int64_t draw = 0; draw < 20; ++draw) {
    Stream ratios = rng.stream(Purpose::pyramid, static_cast<uint64_t>(draw));
    Tensor sum = plain_noise(draw).to(at::kDouble);
    int64_t sizes = 0;
    for (int64_t h = 24, w = 20; h > 1 && w > 1; ++sizes) {
      const double shrink = std::pow(2 + 2 * ratios.uniform(), sizes);
      h = std::max<int64_t>(1, static_cast<int64_t>(24 / shrink));
      w = std::max<int64_t>(1, static_cast<int64_t>(20 / shrink));
      const Tensor coarse = rng.normal({3, h, w}, Purpose::pyramid, static_cast<uint64_t>(draw),
                                       static_cast<uint64_t>(sizes + 1));
      sum += std::pow(0.5, sizes) * grown(coarse, 24, 20);
    }
    EXPECT_GE(sizes, 3);
    const Tensor noise = training_noise(config, rng, draw, latent()).to(at::kDouble);
    EXPECT_LT((noise - sum / sum.std()).abs().max().item<double>(), 2e-6) << draw;
  }
  // A single size is of full size.
  const Tensor first = rng.normal({3, 24, 20}, Purpose::pyramid, 2, 1);
  const Tensor both = (plain_noise(2) + first).to(at::kDouble);
  const Tensor one = training_noise({.pyramid_iterations = 1}, rng, 2, latent());
  EXPECT_LT((one - both / both.std()).abs().max().item<double>(), 2e-6);
}

TEST(TrainingDrawsTest, PerturbationsHaveTheirStrengthAndNothingToDoWithTheNoise) {
  const ObjectiveConfig fixed{.input_perturbation = 0.1};
  const ObjectiveConfig random{.input_perturbation = 0.1, .input_perturbation_random = true};
  const Tensor one = input_perturbation(fixed, Rng(3), 7, {4, 50, 50});
  // 10000 numbers: the deviation of their deviation is 0.0007, that of a correlation 0.01.
  EXPECT_NEAR(one.std().item<double>(), 0.1, 5 * 0.0007);
  const Tensor noise = Rng(3).normal({4, 50, 50}, Purpose::noise, 7);
  EXPECT_NEAR((one * noise).mean().item<double>() / 0.1, 0, 5 * 0.01);
  double sum = 0;
  for (int64_t draw = 0; draw < 400; ++draw) {
    const Tensor share = input_perturbation(random, Rng(3), draw, {2}) /
                         input_perturbation(fixed, Rng(3), draw, {2});
    EXPECT_NEAR(share[0].item<double>(), share[1].item<double>(), 1e-5);
    EXPECT_GE(share[0].item<double>(), 0);
    EXPECT_LE(share[0].item<double>(), 1);
    sum += share[0].item<double>();
  }
  EXPECT_NEAR(sum / 400, 0.5, 5 * 0.0144);
}

}  // namespace
}  // namespace emulsion::diffusion
