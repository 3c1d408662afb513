#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Euler's method down to sigma_down, then fresh noise up to the next sigma, such that the
/// variances are those of the forward process: sigma_down^2 + sigma_up^2 = next^2. Source: Song et
/// al. 2021, arXiv:2010.02502, eq. 16 with eta = 1, in sigma space.
Tensor euler_ancestral(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                       const NoiseFn& noise, const ProgressFn& progress) {
  const auto n = static_cast<int64_t>(plan.timesteps.size());
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const double up = next * std::sqrt(sigma * sigma - next * next) / sigma;
    const double down = next * next / sigma;
    const Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    x = x + (x - x0) / sigma * (down - sigma);
    if (up > 0) x = x + noise(i) * up;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
