#include "diffusion/sampler.h"

#include <gtest/gtest.h>

#include <cmath>

#include "config/enum_names.h"
#include "core/error.h"
#include "core/random.h"
#include "io/safetensors.h"
#include "support/support.h"

namespace emulsion::diffusion {
namespace {

using test::close;

/// Stands for the network in the golden file.
Tensor golden_network(const Tensor& input, double timestep) {
  return 0.3 * input * std::cos(timestep / 1000 * 3) + 0.1 * input.sin();
}

struct GoldenRow {
  const char* name;
  const char* sampler;
  SchedulerOptions options;
};
const GoldenRow kGoldenRows[] = {
    {"ddim", "ddim", {.steps_offset = 1, .set_alpha_to_one = false}},
    {"euler", "euler", {.steps_offset = 1}},
    {"euler_ancestral", "euler_ancestral", {.steps_offset = 1}},
    {"dpmpp_2m", "dpmpp_2m", {.steps_offset = 1}},
    {"euler_karras", "euler", {.steps_offset = 1, .use_karras_sigmas = true}},
    {"dpmpp_2m_karras", "dpmpp_2m", {.steps_offset = 1, .use_karras_sigmas = true}},
};

struct GoldenCase {
  GoldenRow row;
  SigmaSchedule spacing;
  int64_t steps;
  Prediction prediction;

  std::string key(const std::string& what) const {
    const bool v = prediction == Prediction::v_prediction;
    return fmt::format("{}.{}.{}.{}.{}", row.name, config::name_of(spacing), steps, v ? "v" : "eps",
                       what);
  }
};

std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
  for (const GoldenRow& row : kGoldenRows) {
    for (const auto spacing :
         {SigmaSchedule::leading, SigmaSchedule::linspace, SigmaSchedule::trailing}) {
      for (const int64_t steps : {5, 20}) {
        for (const auto prediction : {Prediction::epsilon, Prediction::v_prediction}) {
          cases.push_back({row, spacing, steps, prediction});
        }
      }
    }
  }
  return cases;
}

Tensor as_tensor(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).to(at::kFloat);
}

SamplingPlan plan_of(const GoldenCase& c) {
  return make_plan(NoiseSchedule{NoiseScheduleConfig{}}, find_sampler(c.row.sampler), c.spacing,
                   c.steps, c.row.options);
}

const io::SafetensorsFile& golden_file() {
  static const auto kFile = io::SafetensorsFile::open(test::golden("samplers.safetensors"));
  return kFile;
}

TEST(SamplingPlanTest, TimestepsAndSigmasAreThoseOfDiffusers) {
  for (const GoldenCase& c : golden_cases()) {
    const SamplingPlan plan = plan_of(c);
    EXPECT_TRUE(close(as_tensor(plan.timesteps), golden_file().tensor(c.key("timesteps")), 1e-6))
        << c.key("timesteps");
    if (golden_file().contains(c.key("sigmas"))) {
      EXPECT_TRUE(
          at::allclose(as_tensor(plan.sigmas), golden_file().tensor(c.key("sigmas")), 1e-5, 0))
          << c.key("sigmas");
    }
  }
}

/// One golden trajectory: what the network saw in each step, and the end.
void expect_same_trajectory(const GoldenCase& c) {
  std::vector<Tensor> inputs;
  const auto network = [&](const Tensor& input, double timestep) {
    inputs.push_back(input);
    return golden_network(input, timestep);
  };
  const auto noise = [](int64_t step) {
    return golden_file().tensor("noise." + std::to_string(step));
  };
  const Tensor end =
      sample(find_sampler(c.row.sampler), plan_of(c), golden_file().tensor("input.x"),
             denoiser(c.prediction, network), noise);
  EXPECT_TRUE(close(end, golden_file().tensor(c.key("steps"))[-1], 2e-5)) << c.key("steps");
  if (!golden_file().contains(c.key("model_inputs"))) return;
  EXPECT_TRUE(close(at::stack(inputs), golden_file().tensor(c.key("model_inputs")), 2e-5))
      << c.key("model_inputs");
}

TEST(SamplerTest, TrajectoriesAreThoseOfDiffusers) {
  int compared = 0;
  for (const GoldenCase& c : golden_cases()) {
    // diffusers' DDIM steps to t - T / steps, which in linspace is not where its next step starts.
    if (std::string_view(c.row.sampler) == "ddim" && c.spacing == SigmaSchedule::linspace) continue;
    expect_same_trajectory(c);
    ++compared;
  }
  EXPECT_EQ(compared, 68);
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
    for (const auto& [spacing, name] : enum_names(SigmaSchedule{})) {
      for (const int64_t steps : {1, 2, 7, 30, 49, 100}) {
        const SamplingPlan plan = make_plan(schedule, sampler, spacing, steps);
        ASSERT_EQ(plan.timesteps.size(), steps) << sampler.id << " " << name;
        ASSERT_EQ(plan.sigmas.size(), steps + 1);
        for (int64_t i = 0; i < steps; ++i) ASSERT_GT(plan.sigmas[i], plan.sigmas[i + 1]) << name;
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

TEST(SamplingPlanTest, TruncationKeepsTheLastSteps) {
  const SamplingPlan plan = make_plan(NoiseSchedule{NoiseScheduleConfig{}}, find_sampler("euler"),
                                      SigmaSchedule::normal, 10);
  const SamplingPlan part = truncate(plan, 0.35);
  EXPECT_EQ(part.timesteps, std::vector<double>(plan.timesteps.end() - 3, plan.timesteps.end()));
  EXPECT_EQ(part.sigmas, std::vector<double>(plan.sigmas.end() - 4, plan.sigmas.end()));
  EXPECT_EQ(truncate(plan, 0.01).timesteps.size(), 1);
  EXPECT_EQ(truncate(plan, 1).sigmas, plan.sigmas);
}

TEST(SamplerTest, UnknownNameListsAllAndSuggests) {
  const auto message = test::error_message([] { find_sampler("eular"); });
  EXPECT_NE(
      message.find("ddim, euler, euler_ancestral, dpmpp_2m, got 'eular'; did you mean 'euler'?"),
      std::string::npos)
      << message;
}

/// Data ~ N(mean, deviation^2): the exact denoiser, and the exact solution of the sampling
/// equation, along which (x - mean) / sqrt(deviation^2 + sigma^2) is constant.
struct Gaussian {
  double mean = 0.7, deviation = 0.5;

  Tensor denoise(const Tensor& x, double sigma) const {
    const double weight = deviation * deviation / (deviation * deviation + sigma * sigma);
    return mean + weight * (x - mean);
  }
  Tensor solve(const Tensor& x, double from, double to) const {
    return mean + (x - mean) * (std::hypot(deviation, to) / std::hypot(deviation, from));
  }
};

/// Largest error at sigma 0.1 after `steps` steps from sigma 10, evenly spaced in log(sigma).
double error_after(const Sampler& sampler, int64_t steps) {
  const Gaussian data;
  SamplingPlan plan;
  for (int64_t i = 0; i <= steps; ++i) {
    plan.sigmas.push_back(10 * std::pow(0.01, static_cast<double>(i) / static_cast<double>(steps)));
  }
  plan.timesteps.assign(steps, 0);
  const Tensor x = at::linspace(-20, 20, 64, at::kDouble).view({1, 4, 4, 4});
  const auto denoise = [&](const Tensor& at_x, double sigma, double) {
    return data.denoise(at_x, sigma);
  };
  const Tensor end = sampler.function(plan, x, denoise, {}, {});
  return (end - data.solve(x, 10, 0.1)).abs().max().item<double>();
}

TEST(SamplerTest, ErrorFallsAtTheSolversOrder) {
  for (const Sampler& sampler : samplers()) {
    if (sampler.needs_noise) continue;
    const double coarse = error_after(sampler, 80), fine = error_after(sampler, 160);
    EXPECT_NEAR(std::log2(coarse / fine), sampler.order, 0.2) << sampler.id;
  }
}

TEST(SamplerTest, AncestralSamplingReproducesTheDataDistribution) {
  const Gaussian data;
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  const Sampler& sampler = find_sampler("euler_ancestral");
  const SamplingPlan plan = make_plan(schedule, sampler, SigmaSchedule::karras, 400);
  const Rng rng(3);
  const std::vector<int64_t> shape = {1, 4, 64, 64};
  const Tensor end = sample(
      sampler, plan, rng.normal(shape, Purpose::sample),
      [&](const Tensor& x, double sigma, double) { return data.denoise(x, sigma); },
      [&](int64_t step) { return rng.normal(shape, Purpose::sample, step + 1); });
  EXPECT_NEAR(end.mean().item<double>(), data.mean, 0.02);      // 16384 numbers: 0.004 expected
  EXPECT_NEAR(end.std().item<double>(), data.deviation, 0.02);  //
}

TEST(SamplerTest, ZeroTerminalSnrSamplesWithEverySolver) {
  const Gaussian data;
  const NoiseSchedule schedule({.zero_terminal_snr = true});
  const Tensor start = Rng(1).normal({2, 4, 8, 8}, Purpose::sample);
  for (const Sampler& sampler : samplers()) {
    for (const auto& [spacing, name] : enum_names(SigmaSchedule{})) {
      const SamplingPlan plan = make_plan(schedule, sampler, spacing, 50);
      const Tensor end = sample(
          sampler, plan, start,
          [&](const Tensor& x, double sigma, double) { return data.denoise(x, sigma); },
          [&](int64_t step) {
            return Rng(1).normal({2, 4, 8, 8}, Purpose::sample, step + 1);
          });
      ASSERT_TRUE(end.isfinite().all().item<bool>()) << sampler.id << " " << name;
      EXPECT_NEAR(end.mean().item<double>(), data.mean, 0.15) << sampler.id << " " << name;
    }
  }
}

TEST(SamplerTest, ReportsProgressAndStopsWhereItThrows) {
  const Sampler& sampler = find_sampler("euler");
  const SamplingPlan plan =
      make_plan(NoiseSchedule{NoiseScheduleConfig{}}, sampler, SigmaSchedule::normal, 5);
  int64_t evaluations = 0;
  const auto denoise = [&](const Tensor& x, double, double) {
    ++evaluations;
    return x;
  };
  const auto progress = [](int64_t done, int64_t total) {
    EXPECT_EQ(total, 5);
    if (done == 3) throw Error(ErrorCode::cancelled, "stopped");
  };
  EXPECT_THROW(sample(sampler, plan, at::zeros({1, 4, 2, 2}), denoise, {}, progress), Error);
  EXPECT_EQ(evaluations, 3);
}

}  // namespace
}  // namespace emulsion::diffusion
