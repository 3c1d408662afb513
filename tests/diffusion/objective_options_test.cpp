#include "diffusion/objective_options.h"

#include <gtest/gtest.h>

#include "config/config.h"
#include "support/support.h"

namespace emulsion::diffusion {
namespace {

using test::close;

TEST(ObjectiveTest, MinSnrWeightsHaveThePublishedValues) {
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

TEST(ObjectiveTest, MinSnrIsFiniteWithoutSignal) {
  const ObjectiveConfig config{.weighting = LossWeighting::min_snr};
  const Tensor none = at::zeros({1});
  EXPECT_EQ(loss_weight(config, Prediction::epsilon, none).item<float>(), 1);
  EXPECT_EQ(loss_weight(config, Prediction::v_prediction, none).item<float>(), 0);
}

TEST(ObjectiveTest, PointwiseLossesByHand) {
  const Tensor out = at::tensor({3.0f, -1.0f}), target = at::tensor({0.0f, -1.5f});
  EXPECT_TRUE(
      close(pointwise_loss(PointwiseLoss::l2, out, target, 0), at::tensor({9.0f, 0.25f}), 1e-7));
  EXPECT_TRUE(
      close(pointwise_loss(PointwiseLoss::l1, out, target, 0), at::tensor({3.0f, 0.5f}), 1e-7));
  // c = 4: 8 (sqrt(9 + 16) - 4) = 8; 8 (sqrt(0.25 + 16) - 4) = 0.249031
  EXPECT_TRUE(close(pointwise_loss(PointwiseLoss::huber, out, target, 4),
                    at::tensor({8.0f, 0.249031f}), 1e-5));
}

TEST(ObjectiveTest, SampleLossIsTheWeightedMeanOfEachSample) {
  const ObjectiveConfig config{.weighting = LossWeighting::min_snr, .min_snr_gamma = 5};
  const Tensor target = at::zeros({2, 4, 3, 3});
  const Tensor out = at::cat({at::full({1, 4, 3, 3}, 2.0), at::full({1, 4, 3, 3}, 3.0)});
  const Tensor losses =
      sample_losses(config, Prediction::epsilon, out, target, at::tensor({10.0f, 1.0f}));
  EXPECT_TRUE(close(losses, at::tensor({2.0f, 9.0f}), 1e-6));  // 4 * 5/10, 9 * 1
}

TEST(ObjectiveTest, TimestepsDependOnlyOnStepAndIndex) {
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

TEST(ObjectiveTest, UniformTimestepsFillTheWholeRange) {
  const Tensor t = sample_timesteps(TimestepSampling::uniform, Rng(1), 0, 0, 20000, 1, 10);
  const Tensor counts = at::bincount(t, {}, 10);
  EXPECT_EQ(counts.numel(), 10);
  // Expected 2000 each, standard deviation 42; five of those allowed.
  EXPECT_GT(counts.min().item<int64_t>(), 1790);
  EXPECT_LT(counts.max().item<int64_t>(), 2210);
}

TEST(ObjectiveTest, StratifiedTimestepsHaveOneInEachPart) {
  for (int64_t step = 0; step < 50; ++step) {
    const Tensor t = sample_timesteps(TimestepSampling::stratified, Rng(1), step, 0, 4, 4, 1000);
    EXPECT_TRUE(at::equal(t.floor_divide(250), at::arange(4, at::kLong))) << t;
  }
}

TEST(ObjectiveTest, ConfigRefusesANegativeGamma) {
  const auto message = test::error_message(
      [] { config::from_toml<ObjectiveConfig>("min_snr_gamma = -1.0\n", "run.toml"); });
  EXPECT_NE(message.find("run.toml:1"), std::string::npos) << message;
}

}  // namespace
}  // namespace emulsion::diffusion
