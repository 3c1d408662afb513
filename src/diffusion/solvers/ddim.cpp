#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Song et al. 2021, arXiv:2010.02502, eq. 12 with eta = 0: the same eps joins the estimated x0
/// again at the next noise level. In sigma space that is Euler's step; written apart for the plan's
/// sake.
Tensor ddim(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
            const ProgressFn& progress) {
  const auto n = static_cast<int64_t>(plan.timesteps.size());
  for (int64_t i = 0; i < n; ++i) {
    const Tensor x0 = denoise(x, plan.sigmas[i], plan.timesteps[i]);
    const Tensor eps = (x - x0) / plan.sigmas[i];
    x = x0 + plan.sigmas[i + 1] * eps;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
