#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// DPM-Solver++(2M): exponential integrator in lambda = -log(sigma) with a linear extrapolation of
/// x0 from the last two estimates. First order in the first step and in a last one to sigma 0,
/// where lambda ends. Source: Lu et al. 2022, arXiv:2211.01095, alg. 2, divided by alpha.
Tensor dpmpp_2m(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
                const ProgressFn& progress) {
  const int64_t n = plan.size();
  Tensor previous;  // the last x0
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    const Tensor middle =
        i > 0 && next > 0 ? half_a_step_ahead(x0, previous, plan.sigmas[i - 1], sigma, next) : x0;
    x = towards(x, middle, sigma, next);
    previous = x0;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
