#include "diffusion/training_draws.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "support/support.h"

namespace emulsion::diffusion {
namespace {

using Config = ObjectiveConfig;

TEST(TrainingDrawsTest, TimestepsDependOnlyOnStepAndIndex) {
  const Rng rng(7);
  for (const auto kind :
       {TimestepSampling::uniform, TimestepSampling::stratified, TimestepSampling::sobol}) {
    for (const Config& config :
         {Config{.timestep_sampling = kind}, Config{.timestep_sampling = kind, .timestep_bias = 1},
          Config{.timestep_sampling = kind,
                 .timestep_density = TimestepDensity::logit_normal,
                 .min_timestep = 100}}) {
      const Tensor whole = sample_timesteps(config, rng, 3, 0, 8, 8, 1000);
      const Tensor parts = at::cat({sample_timesteps(config, rng, 3, 0, 3, 8, 1000),
                                    sample_timesteps(config, rng, 3, 3, 5, 8, 1000)});
      EXPECT_TRUE(at::equal(whole, parts));
      EXPECT_FALSE(at::equal(whole, sample_timesteps(config, rng, 4, 0, 8, 8, 1000)));
      EXPECT_FALSE(at::equal(whole, sample_timesteps(config, Rng(8), 3, 0, 8, 8, 1000)));
    }
  }
}

TEST(TrainingDrawsTest, UniformAndStratifiedTimestepsOfOldRunsStay) {
  // Run folders go on with the numbers that they began with, those at (step, i).
  const Rng rng(7);
  const Tensor uniform = sample_timesteps({}, rng, 3, 2, 4, 8, 1000);
  const Tensor stratified = sample_timesteps({.timestep_sampling = TimestepSampling::stratified},
                                             rng, 3, 2, 4, 8, 1000);
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(uniform[i].item<int64_t>(), rng.stream(Purpose::timestep, 3, i + 2).below(1000));
    const double u = rng.stream(Purpose::timestep, 3, i + 2).uniform();
    const double part = static_cast<double>(i + 2) + u;
    EXPECT_EQ(stratified[i].item<int64_t>(), static_cast<int64_t>(part / 8 * 1000));
  }
}

TEST(TrainingDrawsTest, UniformTimestepsFillTheWholeRange) {
  const auto counts = [](const Config& config) {
    return at::bincount(sample_timesteps(config, Rng(1), 0, 0, 20000, 1, 10), {}, 10);
  };
  const Tensor all = counts({});
  EXPECT_EQ(all.numel(), 10);
  // Expected 2000 each, standard deviation 42; five of those allowed.
  EXPECT_GT(all.min().item<int64_t>(), 1790);
  EXPECT_LT(all.max().item<int64_t>(), 2210);
  const Tensor some = counts({.min_timestep = 3, .max_timestep = 8});
  EXPECT_EQ(some.narrow(0, 0, 3).sum().item<int64_t>(), 0);
  EXPECT_EQ(some.narrow(0, 8, 2).sum().item<int64_t>(), 0);
  // Expected 4000 each, standard deviation 57.
  EXPECT_GT(some.narrow(0, 3, 5).min().item<int64_t>(), 3717);
}

TEST(TrainingDrawsTest, StratifiedTimestepsHaveOneInEachPart) {
  const Config config{.timestep_sampling = TimestepSampling::stratified};
  Config part = config;
  part.min_timestep = 200;
  part.max_timestep = 600;
  for (int64_t step = 0; step < 50; ++step) {
    const Tensor t = sample_timesteps(config, Rng(1), step, 0, 4, 4, 1000);
    EXPECT_TRUE(at::equal(t.floor_divide(250), at::arange(4, at::kLong))) << t;
    const Tensor some = sample_timesteps(part, Rng(1), step, 0, 4, 4, 1000);
    EXPECT_TRUE(at::equal((some - 200).floor_divide(100), at::arange(4, at::kLong))) << some;
  }
}

TEST(TrainingDrawsTest, SobolTimestepsHaveOneInEachPartWithinAndAcrossSteps) {
  const Config config{.timestep_sampling = TimestepSampling::sobol};
  std::vector<Tensor> steps;
  for (int64_t step = 0; step < 256; ++step) {
    steps.push_back(sample_timesteps(config, Rng(1), step, 0, 4, 4, 1024));
  }
  const Tensor all = at::cat(steps);
  for (const int64_t count : {2, 4, 32, 1024}) {
    for (int64_t first = 0; first < 1024; first += count) {
      const Tensor parts = all.narrow(0, first, count).floor_divide(1024 / count);
      EXPECT_TRUE(at::equal(std::get<0>(parts.sort()), at::arange(count, at::kLong)));
    }
  }
  // The digits of van der Corput's sequence: 1/2, 1/4, 3/4, 1/8 from the start.
  const int64_t start = all[0].item<int64_t>();
  const int64_t places[] = {512, 256, 768, 128};
  for (int64_t i = 1; i <= 4; ++i) EXPECT_EQ(all[i].item<int64_t>() ^ start, places[i - 1]);
}

/// The share of timesteps below each tenth against the density's distribution function.
void expect_distribution(Config config, const std::function<double(double)>& below) {
  config.timestep_sampling = TimestepSampling::stratified;
  const Tensor even = sample_timesteps(config, Rng(1), 0, 0, 10000, 10000, 1000);
  config.timestep_sampling = TimestepSampling::uniform;
  const Tensor free = sample_timesteps(config, Rng(1), 0, 0, 10000, 1, 1000);
  for (int64_t tenth = 1; tenth < 10; ++tenth) {
    const double expected = below(static_cast<double>(tenth) / 10);
    const auto share = [&](const Tensor& t) {
      return t.lt(100 * tenth).to(at::kDouble).mean().item<double>();
    };
    EXPECT_NEAR(share(even), expected, 2e-4) << tenth;  // one sample on each side of the border
    EXPECT_NEAR(share(free), expected, 5 * 0.005) << tenth;
  }
}

TEST(TrainingDrawsTest, LogitNormalTimestepsHaveItsDistribution) {
  for (const auto& [mean, deviation] : {std::pair(0.0, 1.0), std::pair(0.7, 0.6)}) {
    const Config config{.timestep_density = TimestepDensity::logit_normal,
                        .logit_mean = mean,
                        .logit_std = deviation};
    expect_distribution(config, [m = mean, s = deviation](double x) {
      const double z = (std::log(x / (1 - x)) - m) / s;
      return 0.5 * std::erfc(-z / std::sqrt(2.0));
    });
  }
}

TEST(TrainingDrawsTest, BiasedTimestepsHaveTheirDistribution) {
  expect_distribution({}, [](double x) { return x; });
  expect_distribution({.timestep_bias = 1}, [](double x) { return x * x; });
  expect_distribution({.timestep_bias = 0.5}, [](double x) { return std::pow(x, 1.5); });
  expect_distribution({.timestep_bias = -2}, [](double x) { return 1 - std::pow(1 - x, 3); });
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

TEST(TrainingDrawsTest, NoiseHasTheSameBitsOnAnyNumberOfThreads) {
  const ObjectiveConfig config{
      .noise_offset = 0.1, .noise_offset_adaptive = 0.1, .pyramid_iterations = 6};
  const Tensor latent = Rng(4).normal({4, 128, 128}, Purpose::latent);  // of SDXL at 1024 x 1024
  const int threads = at::get_num_threads();
  for (int64_t draw = 0; draw < 10; ++draw) {
    at::set_num_threads(1);
    const Tensor one = training_noise(config, Rng(3), draw, latent);
    at::set_num_threads(4);
    EXPECT_TRUE(at::equal(training_noise(config, Rng(3), draw, latent), one)) << draw;
  }
  at::set_num_threads(threads);
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
