#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

Tensor heun_step(const SamplingPlan& plan, int64_t i, const Tensor& x, const DenoiseFn& denoise) {
  const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
  const Tensor first = slope(x, denoise(x, sigma, plan.timesteps[i]), sigma);
  const Tensor ahead = x + first * (next - sigma);
  if (next == 0) return ahead;
  const Tensor second = slope(ahead, denoise(ahead, next, plan.next_timestep(i)), next);
  return x + (first + second) * ((next - sigma) / 2);
}

/// Karras et al. 2022, arXiv:2206.00364, alg. 2 without churn: the mean of the slopes at both ends
/// of a step. Euler's step at the end, where sigma is 0.
Tensor heun(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
            const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    x = heun_step(plan, i, x, denoise);
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
