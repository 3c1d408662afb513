#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// dpmpp_2m's extrapolation for the stochastic equation: twice the drift and fresh noise.
/// Source: Lu et al. 2022, arXiv:2211.01095, eq. 18 and appendix A; k-diffusion,
/// sample_dpmpp_2m_sde with solver_type "midpoint".
Tensor dpmpp_2m_sde(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                    const NoiseFn& noise, const ProgressFn& progress) {
  const int64_t n = plan.size();
  Tensor previous;  // the last x0
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    const Tensor middle =
        i > 0 && next > 0 ? half_a_step_ahead(x0, previous, plan.sigmas[i - 1], sigma, next) : x0;
    const auto [down, up] = ancestral_step(sigma, next);
    x = towards(x, middle, sigma, down);
    if (up > 0) x = x + noise(i) * up;
    previous = x0;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
