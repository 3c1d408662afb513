#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Song et al. 2021, arXiv:2010.02502, eq. 12 with eta = 0: the same eps joins the estimated x0
/// again at the next noise level. In sigma space that is Euler's step; written apart for the plan's
/// sake.
Tensor ddim(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
            const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const Tensor x0 = denoise(x, plan.sigmas[i], plan.timesteps[i]);
    x = x0 + plan.sigmas[i + 1] * slope(x, x0, plan.sigmas[i]);
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
