#include "diffusion/objective_options.h"

#include <gtest/gtest.h>

#include "config/config.h"
#include "support/support.h"

namespace emulsion::diffusion {
namespace {

TEST(ObjectiveConfigTest, ConfigRefusesANegativeGamma) {
  const auto message = test::error_message(
      [] { config::from_toml<ObjectiveConfig>("min_snr_gamma = -1.0\n", "run.toml"); });
  EXPECT_NE(message.find("run.toml:1"), std::string::npos) << message;
}

void expect_refused(const ObjectiveConfig& config, const std::string& one, const std::string& two) {
  const auto message = test::error_message([&] { validate(config); });
  EXPECT_NE(message.find(one), std::string::npos) << message;
  EXPECT_NE(message.find(two), std::string::npos) << message;
}

TEST(ObjectiveConfigTest, NamesBothKeysOfWhatMakesNoSense) {
  validate(ObjectiveConfig{});
  expect_refused({.noise_offset_random = true}, "noise_offset_random", "noise_offset ");
  expect_refused({.noise_offset_adaptive = -0.1}, "noise_offset_adaptive", "noise_offset ");
  expect_refused({.input_perturbation_random = true}, "input_perturbation_random",
                 "input_perturbation ");
  expect_refused({.timestep_density = TimestepDensity::logit_normal, .timestep_bias = 1},
                 "timestep_bias", "timestep_density");
  expect_refused({.min_timestep = 500, .max_timestep = 500}, "min_timestep", "max_timestep");
  validate(ObjectiveConfig{.min_timestep = 500});
  expect_refused({.huber_schedule = HuberSchedule::snr}, "huber_schedule", "loss");
  expect_refused({.loss = PointwiseLoss::l1, .huber_scale = 2}, "huber_scale", "loss");
  validate(ObjectiveConfig{.loss = PointwiseLoss::smooth_l1,
                           .huber_schedule = HuberSchedule::snr,
                           .huber_scale = 2});
  expect_refused({.scale_v_loss = true, .v_like_loss = 0.1}, "scale_v_loss", "v_like_loss");
  expect_refused({.weighting = LossWeighting::p2, .weight_for_v = WeightForV::kohya},
                 "weight_for_v", "weighting");
}

/// Whether `config` is refused for a model, with an error that names `key`.
void expect_fit(const ObjectiveConfig& config, Prediction prediction, bool zero_terminal_snr,
                const std::string& key) {
  const NoiseSchedule schedule(NoiseScheduleConfig{.zero_terminal_snr = zero_terminal_snr});
  const auto check = [&] { validate(config, prediction, schedule); };
  if (key.empty()) {
    EXPECT_NO_THROW(check());
    return;
  }
  const auto message = test::error_message(check);
  EXPECT_NE(message.find(key), std::string::npos) << message;
}

TEST(ObjectiveConfigTest, RefusesWhatDoesNotFitTheModel) {
  expect_fit({.max_timestep = 1000}, Prediction::epsilon, false, "");
  expect_fit({.max_timestep = 1001}, Prediction::epsilon, false, "max_timestep");
  expect_fit({.min_timestep = 1000}, Prediction::epsilon, false, "min_timestep");
  const ObjectiveConfig scaled{.scale_v_loss = true}, v_like{.v_like_loss = 0.1};
  expect_fit(scaled, Prediction::epsilon, false, "scale_v_loss");
  expect_fit(scaled, Prediction::v_prediction, false, "");
  expect_fit(v_like, Prediction::v_prediction, false, "v_like_loss");
  expect_fit(v_like, Prediction::epsilon, false, "");
}

TEST(ObjectiveConfigTest, RefusesInfiniteWeights) {
  const ObjectiveConfig debiased{.weighting = LossWeighting::debiased}, v_like{.v_like_loss = 0.1};
  for (const auto& config : {debiased, v_like}) {
    expect_fit(config, Prediction::epsilon, true, "zero_terminal_snr");
    expect_fit(config, Prediction::epsilon, false, "");
  }
  expect_fit(debiased, Prediction::v_prediction, true, "");
  expect_fit({.max_timestep = 999, .weighting = LossWeighting::debiased}, Prediction::epsilon, true,
             "");
}

}  // namespace
}  // namespace emulsion::diffusion
