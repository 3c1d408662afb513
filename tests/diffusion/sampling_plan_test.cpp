#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "diffusion/golden_samplers.h"

namespace emulsion::diffusion {
namespace {

using test::close;

Tensor as_tensor(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).to(at::kFloat);
}

/// Those of diffusers' values at which the network is evaluated first in a step: all of them, or
/// every second one of the classes that list both evaluations of a step. PNDM lists its second one
/// twice.
Tensor first_of_each_step(const Tensor& values, int64_t steps, const std::string& sampler) {
  if (sampler == "plms") return at::cat({values.slice(0, 0, 2), values.slice(0, 3)});
  if (values.size(0) <= steps + 1) return values;
  return at::cat({values.slice(0, 0, 1), values.slice(0, 2, {}, 2)});
}

TEST(SamplingPlanTest, TimestepsAndSigmasAreThoseOfDiffusers) {
  int sigmas = 0;
  for (const GoldenCase& c : golden_cases()) {
    const SamplingPlan plan = plan_of(c);
    const Tensor timesteps =
        first_of_each_step(golden_file().tensor(c.plan_key("timesteps")), c.steps, c.sampler);
    EXPECT_TRUE(close(as_tensor(plan.timesteps), timesteps, 1e-6)) << c.plan_key("timesteps");
    if (!golden_file().contains(c.plan_key("sigmas"))) continue;
    const Tensor expected =
        first_of_each_step(golden_file().tensor(c.plan_key("sigmas")), c.steps, c.sampler);
    EXPECT_TRUE(at::allclose(as_tensor(plan.sigmas).slice(0, 0, c.steps),
                             expected.slice(0, 0, c.steps), 1e-5, 0))
        << c.plan_key("sigmas");
    ++sigmas;
  }
  EXPECT_GT(sigmas, 200);
}

TEST(SamplingPlanTest, SchedulesAreThoseOfKDiffusion) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  struct Row {
    std::string name;
    SigmaSchedule spacing;
    SchedulerOptions options;
  };
  std::vector<Row> rows = {
      {"align_your_steps_sdxl", SigmaSchedule::align_your_steps, {.sdxl_table = true}},
      {"karras_rho4", SigmaSchedule::karras, {.rho = 4}},
      {"polyexponential_rho2", SigmaSchedule::polyexponential, {.rho = 2}},
  };
  for (const auto& [spacing, name] : enum_names(SigmaSchedule{})) {
    if (!is_diffusers(spacing)) rows.push_back({name, spacing, {}});
  }
  for (const Row& row : rows) {
    for (const int64_t steps : {1, 2, 7, 10, 20, 30}) {
      const std::string key = fmt::format("schedule.{}.{}", row.name, steps);
      Tensor expected = golden_file().tensor(key);
      expected = at::cat({expected, at::zeros({1}, at::kDouble)});
      const SamplingPlan plan =
          make_plan(schedule, find_sampler("euler"), row.spacing, steps, row.options);
      EXPECT_EQ(plan.size() + 1, expected.numel()) << key;
      // The model's sigmas are float32.
      EXPECT_TRUE(at::allclose(at::tensor(plan.sigmas, at::kDouble), expected, 2e-5, 0)) << key;
      EXPECT_EQ(plan.timesteps.size() + 1, plan.sigmas.size());
    }
  }
}

TEST(SamplingPlanTest, KarrasSigmasByHand) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  const SamplingPlan plan = make_plan(schedule, find_sampler("euler"), SigmaSchedule::karras, 3);
  // 14.614641^(1/7) = 1.466893, 0.029167^(1/7) = 0.603530; the middle is (their mean)^7.
  ASSERT_EQ(plan.sigmas.size(), 4);
  EXPECT_NEAR(plan.sigmas[0], 14.614641, 1e-4);
  EXPECT_NEAR(plan.sigmas[1], 1.27410, 1e-4);
  EXPECT_NEAR(plan.sigmas[2], 0.029167, 1e-6);
  EXPECT_EQ(plan.sigmas[3], 0);
  EXPECT_NEAR(plan.timesteps[0], 999, 1e-6);
  EXPECT_NEAR(plan.timesteps[2], 0, 1e-6);
  EXPECT_NEAR(schedule.sigma(plan.timesteps[1]), plan.sigmas[1], 1e-6);
}

TEST(SamplingPlanTest, NormalSpacesTimestepsEvenlyFromTheTop) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  const SamplingPlan plan = make_plan(schedule, find_sampler("euler"), SigmaSchedule::normal, 4);
  EXPECT_EQ(plan.timesteps, (std::vector<double>{999, 666, 333, 0}));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(plan.sigmas[i], schedule.sigma(plan.timesteps[i]));
  EXPECT_EQ(plan.sigmas.back(), 0);
  EXPECT_NEAR(plan.init_scale, std::hypot(1, plan.sigmas[0]), 1e-12);
}

TEST(SamplingPlanTest, EverySamplerAndSpacingDescendsForAnyNumberOfSteps) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  for (const Sampler& sampler : samplers()) {
    if (sampler.restarts) continue;
    for (const auto& [spacing, name] : enum_names(SigmaSchedule{})) {
      for (const int64_t steps : {1, 2, 7, 30, 49, 100}) {
        if (sampler.layout.grid > 0 && steps > sampler.layout.grid) continue;
        const SamplingPlan plan = make_plan(schedule, sampler, spacing, steps);
        const bool more = spacing == SigmaSchedule::ddim_uniform && 1000 % steps != 0;
        ASSERT_EQ(plan.size(), steps + (more ? 1 : 0)) << sampler.id << " " << name << " " << steps;
        ASSERT_EQ(plan.sigmas.size(), plan.size() + 1);
        for (int64_t i = 0; i < plan.size(); ++i) {
          ASSERT_GT(plan.sigmas[i], plan.sigmas[i + 1])
              << sampler.id << " " << name << " " << steps;
          ASSERT_GE(plan.timesteps[i], 0);
          ASSERT_LE(plan.timesteps[i], 999);
        }
        EXPECT_NEAR(schedule.sigma(plan.timestep_of(3.3)), 3.3, 1e-9);
      }
    }
  }
}

TEST(SamplingPlanTest, RefusesMoreStepsThanThereAreTimesteps) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  for (const int64_t steps : {0, 1001}) {
    const auto message = test::error_message(
        [&] { make_plan(schedule, find_sampler("ddim"), SigmaSchedule::leading, steps); });
    EXPECT_NE(message.find("1 to 1000 steps"), std::string::npos) << message;
  }
  const auto message = test::error_message([&] {
    make_plan(schedule, find_sampler("ddim"), SigmaSchedule::leading, 1000, {.steps_offset = 1});
  });
  EXPECT_NE(message.find("1..1000 from 1000 steps with offset 1"), std::string::npos) << message;
}

TEST(SamplingPlanTest, RestartsGoUpAgainWithinTheNumberOfSteps) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  for (const auto& [steps, times, each] :
       {std::tuple{19, 0, 0}, {20, 1, 9}, {35, 1, 9}, {36, 2, 9}, {50, 2, 12}}) {
    const SamplingPlan plan =
        make_plan(schedule, find_sampler("restart"), SigmaSchedule::karras, steps);
    int ups = 0, downs = 0;
    for (int64_t i = 0; i < plan.size(); ++i) {
      const bool up = plan.sigmas[i + 1] > plan.sigmas[i];
      up ? ++ups : ++downs;
      if (!up) continue;
      EXPECT_NEAR(std::log(plan.sigmas[i] / 0.1), 0, 0.7) << steps;
      EXPECT_NEAR(std::log(plan.sigmas[i + 1] / 2), 0, 0.7) << steps;
      EXPECT_NEAR(plan.sigmas[i + 1 + each], plan.sigmas[i], 1e-9);
    }
    EXPECT_EQ(ups, times) << steps;
    EXPECT_EQ(downs, steps);
  }
}

TEST(SamplingPlanTest, AlignYourStepsNamesTheNoiseScheduleItIsNotMadeFor) {
  const auto refusal = [](const NoiseScheduleConfig& config) {
    return test::error_message([&] {
      make_plan(NoiseSchedule(config), find_sampler("euler"), SigmaSchedule::align_your_steps, 10);
    });
  };
  EXPECT_NE(refusal({.zero_terminal_snr = true}).find("up to 4096.00 (zero terminal SNR)"),
            std::string::npos);
  EXPECT_NE(refusal({.beta_end = 0.02}).find("align_your_steps: expected a noise schedule up to"),
            std::string::npos);
}

TEST(SamplingPlanTest, TheConsistencyGridLimitsTheSteps) {
  const auto message = test::error_message([] {
    make_plan(NoiseSchedule{NoiseScheduleConfig{}}, find_sampler("lcm"), SigmaSchedule::leading,
              51);
  });
  EXPECT_NE(message.find("expected 1 to 50 steps, got 51"), std::string::npos) << message;
}

TEST(SamplingPlanTest, TruncationKeepsTheLastSteps) {
  const SamplingPlan plan = make_plan(NoiseSchedule{NoiseScheduleConfig{}}, find_sampler("euler"),
                                      SigmaSchedule::normal, 10);
  const SamplingPlan part = truncate(plan, 0.35);
  EXPECT_EQ(part.timesteps, std::vector<double>(plan.timesteps.end() - 3, plan.timesteps.end()));
  EXPECT_EQ(part.sigmas, std::vector<double>(plan.sigmas.end() - 4, plan.sigmas.end()));
  EXPECT_EQ(truncate(plan, 0.01).timesteps.size(), 1);
  EXPECT_EQ(truncate(plan, 1).sigmas, plan.sigmas);
}

}  // namespace
}  // namespace emulsion::diffusion
