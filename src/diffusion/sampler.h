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

/// Standard normal noise [B,C,h,w] for solver step `step`. Called only by solvers with needs_noise.
using NoiseFn = std::function<Tensor(int64_t step)>;

/// Called after each solver step with the number done and the number in all; may throw to stop. May
/// be empty.
using ProgressFn = std::function<void(int64_t done, int64_t total)>;

/// Where a solver evaluates the network.
struct SamplingPlan {
  std::vector<double> timesteps;  // n, descending
  std::vector<double> sigmas;     // n + 1, descending; the last is where sampling ends, mostly 0
  double init_scale = 1;          // standard normal noise times this is x at sigmas[0]
};

/// How noise levels are chosen.
enum class SigmaSchedule {
  normal,    // k-diffusion: evenly spaced timesteps T-1..0
  karras,    // Karras et al. 2022, eq. 5, rho = 7, over the model's whole range
  leading,   // diffusers' three timestep_spacing values:
  linspace,  //
  trailing,  //
};

constexpr auto enum_names(SigmaSchedule) {
  return std::to_array<std::pair<SigmaSchedule, const char*>>(
      {{SigmaSchedule::normal, "normal"},
       {SigmaSchedule::karras, "karras"},
       {SigmaSchedule::leading, "leading"},
       {SigmaSchedule::linspace, "linspace"},
       {SigmaSchedule::trailing, "trailing"}});
}

/// The options of a diffusers scheduler that apply to leading, linspace and trailing only.
struct SchedulerOptions {
  int64_t steps_offset = 0;        // added to every timestep; leading only
  bool set_alpha_to_one = true;    // ddim: end at sigma 0 rather than at the first timestep's sigma
  bool use_karras_sigmas = false;  // euler, dpmpp_2m: re-space the sigmas by eq. 5
};

using SolverFn = Tensor (*)(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                            const NoiseFn& noise, const ProgressFn& progress);

/// One solver, and how its diffusers class lays out timesteps.
struct Sampler {
  std::string_view id;
  SolverFn function;
  int order;         // error falls as (step size)^order
  bool needs_noise;  // draws noise in every step
  std::string_view diffusers_class;
  bool whole_timesteps;  // timesteps are rounded to integers
  bool drops_last;       // leading and linspace: lay out n + 1 timesteps and drop the smallest
  bool scaled_start;     // the first noise is scaled to sqrt(1 + sigma^2) in every spacing
  bool alpha_option;     // obeys set_alpha_to_one
};

/// All of them, in the order of the documentation.
const std::vector<Sampler>& samplers();

/// Throws: Error{config} with all ids and the closest one.
const Sampler& find_sampler(std::string_view id);

/// Lays out `steps` network evaluations.
///
/// Agrees with the sampler's diffusers class, but for two cases in which that class contradicts
/// itself: ddim always steps to the next timestep of the plan (diffusers: to t - T / steps, read as
/// the next timestep), and a plan of one step starts at the top. Throws: Error{config} if `steps`
/// is below 1 or more than the schedule can give.
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
