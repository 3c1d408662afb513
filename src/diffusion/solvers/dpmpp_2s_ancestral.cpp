#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

/// DPM-Solver++(2S): x0 from the middle of the step in log(sigma), down to less than the next
/// sigma, then fresh noise up to it. Source: Lu et al. 2022, arXiv:2211.01095, alg. 1 with r = 1/2;
/// k-diffusion, sample_dpmpp_2s_ancestral.
Tensor dpmpp_2s_ancestral(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                          const NoiseFn& noise, const ProgressFn& progress) {
  const int64_t n = plan.size();
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i];
    const auto [down, up] = ancestral_step(sigma, plan.sigmas[i + 1]);
    Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    if (down > 0) {
      const double middle = std::sqrt(sigma * down);
      x0 = denoise(towards(x, x0, sigma, middle), middle, plan.timestep_of(middle));
    }
    x = towards(x, x0, sigma, down);
    if (up > 0) x = x + noise(i) * up;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
