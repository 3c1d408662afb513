#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Euler's method down to less than the next sigma, then fresh noise up to it.
Tensor euler_ancestral(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                       const NoiseFn& noise, const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i];
    const auto [down, up] = ancestral_step(sigma, plan.sigmas[i + 1]);
    const Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    x = x + slope(x, x0, sigma) * (down - sigma);
    if (up > 0) x = x + noise(i) * up;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
