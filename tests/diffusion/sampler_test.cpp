#include "diffusion/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>

#include "core/error.h"
#include "core/random.h"
#include "diffusion/golden_samplers.h"

namespace emulsion::diffusion {
namespace {

using test::close;

/// Stands for the network in the golden file.
Tensor golden_network(const Tensor& input, double timestep) {
  return 0.3 * input * std::cos(timestep / 1000 * 3) + 0.1 * input.sin();
}

Tensor golden_noise(int64_t k) { return golden_file().tensor("input.noise")[k]; }

/// Of the largest value, in float32.
double tolerance_of(const GoldenCase& c) {
  // The first step goes from sigma 4,096 to about 14: what is left of a sum 300 times as large has its last digits, which the
  // sine of another instruction set changes (4.5e-5 between AVX2 and AVX512).
  if (c.sampler == "euler" && c.respacing == "zero_snr") return 2e-4;
  // diffusers makes sqrt(next^2 - up^2) of dpm_2_ancestral in float32, a small difference.
  return c.sampler == "dpm_2_ancestral" ? 5e-5 : 2e-5;
}

/// One golden trajectory: what the network saw in each evaluation, and the end.
void expect_same_trajectory(const GoldenCase& c) {
  std::vector<Tensor> inputs;
  const auto network = [&](const Tensor& input, double timestep) {
    inputs.push_back(input);
    return golden_network(input, timestep);
  };
  const Tensor end = sample(find_sampler(c.sampler), plan_of(c), golden_file().tensor("input.x"),
                            denoiser(c.prediction, network), golden_noise);
  EXPECT_TRUE(close(end, golden_file().tensor(c.key("end")), tolerance_of(c))) << c.key("end");
  if (!golden_file().contains(c.key("model_inputs"))) return;
  EXPECT_TRUE(close(at::stack(inputs), golden_file().tensor(c.key("model_inputs")), 2e-5))
      << c.key("model_inputs");
}

TEST(SamplerTest, TrajectoriesAreThoseOfDiffusers) {
  std::map<std::string, int> compared;
  for (const GoldenCase& c : golden_cases()) {
    // diffusers' DDIM and PNDM step to t - T / steps, which in linspace is not where the next step
    // starts.
    const bool contradicts = c.sampler == "ddim" || c.sampler == "plms";
    if (contradicts && c.spacing == SigmaSchedule::linspace) continue;
    expect_same_trajectory(c);
    ++compared[c.sampler];
  }
  for (const Sampler& sampler : samplers()) {
    if (sampler.diffusers_class.empty()) continue;
    EXPECT_GE(compared[std::string(sampler.id)], 4) << sampler.id;
  }
}

/// The others have no class in diffusers; float64 is the reference.
TEST(SamplerTest, TheOthersAreThoseOfKDiffusion) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  int compared = 0;
  for (const Sampler& sampler : samplers()) {
    for (const int64_t steps : {5, 20, 40}) {
      const std::string key = fmt::format("k.{}.{}.end", sampler.id, steps);
      if (!golden_file().contains(key)) continue;
      const Tensor end = sample(sampler, make_plan(schedule, sampler, SigmaSchedule::karras, steps),
                                golden_file().tensor("input.x"),
                                denoiser(Prediction::epsilon, golden_network), golden_noise);
      EXPECT_TRUE(close(end, golden_file().tensor(key).to(at::kFloat), 2e-5)) << key;
      ++compared;
    }
    const bool has_class = !sampler.diffusers_class.empty();
    EXPECT_EQ(golden_file().contains(fmt::format("k.{}.20.end", sampler.id)), !has_class);
  }
  EXPECT_EQ(compared, 7);
}

TEST(SamplerTest, UnknownNameListsAllAndSuggests) {
  const auto message = test::error_message([] { find_sampler("eular"); });
  EXPECT_NE(message.find("expected one of euler, euler_ancestral, heun"), std::string::npos);
  EXPECT_NE(message.find("got 'eular'; did you mean 'euler'?"), std::string::npos) << message;
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

SamplingPlan log_spaced(double from, double to, int64_t steps) {
  SamplingPlan plan;
  for (int64_t i = 0; i <= steps; ++i) {
    plan.sigmas.push_back(from *
                          std::pow(to / from, static_cast<double>(i) / static_cast<double>(steps)));
  }
  plan.timesteps.assign(steps, 0);
  plan.timestep_of = [](double) { return 0.0; };
  return plan;
}

/// Largest error at sigma 0.1 after `steps` steps from sigma 10, evenly spaced in log(sigma).
double error_after(const Sampler& sampler, int64_t steps) {
  const Gaussian data;
  const Tensor x = at::linspace(-20, 20, 64, at::kDouble).view({1, 4, 4, 4});
  const auto denoise = [&](const Tensor& at_x, double sigma, double) {
    return data.denoise(at_x, sigma);
  };
  const Tensor end = sampler.function(log_spaced(10, 0.1, steps), x, denoise, {}, {});
  return (end - data.solve(x, 10, 0.1)).abs().max().item<double>();
}

TEST(SamplerTest, ErrorFallsAtTheSolversOrderOrAtThatOfItsFirstStep) {
  for (const Sampler& sampler : samplers()) {
    if (sampler.needs_noise) continue;
    const double coarse = error_after(sampler, 160), fine = error_after(sampler, 320);
    EXPECT_GT(std::log2(coarse / fine), std::min(sampler.order, 2) - 0.2) << sampler.id;
  }
}

/// A problem with a known solution that moves only after the start, so that a multistep solver's
/// first steps of low order make no error: x*(sigma) = sigma F(u), u = log(10 / sigma), F = u^8 up
/// to a factor. x0 is what follows from dx*/dsigma = (x* - x0) / sigma, plus half of x's distance
/// to x*.
double error_from_rest(const Sampler& sampler, int64_t steps) {
  constexpr double kFrom = 10, kTo = 0.2, kScale = 4e-5;
  const auto solution = [](double sigma) {
    return sigma * (1 + kScale * std::pow(std::log(kFrom / sigma), 8));
  };
  const auto denoise = [&](const Tensor& x, double sigma, double) {
    const double x0 = sigma * kScale * 8 * std::pow(std::log(kFrom / sigma), 7);
    return x0 + 0.5 * (x - solution(sigma));
  };
  const Tensor x = at::full({1, 1, 1, 1}, solution(kFrom), at::kDouble);
  const Tensor end = sampler.function(log_spaced(kFrom, kTo, steps), x, denoise, {}, {});
  return std::abs(end.item<double>() - solution(kTo));
}

TEST(SamplerTest, ErrorFallsAtTheSolversOrder) {
  for (const Sampler& sampler : samplers()) {
    if (sampler.needs_noise && !sampler.restarts) continue;
    const double coarse = error_from_rest(sampler, 160), fine = error_from_rest(sampler, 320);
    EXPECT_NEAR(std::log2(coarse / fine), sampler.order, 0.2) << sampler.id;
  }
}

/// x0 to a normal distribution of data is exact, so that only the solver can be wrong.
Tensor sampled_gaussian(const Sampler& sampler, const SamplingPlan& plan, uint64_t seed) {
  const Gaussian data;
  const Rng rng(seed);
  const std::vector<int64_t> shape = {1, 4, 64, 64};
  const double deviation = std::hypot(data.deviation, plan.sigmas.front());
  return sample_from(
      sampler, plan, data.mean + deviation * rng.normal(shape, Purpose::sample),
      [&](const Tensor& x, double sigma, double) { return data.denoise(x, sigma); },
      [&](int64_t k) { return rng.normal(shape, Purpose::sample, k + 1); });
}

TEST(SamplerTest, SamplesHaveTheDataDistribution) {
  const Gaussian data;
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  for (const Sampler& sampler : samplers()) {
    if (sampler.id == "lcm") continue;  // for consistency models: x0 must already be a sample
    const SamplingPlan plan = make_plan(schedule, sampler, SigmaSchedule::karras, 400);
    const Tensor end = sampled_gaussian(sampler, plan, 3);
    EXPECT_NEAR(end.mean().item<double>(), data.mean, 0.02) << sampler.id;  // 16384 numbers: 0.004
    EXPECT_NEAR(end.std().item<double>(), data.deviation, 0.02) << sampler.id;
  }
}

/// A step's noise in its middle and at its end is one path: so many of its variances are known.
TEST(SamplerTest, TheMiddleOfAStepSeesTheNoiseOfTheStep) {
  SamplingPlan plan = log_spaced(4, 1, 1);
  Tensor middle;
  const auto denoise = [&](const Tensor& x, double, double) {
    middle = x;
    return at::zeros_like(x);
  };
  const std::vector<int64_t> shape = {1, 4, 64, 64};
  const Tensor end =
      find_sampler("dpmpp_sde")
          .function(plan, at::zeros(shape), denoise,
                    [&](int64_t k) { return Rng(5).normal(shape, Purpose::sample, k); }, {});
  // From sigma 4 over 2 to 1 with x0 = 0: deviations 2 sqrt(1 - 1/4) and 1 sqrt(1 - 1/16); the
  // increments 4..2 and 4..1 of one path have correlation sqrt(2 / 3).
  EXPECT_NEAR(middle.std().item<double>(), std::sqrt(3.0), 0.03);
  EXPECT_NEAR(end.std().item<double>(), std::sqrt(15.0) / 4, 0.02);
  const double correlation = (middle * end).mean().item<double>() /
                             (middle.std().item<double>() * end.std().item<double>());
  EXPECT_NEAR(correlation, std::sqrt(2.0 / 3), 0.02);
}

TEST(SamplerTest, ZeroTerminalSnrSamplesWithEverySolver) {
  const Gaussian data;
  const NoiseSchedule schedule({.zero_terminal_snr = true});
  for (const Sampler& sampler : samplers()) {
    for (const auto& [spacing, name] : enum_names(SigmaSchedule{})) {
      if (spacing == SigmaSchedule::align_your_steps) continue;  // refused by name
      const Tensor end = sampled_gaussian(sampler, make_plan(schedule, sampler, spacing, 50), 1);
      ASSERT_TRUE(end.isfinite().all().item<bool>()) << sampler.id << " " << name;
      // beta takes most of its sigmas from both ends, of which the upper is at 4096 then.
      const double tolerance = spacing == SigmaSchedule::beta ? 0.3 : 0.15;
      EXPECT_NEAR(end.mean().item<double>(), data.mean, tolerance) << sampler.id << " " << name;
    }
  }
}

/// Draws are numbered 0, 1, 2, ...: a generator that can only go on (core/noise.h) gives the same.
TEST(SamplerTest, NoiseIsAskedForInOrderAndOnce) {
  const NoiseSchedule schedule{NoiseScheduleConfig{}};
  for (const Sampler& sampler : samplers()) {
    int64_t asked = 0;
    const auto noise = [&](int64_t k) {
      EXPECT_EQ(k, asked++) << sampler.id;
      return at::zeros({1, 4, 2, 2});
    };
    const auto denoise = [](const Tensor& x, double, double) { return x / 2; };
    sample(sampler, make_plan(schedule, sampler, SigmaSchedule::karras, 40), at::ones({1, 4, 2, 2}),
           denoise, noise);
    EXPECT_EQ(asked > 0, sampler.needs_noise) << sampler.id;
  }
}

TEST(SamplerTest, EverySamplerAndScheduleIsOnItsPage) {
  std::ifstream file(test::source_dir() / "docs/samplers.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  const auto names = [&](std::string_view id) { return page.find(fmt::format("`{}`", id)); };
  for (const Sampler& sampler : samplers()) {
    EXPECT_NE(names(sampler.id), page.npos) << sampler.id;
    if (sampler.diffusers_class.empty()) continue;
    EXPECT_NE(names(sampler.diffusers_class), page.npos) << sampler.diffusers_class;
  }
  for (const auto& [spacing, name] : enum_names(SigmaSchedule{})) {
    EXPECT_NE(names(name), page.npos) << name;
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
