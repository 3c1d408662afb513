// Solvers of the sampling equation, and the noise levels they visit.
//
// A solver sees only a DenoiseFn and a SamplingPlan. It works in the sigma parametrisation of
// Karras et al. 2022 (arXiv:2206.00364): x = x0 + sigma eps, dx/dsigma = (x - x0) / sigma. What
// differs between the diffusers scheduler classes (rounding of timesteps, scale of the first noise)
// is data in a Sampler row.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "diffusion/noise_schedule.h"
#include "diffusion/prediction.h"

namespace emulsion::diffusion {

/// Estimates x0 from x = x0 + sigma eps. `x`, result: [B,C,h,w], float32.
using DenoiseFn = std::function<Tensor(const Tensor& x, double sigma, double timestep)>;

/// A network: `input` = x / sqrt(1 + sigma^2), [B,C,h,w]; returns what it was trained to predict.
using NetworkFn = std::function<Tensor(const Tensor& input, double timestep)>;

/// Standard normal noise [B,C,h,w]: the k-th draw of a picture, independent of all others. Called
/// only by solvers with needs_noise, once for each k = 0, 1, 2, ... in order.
///
/// k-diffusion's SDE solvers take their noise from a tree of one Brownian path, so that pictures
/// with different numbers of steps resemble each other. For the steps of one plan the increments
/// of such a path are independent normal numbers, which is what these draws are.
using NoiseFn = std::function<Tensor(int64_t k)>;

/// Called after each solver step with the number done and the number in all; may throw to stop. May
/// be empty.
using ProgressFn = std::function<void(int64_t done, int64_t total)>;

/// The noise levels that a solver visits.
struct SamplingPlan {
  std::vector<double> timesteps;  // n, descending
  std::vector<double> sigmas;     // n + 1, descending; the last is where sampling ends, mostly 0
  double init_scale = 1;          // standard normal noise times this is x at sigmas[0]
  /// Timestep of a sigma between those above, for solvers that evaluate there.
  std::function<double(double sigma)> timestep_of;

  int64_t size() const { return static_cast<int64_t>(timesteps.size()); }
  /// Timestep of sigmas[i + 1] > 0.
  double next_timestep(int64_t i) const;
};

/// How noise levels are chosen. T: number of the model's timesteps, n: of steps; a sigma of 0 comes
/// last.
enum class SigmaSchedule {
  normal,            // k-diffusion: evenly spaced timesteps T-1..0; A1111's "Uniform"
  karras,            // Karras et al. 2022, eq. 5, over the model's whole range
  exponential,       // evenly spaced log(sigma) over the whole range
  polyexponential,   // the same with the place raised to the power rho
  sgm_uniform,       // n + 1 evenly spaced timesteps T-1..0 without the last
  simple,            // ComfyUI: every (T / n)-th timestep from T-1, rounded up
  ddim_uniform,      // ComfyUI, A1111's "DDIM": every floor(T / n)-th timestep from 1, all of them,
                     // which are more than n if n does not divide T
  beta,              // quantiles of Beta(0.6, 0.6) over the range of sigma: A1111, diffusers
  align_your_steps,  // Sabour et al. 2024, arXiv:2404.14507: a table, interpolated in log(sigma)
  leading,           // diffusers' three timestep_spacing values:
  linspace,          //
  trailing,          //
};

constexpr auto enum_names(SigmaSchedule) {
  return std::to_array<std::pair<SigmaSchedule, const char*>>(
      {{SigmaSchedule::normal, "normal"},
       {SigmaSchedule::karras, "karras"},
       {SigmaSchedule::exponential, "exponential"},
       {SigmaSchedule::polyexponential, "polyexponential"},
       {SigmaSchedule::sgm_uniform, "sgm_uniform"},
       {SigmaSchedule::simple, "simple"},
       {SigmaSchedule::ddim_uniform, "ddim_uniform"},
       {SigmaSchedule::beta, "beta"},
       {SigmaSchedule::align_your_steps, "align_your_steps"},
       {SigmaSchedule::leading, "leading"},
       {SigmaSchedule::linspace, "linspace"},
       {SigmaSchedule::trailing, "trailing"}});
}

/// leading, linspace or trailing.
bool is_diffusers(SigmaSchedule spacing);

/// What a diffusers scheduler does to the sigmas that it laid out: use_karras_sigmas, ...
enum class Respacing { none, karras, exponential, beta };

struct SchedulerOptions {
  // Of a diffusers scheduler; for leading, linspace and trailing only.
  int64_t steps_offset = 0;      // added to every timestep; leading only
  bool set_alpha_to_one = true;  // ddim, plms: end at sigma 0 rather than at the first timestep's
  Respacing respacing = Respacing::none;
  // Of the other schedules.
  double rho = 0;           // karras (0 means 7) and polyexponential (0 means 1)
  bool sdxl_table = false;  // align_your_steps: the table made for SDXL rather than for SD 1
};

using SolverFn = Tensor (*)(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                            const NoiseFn& noise, const ProgressFn& progress);

/// What a diffusers class does with timesteps besides timestep_spacing.
struct Layout {
  enum class End { zero, alpha_option, smallest };  // smallest: the first timestep's sigma
  enum class Rounding { none, nearest, down };

  bool whole_timesteps = false;  // timesteps are rounded to integers
  bool drops_last = false;       // leading and linspace: lay out n + 1 and drop the smallest
  bool scaled_start = false;     // the first noise is scaled to sqrt(1 + sigma^2) in every spacing
  bool whole_range = false;      // re-spacing takes the model's range, not that of its timesteps
  End end = End::zero;
  Rounding karras = Rounding::none;  // of the timesteps of re-spaced sigmas
  Rounding respaced = Rounding::none;
  int64_t grid = 0;  // not 0: takes n of this many evenly spaced timesteps whatever the spacing
};

/// One solver, and the diffusers class that samples so. The class is empty if there is none.
struct Sampler {
  std::string_view id;
  SolverFn function;
  int order;         // error falls as (step size)^order once as many estimates are known
  bool needs_noise;  // draws noise
  std::string_view diffusers_class;
  Layout layout;
  bool restarts = false;  // the plan goes back up to a higher sigma and down again
};

/// All of them, in the order of the documentation.
const std::vector<Sampler>& samplers();

/// Throws: Error{config} with all ids and the closest one.
const Sampler& find_sampler(std::string_view id);

/// Lays out `steps` steps; some solvers evaluate the network twice in a step.
///
/// Agrees with the sampler's diffusers class, but for two cases in which that class contradicts
/// itself: ddim and plms always step to the next timestep of the plan (diffusers: to t - T / steps,
/// read as the next timestep), and a plan of one step starts at the top.
/// Throws: Error{config} if `steps` is below 1 or more than the schedule can give;
/// Error{unsupported} for align_your_steps with a noise schedule that its tables are not made for.
SamplingPlan make_plan(const NoiseSchedule& schedule, const Sampler& sampler, SigmaSchedule spacing,
                       int64_t steps, const SchedulerOptions& options = {});

/// The last part of a plan, for starting from a noised image: floor(strength * n) steps, at least
/// one. Throws: Error{config} unless 0 < strength <= 1.
SamplingPlan truncate(const SamplingPlan& plan, double strength);

/// Makes a DenoiseFn of a network: scales its input and converts its output to x0.
DenoiseFn denoiser(Prediction prediction, NetworkFn network);

/// Runs a solver from standard normal noise.
///
/// Shapes:  `start` [B,C,h,w], float32.
/// Returns: x0 [B,C,h,w]; where the plan ends at sigma > 0, x / sqrt(1 + sigma^2) as the diffusers
/// class does.
Tensor sample(const Sampler& sampler, const SamplingPlan& plan, const Tensor& start,
              const DenoiseFn& denoise, const NoiseFn& noise = {}, const ProgressFn& progress = {});

/// As sample, from `x` = x0 + plan.sigmas[0] * eps (with truncate: image to image).
Tensor sample_from(const Sampler& sampler, const SamplingPlan& plan, const Tensor& x,
                   const DenoiseFn& denoise, const NoiseFn& noise = {},
                   const ProgressFn& progress = {});

}  // namespace emulsion::diffusion
