#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Karras et al. 2022, arXiv:2206.00364, alg. 2 without churn and without the second-order
/// correction.
Tensor euler(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
             const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const Tensor x0 = denoise(x, plan.sigmas[i], plan.timesteps[i]);
    x = x + slope(x, x0, plan.sigmas[i]) * (plan.sigmas[i + 1] - plan.sigmas[i]);
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
