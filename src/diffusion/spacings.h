// Sigmas of the schedules of k-diffusion, ComfyUI and A1111; make_plan (sampler.h) turns them into
// plans.
//
// All are descending and end above 0.
#pragma once

#include <cstdint>
#include <vector>

#include "diffusion/sampler.h"

namespace emulsion::diffusion {

/// `count` values from 0 to `last`, ascending; a single one is `last`.
std::vector<double> evenly_spaced(double last, int64_t count);

/// `steps` sigmas from `high` to `low`, evenly spaced in sigma^(1/rho).
/// Source: Karras et al. 2022, arXiv:2206.00364, eq. 5.
std::vector<double> karras_sigmas(double low, double high, int64_t steps, double rho);

/// log(sigma) = log(low) + place^rho log(high / low), place evenly from 1 to 0.
std::vector<double> polyexponential_sigmas(double low, double high, int64_t steps, double rho);

/// low + (high - low) q with q quantiles of Beta(0.6, 0.6), whose places go evenly from 1 to 0.
/// Source: Lee et al. 2024, arXiv:2407.12173, in sigma as A1111 and diffusers have it.
std::vector<double> beta_sigmas(double low, double high, int64_t steps);

/// The table of NVIDIA's authors for 10 steps of SD 1 or SDXL, log(sigma) interpolated to other
/// numbers of steps. Source: Sabour et al. 2024, arXiv:2404.14507.
/// Throws: Error{unsupported} if the schedule does not end where the tables begin (sigma 14.6).
std::vector<double> align_your_steps_sigmas(const NoiseSchedule& schedule, int64_t steps,
                                            bool sdxl);

/// Descending timesteps of normal, sgm_uniform, simple and ddim_uniform (see SigmaSchedule); the
/// last may be more than `steps`.
std::vector<double> schedule_timesteps(int64_t total, SigmaSchedule spacing, int64_t steps);

/// x with I_x(a, b) = p, I the regularised incomplete beta function; within 1e-14.
double beta_quantile(double p, double a, double b);

}  // namespace emulsion::diffusion
