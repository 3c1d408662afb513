#include "diffusion/noise_schedule.h"

#include <gtest/gtest.h>

#include "config/config.h"
#include "core/error.h"
#include "diffusion/prediction.h"
#include "io/safetensors.h"
#include "support/support.h"

namespace emulsion::diffusion {
namespace {

using test::close;

struct GoldenSchedule {
  const char* name;
  NoiseScheduleConfig config;
};

std::vector<GoldenSchedule> golden_schedules() {
  return {{"linear", {.beta_schedule = BetaSchedule::linear}},
          {"scaled_linear", {}},
          {"squaredcos_cap_v2", {.beta_schedule = BetaSchedule::squaredcos_cap_v2}},
          {"linear_ddpm",
           {.beta_schedule = BetaSchedule::linear, .beta_start = 1e-4, .beta_end = 0.02}},
          {"scaled_linear_zero_snr", {.zero_terminal_snr = true}}};
}

io::SafetensorsFile schedule_file() {
  return io::SafetensorsFile::open(test::golden("schedules.safetensors"));
}

Tensor golden(const std::string& key, const std::string& schedule) {
  return schedule_file().tensor(key + "." + schedule);
}

TEST(NoiseScheduleTest, CumulativeAlphasAreThoseOfDiffusers) {
  for (const auto& [name, config] : golden_schedules()) {
    const NoiseSchedule schedule(config);
    const Tensor expected = golden("alphas_cumprod", name);
    // Rescaling to zero SNR goes through betas and back; sqrt and division round in other last digits
    // on other processors, and a product of 1000 factors carries them along: 3.6e-7 was seen.
    EXPECT_LE((schedule.alphas_cumprod() - expected).abs().max().item<double>(), 1e-6) << name;
  }
}

TEST(NoiseScheduleTest, StableDiffusionHasThePublishedValues) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  EXPECT_NEAR(schedule.alpha_bar(0), 0.99915, 1e-6);
  EXPECT_NEAR(schedule.alpha_bar(250), 0.67379263, 1e-6);
  EXPECT_NEAR(schedule.alpha_bar(500), 0.27633268, 1e-6);
  EXPECT_NEAR(schedule.alpha_bar(999), 0.00466010, 1e-7);
  EXPECT_NEAR(schedule.sigma(0), 0.029167, 1e-5);
  EXPECT_NEAR(schedule.sigma(999), 14.614641, 1e-4);
}

TEST(NoiseScheduleTest, SignalToNoiseRatiosAreThoseOfDiffusers) {
  for (const auto& [name, config] : golden_schedules()) {
    const Tensor snr = NoiseSchedule(config).snr(at::arange(1000, at::kLong));
    const Tensor expected = golden("snr", name);
    EXPECT_TRUE(at::allclose(snr, expected, 1e-3, 1e-9))
        << name;  // 1 - alpha_bar loses digits at t = 0
  }
}

TEST(NoiseScheduleTest, NoisedLatentsAndVelocitiesAreThoseOfDiffusers) {
  const io::SafetensorsFile file = schedule_file();
  const Tensor x0 = file.tensor("input.latents"), eps = file.tensor("input.noise");
  for (const auto& [name, config] : golden_schedules()) {
    const Coefficients c = NoiseSchedule(config).at(file.tensor("input.timesteps"));
    EXPECT_TRUE(close(add_noise(x0, eps, c), golden("add_noise", name), 1e-6)) << name;
    EXPECT_TRUE(close(target(Prediction::v_prediction, x0, eps, c), golden("velocity", name), 1e-6))
        << name;
  }
}

TEST(NoiseScheduleTest, ZeroTerminalSnrEndsAtZeroAndSigmasStayFinite) {
  const NoiseSchedule schedule({.zero_terminal_snr = true});
  EXPECT_EQ(schedule.alpha_bar(999), 0);
  EXPECT_NEAR(schedule.alpha_bar(998), 1.968e-7, 1e-9);
  EXPECT_NEAR(schedule.alpha_bar(500), 0.24101878, 1e-6);
  EXPECT_NEAR(schedule.alpha_bar(0), 0.99915, 1e-6);
  EXPECT_NEAR(schedule.sigma(999), 4096, 0.01);  // sqrt((1 - 2^-24) / 2^-24)
}

TEST(NoiseScheduleTest, SigmaIsGeometricBetweenTimestepsAndTimestepIsItsInverse) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  EXPECT_NEAR(schedule.sigma(400.5), std::sqrt(schedule.sigma(400) * schedule.sigma(401)), 1e-9);
  for (const double t : {0.0, 0.25, 17.0, 500.75, 998.5, 999.0}) {
    EXPECT_NEAR(schedule.timestep(schedule.sigma(t)), t, 1e-6);
  }
  EXPECT_EQ(schedule.timestep(0), 0);
  EXPECT_EQ(schedule.timestep(1e9), 999);
}

TEST(NoiseScheduleTest, RefusesTimestepsOutOfRange) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  const auto message = test::error_message([&] { schedule.at(at::full({2}, 1000, at::kLong)); });
  EXPECT_NE(message.find("0..999, got 1000"), std::string::npos) << message;
}

TEST(NoiseScheduleTest, ConfigReadsFromToml) {
  const auto config = config::from_toml<NoiseScheduleConfig>(
      "beta_schedule = \"linear\"\nzero_terminal_snr = true\n", "run.toml");
  EXPECT_EQ(config.beta_schedule, BetaSchedule::linear);
  EXPECT_TRUE(config.zero_terminal_snr);
  EXPECT_EQ(config.timesteps, 1000);
}

}  // namespace
}  // namespace emulsion::diffusion
