#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Mean and variance of the forward process' posterior, with the estimated x0 for x0. In sigma
/// space that is euler_ancestral's step; written apart for the plan's sake.
/// Source: Ho et al. 2020, arXiv:2006.11239, eq. 7.
Tensor ddpm(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn& noise,
            const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const double kept = next * next / (sigma * sigma);
    x = (1 - kept) * denoise(x, sigma, plan.timesteps[i]) + kept * x;
    if (next > 0) x = x + noise(i) * (next * std::sqrt(1 - kept));
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
