// Layout of timesteps and sigmas: the declarations are in sampler.h.
#include <cmath>

#include "core/error.h"
#include "diffusion/sampler.h"
#include "diffusion/spacings.h"

namespace emulsion::diffusion {
namespace {

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
std::vector<double> grid_timesteps(int64_t total, const Layout& layout, SigmaSchedule spacing,
                                   int64_t steps, int64_t offset) {
  const int64_t count = steps + (layout.drops_last ? 1 : 0);
  std::vector<double> values;
  if (spacing == SigmaSchedule::leading) {
    for (int64_t i = 0; i < count; ++i) values.push_back(i * (total / count) + offset);
  } else {
    values = evenly_spaced(static_cast<double>(total - 1), count);
    if (layout.whole_timesteps) {
      for (double& value : values) value = std::nearbyint(value);
    }
  }
  if (layout.drops_last) values.erase(values.begin());
  std::reverse(values.begin(), values.end());
  return values;
}

/// `steps` of `grid` timesteps, which are evenly spaced and end at T - 1.
std::vector<double> sparse_timesteps(int64_t total, int64_t grid, int64_t steps) {
  EMULSION_CHECK(steps <= grid, config, "[sampler] expected 1 to {} steps, got {}", grid, steps);
  std::vector<double> values;
  for (int64_t i = 0; i < steps; ++i) {
    values.push_back((grid - i * grid / steps) * (total / grid) - 1);
  }
  return values;
}

std::vector<double> spaced_timesteps(int64_t total, const Layout& layout, SigmaSchedule spacing,
                                     int64_t steps, int64_t offset) {
  if (layout.grid > 0) return sparse_timesteps(total, std::min(layout.grid, total), steps);
  if (spacing == SigmaSchedule::trailing) {
    return trailing_timesteps(static_cast<double>(total), steps);
  }
  return grid_timesteps(total, layout, spacing, steps, offset);
}

/// Solver sigma with linear interpolation between timesteps, as diffusers has it.
double linear_sigma(const NoiseSchedule& schedule, double timestep) {
  const auto low = std::min(static_cast<int64_t>(timestep), schedule.size() - 2);
  const double w = timestep - static_cast<double>(low);
  return schedule.sigmas()[low] + w * (schedule.sigmas()[low + 1] - schedule.sigmas()[low]);
}

/// The whole timestep that diffusers' multistep classes make of a re-spaced sigma. They cut off
/// what is behind the point after having interpolated between float32 logarithms, so that even the
/// model's own largest sigma may come to T - 2.
double cut_timestep(const NoiseSchedule& schedule, double sigma) {
  const auto log_of = [&](int64_t t) { return static_cast<float>(std::log(schedule.sigmas()[t])); };
  const double log_sigma = std::log(sigma);
  int64_t low = std::min(static_cast<int64_t>(schedule.timestep(sigma)) + 1, schedule.size() - 2);
  while (low > 0 && log_of(low) > log_sigma) --low;
  const double w = (log_of(low) - log_sigma) / (log_of(low) - log_of(low + 1));
  return std::floor(static_cast<double>(low) + std::clamp(w, 0.0, 1.0));
}

double timestep_of(const NoiseSchedule& schedule, double sigma, Layout::Rounding rounding) {
  if (rounding == Layout::Rounding::down) return cut_timestep(schedule, sigma);
  const double timestep = schedule.timestep(sigma);
  return rounding == Layout::Rounding::nearest ? std::nearbyint(timestep) : timestep;
}

SamplingPlan plan_of_sigmas(const NoiseSchedule& schedule, std::vector<double> sigmas,
                            Layout::Rounding rounding) {
  SamplingPlan plan;
  for (const double sigma : sigmas) {
    plan.timesteps.push_back(timestep_of(schedule, sigma, rounding));
  }
  plan.sigmas = std::move(sigmas);
  return plan;
}

SamplingPlan plan_of_timesteps(const NoiseSchedule& schedule, std::vector<double> timesteps) {
  SamplingPlan plan;
  for (const double t : timesteps) plan.sigmas.push_back(schedule.sigma(t));
  plan.timesteps = std::move(timesteps);
  return plan;
}

/// Plans of the same range with other sigmas between its ends.
SamplingPlan respaced(const NoiseSchedule& schedule, const Layout& layout, Respacing respacing,
                      double low, double high, int64_t steps) {
  switch (respacing) {
    case Respacing::karras:
      return plan_of_sigmas(schedule, karras_sigmas(low, high, steps, 7), layout.karras);
    case Respacing::exponential:
      return plan_of_sigmas(schedule, polyexponential_sigmas(low, high, steps, 1), layout.respaced);
    default:
      return plan_of_sigmas(schedule, beta_sigmas(low, high, steps), layout.respaced);
  }
}

SamplingPlan diffusers_plan(const NoiseSchedule& schedule, const Layout& layout,
                            SigmaSchedule spacing, int64_t steps, const SchedulerOptions& options) {
  SamplingPlan plan;
  plan.timesteps = spaced_timesteps(schedule.size(), layout, spacing, steps, options.steps_offset);
  EMULSION_CHECK(plan.timesteps.front() <= schedule.size() - 1 && plan.timesteps.back() >= 0,
                 config,
                 "[sampler] expected timesteps in 0..{}, got {}..{} from {} steps with offset {}; "
                 "take fewer steps",
                 schedule.size() - 1, plan.timesteps.back(), plan.timesteps.front(), steps,
                 options.steps_offset);
  for (const double t : plan.timesteps) plan.sigmas.push_back(linear_sigma(schedule, t));
  if (options.respacing == Respacing::none || layout.grid > 0) return plan;
  const bool whole = layout.whole_range;
  return respaced(schedule, layout, options.respacing,
                  whole ? schedule.sigmas().front() : plan.sigmas.back(),
                  whole ? schedule.sigmas().back() : plan.sigmas.front(), steps);
}

SamplingPlan unfinished_plan(const NoiseSchedule& schedule, const Layout& layout,
                             SigmaSchedule spacing, int64_t steps,
                             const SchedulerOptions& options) {
  const double low = schedule.sigmas().front(), high = schedule.sigmas().back();
  const auto rho = [&](double otherwise) { return options.rho > 0 ? options.rho : otherwise; };
  switch (spacing) {
    case SigmaSchedule::karras:
      return plan_of_sigmas(schedule, karras_sigmas(low, high, steps, rho(7)), layout.karras);
    case SigmaSchedule::exponential:
      return respaced(schedule, layout, Respacing::exponential, low, high, steps);
    case SigmaSchedule::beta:
      return respaced(schedule, layout, Respacing::beta, low, high, steps);
    case SigmaSchedule::polyexponential:
      return plan_of_sigmas(schedule, polyexponential_sigmas(low, high, steps, rho(1)),
                            layout.respaced);
    case SigmaSchedule::align_your_steps:
      return plan_of_sigmas(schedule, align_your_steps_sigmas(schedule, steps, options.sdxl_table),
                            layout.karras);
    case SigmaSchedule::leading:
    case SigmaSchedule::linspace:
    case SigmaSchedule::trailing:
      return diffusers_plan(schedule, layout, spacing, steps, options);
    default:
      return plan_of_timesteps(schedule, schedule_timesteps(schedule.size(), spacing, steps));
  }
}

/// Where sampling ends.
double last_sigma(const SamplingPlan& plan, const NoiseSchedule& schedule, const Layout& layout,
                  const SchedulerOptions& options) {
  const double smallest = schedule.sigmas().front();
  if (layout.end == Layout::End::alpha_option && !options.set_alpha_to_one) return smallest;
  if (layout.end != Layout::End::smallest) return 0;
  // DEISMultistepScheduler stays at the last of re-spaced sigmas.
  return options.respacing == Respacing::none ? smallest : plan.sigmas.back();
}

/// How the steps of a restarting plan are shared out; as A1111, the source of its defaults.
struct Restarts {
  static constexpr double kLow = 0.1, kHigh = 2;  // between which sigmas
  int64_t times = 0, steps = 0;                   // how often, and steps each time

  explicit Restarts(int64_t all) {
    if (all >= 20) times = 1, steps = 9;
    if (all >= 36) times = 2, steps = all / 4;
  }
};

size_t nearest(const std::vector<double>& sigmas, double wanted) {
  const auto distance = [&](double sigma) { return std::abs(sigma - wanted); };
  const auto found = std::min_element(
      sigmas.begin(), sigmas.end(), [&](double a, double b) { return distance(a) < distance(b); });
  return static_cast<size_t>(found - sigmas.begin());
}

/// Goes back up from about kLow to about kHigh and down again, `times` times.
SamplingPlan with_restarts(SamplingPlan plan, const NoiseSchedule& schedule,
                           const Restarts& restarts) {
  const size_t low = nearest(plan.sigmas, Restarts::kLow);
  const size_t high = nearest(plan.sigmas, Restarts::kHigh);
  if (restarts.times == 0 || high >= low) return plan;
  const auto down = karras_sigmas(plan.sigmas[low], plan.sigmas[high], restarts.steps + 1, 7);
  const SamplingPlan again = plan_of_sigmas(schedule, down, Layout::Rounding::none);
  for (int64_t i = 0; i < restarts.times; ++i) {
    const auto behind = static_cast<int64_t>(low) + 1;
    plan.sigmas.insert(plan.sigmas.begin() + behind, again.sigmas.begin(), again.sigmas.end());
    plan.timesteps.insert(plan.timesteps.begin() + behind, again.timesteps.begin(),
                          again.timesteps.end());
  }
  return plan;
}

}  // namespace

double SamplingPlan::next_timestep(int64_t i) const {
  return i + 1 < size() ? timesteps[i + 1] : timestep_of(sigmas[i + 1]);
}

bool is_diffusers(SigmaSchedule spacing) {
  return spacing == SigmaSchedule::leading || spacing == SigmaSchedule::linspace ||
         spacing == SigmaSchedule::trailing;
}

SamplingPlan make_plan(const NoiseSchedule& schedule, const Sampler& sampler, SigmaSchedule spacing,
                       int64_t steps, const SchedulerOptions& options) {
  const Layout& layout = sampler.layout;
  const int64_t most = schedule.size() - (layout.drops_last ? 1 : 0);
  EMULSION_CHECK(steps >= 1 && steps <= most, config, "[sampler] expected 1 to {} steps, got {}",
                 most, steps);
  const Restarts restarts(sampler.restarts ? steps : 0);
  SamplingPlan plan =
      unfinished_plan(schedule, layout, spacing, steps - restarts.times * restarts.steps, options);
  const double first = plan.sigmas.front();
  plan = with_restarts(std::move(plan), schedule, restarts);
  plan.sigmas.push_back(is_diffusers(spacing) ? last_sigma(plan, schedule, layout, options) : 0);
  plan.timestep_of = [schedule](double sigma) { return schedule.timestep(sigma); };
  // At full noise the variance of x is 1 + sigma^2; EulerDiscreteScheduler leaves out the 1 in two
  // spacings.
  const bool leaves_out =
      !layout.scaled_start && is_diffusers(spacing) && spacing != SigmaSchedule::leading;
  plan.init_scale = leaves_out ? first : std::sqrt(1 + first * first);
  return plan;
}

SamplingPlan truncate(const SamplingPlan& plan, double strength) {
  EMULSION_CHECK(strength > 0 && strength <= 1, config,
                 "[sampler] expected a strength above 0 and up to 1, got {}", strength);
  const int64_t kept =
      std::max<int64_t>(static_cast<int64_t>(strength * static_cast<double>(plan.size())), 1);
  SamplingPlan part = plan;
  part.timesteps.assign(plan.timesteps.end() - kept, plan.timesteps.end());
  part.sigmas.assign(plan.sigmas.end() - kept - 1, plan.sigmas.end());
  part.init_scale = std::sqrt(1 + part.sigmas.front() * part.sigmas.front());
  return part;
}

}  // namespace emulsion::diffusion
