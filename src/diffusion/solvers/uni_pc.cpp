#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {
namespace {

/// The step before x0 was known at its end.
struct Step {
  Tensor x;          // where it began
  Tensor x0;         // there
  Tensor older_x0;   // one step earlier; undefined in a first-order step
  double h = 0;      // length in log(sigma)
  double ratio = 0;  // of the length before it to h
};

/// The end of a step: the exponential integrator with x0 extrapolated to the middle.
Tensor predicted(const Step& step) {
  const double shrink = std::exp(-step.h);
  Tensor x0 = step.x0;
  if (step.older_x0.defined()) x0 = x0 + (step.x0 - step.older_x0) / (2 * step.ratio);
  return shrink * step.x + (1 - shrink) * x0;
}

/// The end of a step again, now that x0 is known there.
Tensor corrected(const Step& step, const Tensor& end_x0) {
  const double grow = std::expm1(-step.h);  // B(h) of "bh2"
  const Tensor ahead = end_x0 - step.x0;
  Tensor change = ahead / 2;
  if (step.older_x0.defined()) {
    // rho of eq. 11 solves [1 1; r 1] rho = b with r = -ratio.
    const double phi_1 = grow / -step.h - 1, phi_2 = phi_1 / -step.h - 0.5;
    const double b0 = phi_1 / grow, b1 = 2 * phi_2 / grow;
    const double older = (b1 - b0) / (-step.ratio - 1);
    change = older * (step.x0 - step.older_x0) / step.ratio + (b0 - older) * ahead;
  }
  return std::exp(-step.h) * step.x - grow * (step.x0 + change);
}

}  // namespace

/// UniPC of order 2 with B(h) = exp(h) - 1 and data prediction: dpmpp_2m's step as predictor, and a
/// corrector that costs no evaluation, which makes it of order 3.
/// Source: Zhao et al. 2023, arXiv:2302.04867, alg. 5 and 6, divided by alpha.
Tensor uni_pc(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
              const ProgressFn& progress) {
  const int64_t n = plan.size();
  Step step;
  for (int64_t i = 0; i < n; ++i) {
    const Tensor x0 = denoise(x, plan.sigmas[i], plan.timesteps[i]);
    if (i > 0) x = corrected(step, x0);
    const double next = plan.sigmas[i + 1];
    const double h = std::log(plan.sigmas[i] / next);
    const bool second = i > 0 && next > 0;
    step = {x, x0, second ? step.x0 : Tensor(), h, second ? step.h / h : 0};
    x = predicted(step);
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
