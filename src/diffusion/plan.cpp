// Layout of timesteps and sigmas: the declarations are in sampler.h.
#include <cmath>

#include "core/error.h"
#include "diffusion/sampler.h"

namespace emulsion::diffusion {
namespace {

/// `count` values from 0 to `last`, ascending; a single one is `last`.
std::vector<double> evenly_spaced(double last, int64_t count) {
  std::vector<double> values;
  const double step = count > 1 ? last / static_cast<double>(count - 1) : 0;
  for (int64_t i = 0; i + 1 < count; ++i) values.push_back(static_cast<double>(i) * step);
  values.push_back(last);
  return values;
}

/// T - i T / n - 1, rounded. Summed as numpy.arange does, so that halves round alike.
std::vector<double> trailing_timesteps(double total, int64_t steps) {
  const double step = (total - total / static_cast<double>(steps)) - total;
  std::vector<double> values;
  for (int64_t i = 0; i < steps; ++i) {
    values.push_back(std::nearbyint(total + static_cast<double>(i) * step) - 1);
  }
  return values;
}

/// Descending timesteps of diffusers' leading and linspace.
std::vector<double> grid_timesteps(int64_t total, const Sampler& sampler, SigmaSchedule spacing,
                                   int64_t steps, int64_t offset) {
  const int64_t count = steps + (sampler.drops_last ? 1 : 0);
  std::vector<double> values;
  if (spacing == SigmaSchedule::leading) {
    for (int64_t i = 0; i < count; ++i) values.push_back(i * (total / count) + offset);
  } else {
    values = evenly_spaced(static_cast<double>(total - 1), count);
    if (sampler.whole_timesteps) {
      for (double& value : values) value = std::nearbyint(value);
    }
  }
  if (sampler.drops_last) values.erase(values.begin());
  std::reverse(values.begin(), values.end());
  return values;
}

std::vector<double> spaced_timesteps(int64_t total, const Sampler& sampler, SigmaSchedule spacing,
                                     int64_t steps, int64_t offset) {
  if (spacing == SigmaSchedule::trailing) {
    return trailing_timesteps(static_cast<double>(total), steps);
  }
  return grid_timesteps(total, sampler, spacing, steps, offset);
}

/// Solver sigma with linear interpolation between timesteps, as diffusers has it.
double linear_sigma(const NoiseSchedule& schedule, double timestep) {
  const auto low = std::min(static_cast<int64_t>(timestep), schedule.size() - 2);
  const double w = timestep - static_cast<double>(low);
  return schedule.sigmas()[low] + w * (schedule.sigmas()[low + 1] - schedule.sigmas()[low]);
}

/// Karras et al. 2022, arXiv:2206.00364, eq. 5 with rho = 7, without the final 0.
std::vector<double> karras_sigmas(double min, double max, int64_t steps) {
  constexpr double kRho = 7;
  const double low = std::pow(min, 1 / kRho), high = std::pow(max, 1 / kRho);
  std::vector<double> sigmas;
  for (int64_t i = 0; i < steps; ++i) {
    const double place = steps > 1 ? static_cast<double>(i) / static_cast<double>(steps - 1) : 0;
    sigmas.push_back(std::pow(high + place * (low - high), kRho));
  }
  return sigmas;
}

/// Timesteps of the sigmas; whole ones where the diffusers class rounds.
std::vector<double> timesteps_of(const NoiseSchedule& schedule, const Sampler& sampler,
                                 const std::vector<double>& sigmas) {
  const bool round =
      sampler.whole_timesteps && schedule.config().beta_schedule != BetaSchedule::squaredcos_cap_v2;
  std::vector<double> timesteps;
  for (const double sigma : sigmas) {
    const double timestep = schedule.timestep(sigma);
    timesteps.push_back(round ? std::nearbyint(timestep) : timestep);
  }
  return timesteps;
}

SamplingPlan karras_plan(const NoiseSchedule& schedule, const Sampler& sampler, double min,
                         double max, int64_t steps) {
  SamplingPlan plan;
  plan.sigmas = karras_sigmas(min, max, steps);
  plan.timesteps = timesteps_of(schedule, sampler, plan.sigmas);
  return plan;
}

SamplingPlan normal_plan(const NoiseSchedule& schedule, int64_t steps) {
  SamplingPlan plan;
  plan.timesteps = evenly_spaced(static_cast<double>(schedule.size() - 1), steps);
  std::reverse(plan.timesteps.begin(), plan.timesteps.end());
  for (const double t : plan.timesteps) plan.sigmas.push_back(schedule.sigma(t));
  return plan;
}

SamplingPlan diffusers_plan(const NoiseSchedule& schedule, const Sampler& sampler,
                            SigmaSchedule spacing, int64_t steps, const SchedulerOptions& options) {
  SamplingPlan plan;
  plan.timesteps = spaced_timesteps(schedule.size(), sampler, spacing, steps, options.steps_offset);
  EMULSION_CHECK(plan.timesteps.front() <= schedule.size() - 1 && plan.timesteps.back() >= 0,
                 config,
                 "[sampler] expected timesteps in 0..{}, got {}..{} from {} steps with offset {}; "
                 "take fewer steps",
                 schedule.size() - 1, plan.timesteps.back(), plan.timesteps.front(), steps,
                 options.steps_offset);
  for (const double t : plan.timesteps) plan.sigmas.push_back(linear_sigma(schedule, t));
  if (!options.use_karras_sigmas) return plan;
  // EulerDiscreteScheduler re-spaces the range it laid out, DPMSolverMultistepScheduler the
  // model's.
  const bool whole = sampler.drops_last;
  return karras_plan(schedule, sampler, whole ? schedule.sigmas().front() : plan.sigmas.back(),
                     whole ? schedule.sigmas().back() : plan.sigmas.front(), steps);
}

bool is_diffusers(SigmaSchedule spacing) {
  return spacing != SigmaSchedule::normal && spacing != SigmaSchedule::karras;
}

SamplingPlan unfinished_plan(const NoiseSchedule& schedule, const Sampler& sampler,
                             SigmaSchedule spacing, int64_t steps,
                             const SchedulerOptions& options) {
  if (spacing == SigmaSchedule::normal) return normal_plan(schedule, steps);
  if (spacing == SigmaSchedule::karras) {
    return karras_plan(schedule, sampler, schedule.sigmas().front(), schedule.sigmas().back(),
                       steps);
  }
  return diffusers_plan(schedule, sampler, spacing, steps, options);
}

}  // namespace

SamplingPlan make_plan(const NoiseSchedule& schedule, const Sampler& sampler, SigmaSchedule spacing,
                       int64_t steps, const SchedulerOptions& options) {
  const int64_t most = schedule.size() - (sampler.drops_last ? 1 : 0);
  EMULSION_CHECK(steps >= 1 && steps <= most, config, "[sampler] expected 1 to {} steps, got {}",
                 most, steps);
  SamplingPlan plan = unfinished_plan(schedule, sampler, spacing, steps, options);
  const double first = plan.sigmas.front();
  const bool ends_early =
      sampler.alpha_option && is_diffusers(spacing) && !options.set_alpha_to_one;
  plan.sigmas.push_back(ends_early ? schedule.sigmas().front() : 0);
  // At full noise the variance of x is 1 + sigma^2; EulerDiscreteScheduler leaves out the 1 in two
  // spacings.
  const bool leaves_out =
      !sampler.scaled_start && is_diffusers(spacing) && spacing != SigmaSchedule::leading;
  plan.init_scale = leaves_out ? first : std::sqrt(1 + first * first);
  return plan;
}

SamplingPlan truncate(const SamplingPlan& plan, double strength) {
  EMULSION_CHECK(strength > 0 && strength <= 1, config,
                 "[sampler] expected a strength above 0 and up to 1, got {}", strength);
  const auto total = static_cast<int64_t>(plan.timesteps.size());
  const int64_t kept =
      std::max<int64_t>(static_cast<int64_t>(strength * static_cast<double>(total)), 1);
  SamplingPlan part;
  part.timesteps.assign(plan.timesteps.end() - kept, plan.timesteps.end());
  part.sigmas.assign(plan.sigmas.end() - kept - 1, plan.sigmas.end());
  part.init_scale = std::sqrt(1 + part.sigmas.front() * part.sigmas.front());
  return part;
}

}  // namespace emulsion::diffusion
