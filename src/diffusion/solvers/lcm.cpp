#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Sampling from a consistency model: it estimates x0 in one step, and fresh noise takes that to
/// the next sigma. The boundary condition f(x, 0) = x mixes in some of x where the timestep is near
/// 0, with diffusers' timestep_scaling = 10 and sigma_data = 0.5.
/// Source: Luo et al. 2023, arXiv:2310.04378, alg. 3; Song et al. 2023, arXiv:2303.01469, eq. 5.
Tensor lcm(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn& noise,
           const ProgressFn& progress) {
  constexpr double kTimestepScaling = 10, kDataVariance = 0.25;
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const double time = plan.timesteps[i] * kTimestepScaling;
    const double skip = kDataVariance / (time * time + kDataVariance);
    const double out = time / std::sqrt(time * time + kDataVariance);
    const Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    x = out * x0 + x * (skip / std::sqrt(1 + sigma * sigma));
    if (next > 0) x = x + noise(i) * next;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
