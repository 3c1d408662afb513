#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// DPM-Solver++ for the stochastic equation: x0 from the middle of the step in log(sigma), where x
/// has its noise already.
///
/// Both parts of a step see one Brownian path over sigma. Its increments from `sigma` to the middle
/// and from there to `next` are independent, so the increment of the whole step is their sum, each
/// weighted with the root of its length.
/// Source: k-diffusion, sample_dpmpp_sde with eta = 1 and r = 1/2.
Tensor dpmpp_sde(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn& noise,
                 const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    if (next == 0) {
      x = x0;
    } else {
      const double middle = std::sqrt(sigma * next);
      const auto half = ancestral_step(sigma, middle), whole = ancestral_step(sigma, next);
      const Tensor early = noise(2 * i), late = noise(2 * i + 1);
      const Tensor ahead = towards(x, x0, sigma, half.down) + early * half.up;
      const Tensor x0_middle = denoise(ahead, middle, plan.timestep_of(middle));
      const Tensor path = (early * std::sqrt(sigma - middle) + late * std::sqrt(middle - next)) /
                          std::sqrt(sigma - next);
      x = towards(x, x0_middle, sigma, whole.down) + path * whole.up;
    }
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
