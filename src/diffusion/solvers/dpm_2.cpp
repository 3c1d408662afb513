#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// The midpoint method, with the middle of a step in log(sigma). Euler's step at the end.
/// Source: k-diffusion, sample_dpm_2; after DPM-Solver-2 of Lu et al. 2022, arXiv:2206.00927.
Tensor dpm_2(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
             const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    Tensor direction = slope(x, denoise(x, sigma, plan.timesteps[i]), sigma);
    if (next > 0) {
      const double middle = std::sqrt(sigma * next);
      const Tensor ahead = x + direction * (middle - sigma);
      direction = slope(ahead, denoise(ahead, middle, plan.timestep_of(middle)), middle);
    }
    x = x + direction * (next - sigma);
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
