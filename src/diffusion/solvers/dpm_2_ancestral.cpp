#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// The steps of dpm_2 down to less than the next sigma, then fresh noise up to it.
Tensor dpm_2_ancestral(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                       const NoiseFn& noise, const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i];
    const auto [down, up] = ancestral_step(sigma, plan.sigmas[i + 1]);
    Tensor direction = slope(x, denoise(x, sigma, plan.timesteps[i]), sigma);
    if (down > 0) {
      const double middle = std::sqrt(sigma * down);
      const Tensor ahead = x + direction * (middle - sigma);
      direction = slope(ahead, denoise(ahead, middle, plan.timestep_of(middle)), middle);
    }
    x = x + direction * (down - sigma);
    if (up > 0) x = x + noise(i) * up;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
