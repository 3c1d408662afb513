#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// Heun's steps downwards; where the plan goes up again, fresh noise takes x there, which undoes
/// part of the errors made so far. Source: Xu et al. 2023, arXiv:2306.14878, alg. 1.
Tensor restart(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn& noise,
               const ProgressFn& progress) {
  const int64_t n = plan.size();
  int64_t draws = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    x = next > sigma ? x + noise(draws++) * std::sqrt(next * next - sigma * sigma)
                     : heun_step(plan, i, x, denoise);
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
