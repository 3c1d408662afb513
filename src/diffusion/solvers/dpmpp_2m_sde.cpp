#include <cmath>

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
    Tensor middle = x0;  // x0 half a step ahead
    if (i > 0 && next > 0) {
      const double step = std::log(sigma / next), last_step = std::log(plan.sigmas[i - 1] / sigma);
      middle = x0 + (x0 - previous) * (step / (2 * last_step));
    }
    const auto [down, up] = ancestral_step(sigma, next);
    x = towards(x, middle, sigma, down);
    if (up > 0) x = x + noise(i) * up;
    previous = x0;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
