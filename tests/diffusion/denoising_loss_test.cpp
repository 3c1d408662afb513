#include "diffusion/denoising_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

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
  // x0 is off by 0.3 at alpha^2 = 0.8: epsilon is off by alpha / sigma of that, v by 1 / sigma.
  const double alpha = std::sqrt(0.8), sigma = std::sqrt(0.2), off = 0.3;
  const auto loss = [&](LossWeighting weighting, Prediction prediction, double error) {
    const Tensor out = at::full({1, 4, 2, 2}, error), target = at::zeros({1, 4, 2, 2});
    return sample_losses({.weighting = weighting}, prediction, out, target, at::tensor({4.0}))
        .item<double>();
  };
  for (const auto weighting : {LossWeighting::min_snr, LossWeighting::soft_min_snr,
                               LossWeighting::debiased, LossWeighting::p2}) {
    const double expected = loss(weighting, Prediction::sample, off);
    EXPECT_NEAR(loss(weighting, Prediction::epsilon, off * alpha / sigma), expected, 1e-6);
    EXPECT_NEAR(loss(weighting, Prediction::v_prediction, off / sigma), expected, 1e-6);
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
  EXPECT_TRUE(
      close(pointwise_loss(PointwiseLoss::l2, out, target, 0), at::tensor({9.0f, 0.25f}), 1e-7));
  EXPECT_TRUE(
      close(pointwise_loss(PointwiseLoss::l1, out, target, 0), at::tensor({3.0f, 0.5f}), 1e-7));
  // c = 4: 8 (sqrt(9 + 16) - 4) = 8; 8 (sqrt(0.25 + 16) - 4) = 0.249031
  EXPECT_TRUE(close(pointwise_loss(PointwiseLoss::huber, out, target, 4),
                    at::tensor({8.0f, 0.249031f}), 1e-5));
}

TEST(DenoisingLossTest, SampleLossIsTheWeightedMeanOfEachSample) {
  const ObjectiveConfig config{.weighting = LossWeighting::min_snr, .min_snr_gamma = 5};
  const Tensor target = at::zeros({2, 4, 3, 3});
  const Tensor out = at::cat({at::full({1, 4, 3, 3}, 2.0), at::full({1, 4, 3, 3}, 3.0)});
  const Tensor losses =
      sample_losses(config, Prediction::epsilon, out, target, at::tensor({10.0f, 1.0f}));
  EXPECT_TRUE(close(losses, at::tensor({2.0f, 9.0f}), 1e-6));  // 4 * 5/10, 9 * 1
}

}  // namespace
}  // namespace emulsion::diffusion
