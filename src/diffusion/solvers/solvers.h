// The solvers' functions; samplers() is the table that names them. Only sampler.cpp and the solvers
// include this.
//
// In all of them x = x0 + sigma eps. i counts steps, n is their number.
#pragma once

#include "diffusion/sampler.h"

namespace emulsion::diffusion::solvers {

using Solver = Tensor(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                      const NoiseFn& noise, const ProgressFn& progress);

Solver ddim, ddpm, plms;
Solver euler, euler_ancestral, heun, dpm_2, dpm_2_ancestral, lms;
Solver dpmpp_2s_ancestral, dpmpp_sde, dpmpp_2m, dpmpp_2m_sde, dpmpp_3m_sde;
Solver uni_pc, deis, lcm, restart;

/// A step down to `next` in two parts: to `down` along the sampling equation, then noise of
/// deviation `up`, such that variances are those of the forward process: down^2 + up^2 = next^2.
/// Source: Song et al. 2021, arXiv:2010.02502, eq. 16 with eta = 1, in sigma space.
struct AncestralStep {
  double down, up;
};
AncestralStep ancestral_step(double sigma, double next);

/// dx / dsigma = (x - x0) / sigma, which is also the estimate of eps.
Tensor slope(const Tensor& x, const Tensor& x0, double sigma);

/// x at sigma `next` where x0 stays constant on the way from `sigma`.
Tensor towards(const Tensor& x, const Tensor& x0, double sigma, double next);

/// x0 extrapolated to the middle of the step from sigma to next, linear in log sigma through `previous`, the estimate at
/// `last`. Source: Lu et al. 2022, arXiv:2211.01095, alg. 2.
Tensor half_a_step_ahead(const Tensor& x0, const Tensor& previous, double last, double sigma, double next);

/// Step i of Heun's method.
Tensor heun_step(const SamplingPlan& plan, int64_t i, const Tensor& x, const DenoiseFn& denoise);

}  // namespace emulsion::diffusion::solvers
