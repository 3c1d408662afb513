#include "diffusion/denoising_loss.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/random.h"
#include "io/safetensors.h"
#include "support/support.h"

namespace emulsion::diffusion {
namespace {

using test::close;

TEST(DenoisingLossTest, MinSnrWeightsHaveThePublishedValues) {
  const ObjectiveConfig config{.weighting = LossWeighting::min_snr, .min_snr_gamma = 5};
  const Tensor snr =
      NoiseSchedule(NoiseScheduleConfig{}).snr(at::tensor({0, 1, 250, 500, 999}, at::kLong));
  EXPECT_TRUE(at::allclose(loss_weight(config, Prediction::epsilon, snr),
                           at::tensor({0.004254, 0.008534, 1.0, 1.0, 1.0}).to(at::kFloat), 2e-4));
  EXPECT_TRUE(at::allclose(
      loss_weight(config, Prediction::v_prediction, snr),
      at::tensor({0.004250, 0.008520, 0.673793, 0.276333, 0.004660}).to(at::kFloat), 2e-4));
  EXPECT_TRUE(at::allclose(loss_weight(config, Prediction::sample, snr),
                           at::tensor({5.0, 5.0, 2.06553, 0.381850, 0.00468192}).to(at::kFloat),
                           2e-4));
}

const std::vector<double> kSnrs = {0.00468192, 0.38185, 1, 4.9, 5.1, 999, 1175.47};

/// The factor of one option, for every number of kSnrs, against `expected`(SNR) in float64.
void expect_weight(const ObjectiveConfig& config, Prediction prediction,
                   const std::function<double(double)>& expected) {
  const Tensor weight = loss_weight(config, prediction, at::tensor(kSnrs));
  ASSERT_EQ(weight.scalar_type(), at::kFloat);
  for (size_t i = 0; i < kSnrs.size(); ++i) {
    const double value = expected(kSnrs[i]);
    // A few roundings of float32.
    EXPECT_NEAR(weight[static_cast<int64_t>(i)].item<double>(), value, 1e-6 * value) << kSnrs[i];
  }
}

/// What a weight of `x0`'s error makes of the error of the prediction.
double of_x0(Prediction prediction, double x0, double snr) {
  if (prediction == Prediction::epsilon) return x0 / snr;
  return prediction == Prediction::v_prediction ? x0 / (snr + 1) : x0;
}

TEST(DenoisingLossTest, WeightingsMeanTheSameForEveryPrediction) {
  for (const auto prediction :
       {Prediction::epsilon, Prediction::v_prediction, Prediction::sample}) {
    expect_weight({}, prediction, [](double) { return 1; });
    expect_weight({.weighting = LossWeighting::min_snr, .min_snr_gamma = 5}, prediction,
                  [&](double snr) { return of_x0(prediction, std::min(snr, 5.0), snr); });
    expect_weight({.weighting = LossWeighting::soft_min_snr, .min_snr_gamma = 5}, prediction,
                  [&](double snr) { return of_x0(prediction, 1 / (1 / snr + 1 / 5.0), snr); });
    expect_weight({.weighting = LossWeighting::debiased}, prediction, [&](double snr) {
      const double capped = std::min(snr, 1000.0);
      return of_x0(prediction, std::sqrt(capped), capped);
    });
    expect_weight({.weighting = LossWeighting::p2, .p2_k = 0.5, .p2_gamma = 2}, prediction,
                  [&](double snr) {
                    return of_x0(prediction, snr * std::pow(0.5 + snr, -2), snr);
                  });
  }
}

TEST(DenoisingLossTest, AWeightedErrorIsTheSameNumberWhateverIsPredicted) {
  const NoiseSchedule schedule(NoiseScheduleConfig{});
  const Tensor timesteps = at::tensor({10, 300, 900}, at::kLong);
  const Coefficients c = schedule.at(timesteps);
  const Tensor target = at::zeros({3, 4, 2, 2}), off = at::full({3, 4, 2, 2}, 0.3);  // of x0
  for (const auto weighting : {LossWeighting::min_snr, LossWeighting::soft_min_snr,
                               LossWeighting::debiased, LossWeighting::p2}) {
    const auto losses = [&](Prediction prediction, const Tensor& error) {
      return sample_losses({.weighting = weighting}, prediction, error, target,
                           {schedule, timesteps});
    };
    // x_t stays: epsilon is off by alpha / sigma of what x0 is off, v by 1 / sigma.
    const Tensor expected = losses(Prediction::sample, off);
    const Tensor epsilon = losses(Prediction::epsilon, off * c.alpha / c.sigma);
    const Tensor v = losses(Prediction::v_prediction, off / c.sigma);
    // sigma^2 = 1 - alpha^2 has lost three digits at timestep 10.
    EXPECT_TRUE(at::allclose(epsilon, expected, 1e-4)) << epsilon << expected;
    EXPECT_TRUE(at::allclose(v, expected, 1e-4)) << v << expected;
  }
}

TEST(DenoisingLossTest, SoftMinSnrIsThatOfKDiffusion) {
  // Its Denoiser weighs the v error by (s d)^2 / (s^2 + d^2)^2; here d = 1 and s^2 = 1 / SNR.
  expect_weight({.weighting = LossWeighting::soft_min_snr, .min_snr_gamma = 1},
                Prediction::v_prediction, [](double snr) {
                  const double s = 1 / std::sqrt(snr);
                  return std::pow(s / (s * s + 1), 2);
                });
}

TEST(DenoisingLossTest, OtherProgramsMeanOtherThingsForV) {
  const auto capped = [](double snr) { return std::min(snr, 1000.0); };
  ObjectiveConfig config{.weighting = LossWeighting::debiased, .weight_for_v = WeightForV::kohya};
  expect_weight(config, Prediction::v_prediction,
                [&](double snr) { return 1 / (capped(snr) + 1); });
  expect_weight(config, Prediction::epsilon,
                [&](double snr) { return 1 / std::sqrt(capped(snr)); });
  config.weight_for_v = WeightForV::onetrainer;
  expect_weight(config, Prediction::v_prediction,
                [&](double snr) { return 1 / std::sqrt(capped(snr) + 1); });
  config.weighting = LossWeighting::p2;
  expect_weight(config, Prediction::v_prediction, [](double snr) { return 1 / (snr + 2); });
  expect_weight(config, Prediction::epsilon, [](double snr) { return 1 / (snr + 1); });
}

TEST(DenoisingLossTest, ScalesOfVMultiplyWhateverTheWeightingIs) {
  const auto scale = [](double snr) { return std::min(snr, 1000.0) / (std::min(snr, 1000.0) + 1); };
  expect_weight({.scale_v_loss = true}, Prediction::v_prediction, scale);
  expect_weight({.weighting = LossWeighting::min_snr, .scale_v_loss = true},
                Prediction::v_prediction,
                [&](double snr) { return std::min(snr, 5.0) / (snr + 1) * scale(snr); });
  expect_weight({.v_like_loss = 0.2}, Prediction::epsilon,
                [&](double snr) { return 1 + 0.2 / scale(snr); });
  expect_weight({.weighting = LossWeighting::debiased, .v_like_loss = 0.2}, Prediction::epsilon,
                [&](double snr) {
                  return (1 + 0.2 / scale(snr)) / std::sqrt(std::min(snr, 1000.0));
                });
}

TEST(DenoisingLossTest, WeightsOfDiffusers) {
  const auto file = io::SafetensorsFile::open(test::golden("objective.safetensors"));
  const Tensor snr = file.tensor("snr");
  for (const auto& [name, prediction] :
       {std::pair("epsilon", Prediction::epsilon), std::pair("v", Prediction::v_prediction)}) {
    EXPECT_TRUE(close(loss_weight({.weighting = LossWeighting::min_snr}, prediction, snr),
                      file.tensor(std::string("min_snr.") + name), 1e-6));
  }
}

TEST(DenoisingLossTest, ConvertedWeightsAreZeroWithoutSignal) {
  const Tensor none = at::zeros({1});
  for (const auto weighting : {LossWeighting::min_snr, LossWeighting::soft_min_snr,
                               LossWeighting::debiased, LossWeighting::p2}) {
    for (const auto prediction : {Prediction::v_prediction, Prediction::sample}) {
      EXPECT_EQ(loss_weight({.weighting = weighting}, prediction, none).item<float>(), 0);
    }
  }
}

TEST(DenoisingLossTest, MinSnrIsFiniteWithoutSignal) {
  const ObjectiveConfig config{.weighting = LossWeighting::min_snr};
  const Tensor none = at::zeros({1});
  EXPECT_EQ(loss_weight(config, Prediction::epsilon, none).item<float>(), 1);
  EXPECT_EQ(loss_weight(config, Prediction::v_prediction, none).item<float>(), 0);
}

TEST(DenoisingLossTest, PointwiseLossesByHand) {
  const Tensor out = at::tensor({3.0f, -1.0f}), target = at::tensor({0.0f, -1.5f});
  const auto expect = [&](PointwiseLoss kind, const Tensor& c, const Tensor& expected) {
    EXPECT_TRUE(close(pointwise_loss(kind, out, target, c), expected, 1e-5));
  };
  expect(PointwiseLoss::l2, {}, at::tensor({9.0f, 0.25f}));
  expect(PointwiseLoss::l1, {}, at::tensor({3.0f, 0.5f}));
  // c = 4: 2 (sqrt(9 + 16) - 4) = 2; c = 0.5: 2 (sqrt(0.5) - 0.5) = 0.414214
  const Tensor c = at::tensor({4.0f, 0.5f});
  expect(PointwiseLoss::smooth_l1, c, at::tensor({2.0f, 0.414214f}));
  expect(PointwiseLoss::huber, c, at::tensor({8.0f, 0.207107f}));
}

TEST(DenoisingLossTest, TheTurnOfHuberFollowsItsSchedule) {
  const NoiseSchedule schedule(NoiseScheduleConfig{});
  const Tensor timesteps = at::tensor({0, 1, 250, 500, 999}, at::kLong);
  const double h = 0.1, scale = 2;
  const auto expect = [&](HuberSchedule kind, const std::function<double(int64_t)>& expected) {
    const ObjectiveConfig config{.huber_c = h, .huber_schedule = kind, .huber_scale = scale};
    const Tensor c = huber_threshold(config, {schedule, timesteps});
    ASSERT_EQ(c.scalar_type(), at::kFloat);
    for (int64_t i = 0; i < c.numel(); ++i) {
      const int64_t t = timesteps[i].item<int64_t>();
      EXPECT_NEAR(c[i].item<double>(), expected(t), 1e-6) << t;
    }
  };
  expect(HuberSchedule::constant, [&](int64_t) { return h * scale; });
  expect(HuberSchedule::exponential, [&](int64_t t) {
    const double alpha = -std::log(h) / 1000;
    return std::exp(-alpha * static_cast<double>(t)) * scale;
  });
  expect(HuberSchedule::snr, [&](int64_t t) {
    const double bar = schedule.alpha_bar(t), sigma = std::sqrt((1 - bar) / bar);
    return ((1 - h) / std::pow(1 + sigma, 2) + h) * scale;
  });
}

TEST(DenoisingLossTest, TheTurnIsFiniteWithoutSignal) {
  const NoiseSchedule schedule(NoiseScheduleConfig{.zero_terminal_snr = true});
  const ObjectiveConfig config{.huber_c = 0.2, .huber_schedule = HuberSchedule::snr};
  const Tensor last = at::tensor({999}, at::kLong);
  EXPECT_FLOAT_EQ(huber_threshold(config, {schedule, last}).item<float>(), 0.2f);
}

TEST(DenoisingLossTest, SampleLossIsTheWeightedMeanOfEachSample) {
  const NoiseSchedule schedule(NoiseScheduleConfig{});
  const Tensor timesteps = at::tensor({100, 800}, at::kLong);
  const ObjectiveConfig config{.weighting = LossWeighting::min_snr,
                               .loss = PointwiseLoss::smooth_l1,
                               .huber_schedule = HuberSchedule::exponential};
  const Tensor target = at::zeros({2, 1, 1, 2});
  const Tensor out = at::tensor({2.0f, 0.0f, 3.0f, -1.0f}).view({2, 1, 1, 2});
  const Tensor losses =
      sample_losses(config, Prediction::epsilon, out, target, {schedule, timesteps});
  const auto expected = [&](int64_t t, double one, double two) {
    const double c = std::pow(0.1, static_cast<double>(t) / 1000), bar = schedule.alpha_bar(t);
    const auto f = [&](double d) { return 2 * (std::sqrt(d * d + c * c) - c); };
    return (f(one) + f(two)) / 2 * std::min(1.0, 5 * (1 - bar) / bar);
  };
  EXPECT_NEAR(losses[0].item<double>(), expected(100, 2, 0), 1e-5);
  EXPECT_NEAR(losses[1].item<double>(), expected(800, 3, -1), 1e-5);
}

TEST(DenoisingLossTest, AMaskSaysWhatCounts) {
  const NoiseSchedule schedule(NoiseScheduleConfig{});
  const Tensor timesteps = at::tensor({100, 800}, at::kLong), target = at::zeros({2, 2, 1, 2});
  const Tensor out = at::tensor({1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f}).view({2, 2, 1, 2});
  const Tensor mask = at::tensor({0.0f, 0.5f, 0.0f, 0.0f}).view({2, 1, 1, 2});
  const auto expect = [&](const ObjectiveConfig& config, double first, double second) {
    const Tensor losses = sample_losses(config, Prediction::epsilon, out, target, {schedule, timesteps}, mask);
    EXPECT_NEAR(losses[0].item<double>(), first, 1e-5 * first);
    EXPECT_NEAR(losses[1].item<double>(), second, 1e-5 * second);
  };
  // sd-scripts: error x mask, mean over all.
  expect({}, 0.5 * (4 + 16) / 4, 0);
  // OneTrainer: at least so much everywhere.
  expect({.unmasked_weight = 0.1}, (0.1 * (1 + 9) + 0.5 * (4 + 16)) / 4, 0.1 * (25 + 36 + 49 + 64) / 4);
  // ai-toolkit: divided by the mask's mean; a black one gives nothing.
  expect({.normalize_masked_area = true}, 0.5 * (4 + 16) / 4 / 0.25, 0);
  expect({.unmasked_weight = 0.1, .normalize_masked_area = true}, (0.1 * 10 + 0.5 * 20) / 4 / 0.3, (25 + 36 + 49 + 64) / 4.0);
}

TEST(DenoisingLossTest, ALargeSampleHasTheSameBitsOnAnyNumberOfThreads) {
  const NoiseSchedule schedule(NoiseScheduleConfig{});
  const Tensor timesteps = at::tensor({500}, at::kLong), target = at::zeros({1, 4, 128, 128});
  const int threads = at::get_num_threads();
  for (uint64_t draw = 0; draw < 10; ++draw) {
    const Tensor out = Rng(1).normal(target.sizes(), Purpose::sample, draw);
    const auto loss = [&](int count) {
      at::set_num_threads(count);
      return sample_losses({}, Prediction::epsilon, out, target, {schedule, timesteps});
    };
    EXPECT_TRUE(at::equal(loss(1), loss(4))) << draw;
  }
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace emulsion::diffusion
