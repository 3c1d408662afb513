#include <cmath>
#include <deque>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {
namespace {

struct Estimate {
  Tensor x0;
  double step;  // of log(sigma), from here to the next
};

/// What the curve of x0 adds to a step of length `h`; `past`: the steps before it, newest first.
Tensor bend(const Tensor& x0, double h, const std::deque<Estimate>& past) {
  const double twice = 2 * h;
  const double phi_2 = std::expm1(-twice) / twice + 1, phi_3 = phi_2 / twice - 0.5;
  const double r0 = past[0].step / h;
  const Tensor near = (x0 - past[0].x0) / r0;
  if (past.size() == 1) return phi_2 * near;
  const double r1 = past[1].step / h;
  const Tensor far = (past[0].x0 - past[1].x0) / r1;
  const Tensor first = near + (near - far) * (r0 / (r0 + r1));
  const Tensor second = (near - far) / (r0 + r1);
  return phi_2 * first - phi_3 * second;
}

}  // namespace

/// As dpmpp_2m_sde, with a parabola through the last three estimates of x0.
/// Source: k-diffusion, sample_dpmpp_3m_sde with eta = 1.
Tensor dpmpp_3m_sde(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise,
                    const NoiseFn& noise, const ProgressFn& progress) {
  const int64_t n = plan.size();
  std::deque<Estimate> past;  // newest first
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const Tensor x0 = denoise(x, sigma, plan.timesteps[i]);
    const auto [down, up] = ancestral_step(sigma, next);
    x = towards(x, x0, sigma, down);
    if (next > 0) {
      const double h = std::log(sigma / next);
      if (!past.empty()) x = x + bend(x0, h, past);
      x = x + noise(i) * up;
      past.push_front({x0, h});
      if (past.size() > 2) past.pop_back();
    }
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
