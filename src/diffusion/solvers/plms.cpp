#include <deque>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {
namespace {

/// The weighted mean of the newest up to four estimates, newest first.
Tensor adams_bashforth(const std::deque<Tensor>& eps) {
  switch (eps.size()) {
    case 1:
      return eps[0];
    case 2:
      return (3 * eps[0] - eps[1]) / 2;
    case 3:
      return (23 * eps[0] - 16 * eps[1] + 5 * eps[2]) / 12;
    default:
      return (55 * eps[0] - 59 * eps[1] + 37 * eps[2] - 9 * eps[3]) / 24;
  }
}

}  // namespace

/// Pseudo linear multistep: DDIM's step with an eps extrapolated by Adams and Bashforth from those
/// of the steps before, as if all steps were equally long. The first step evaluates at both its
/// ends and takes the mean, so that n steps take n + 1 evaluations.
/// Source: Liu et al. 2022, arXiv:2202.09778, eq. 12, 13 and 23 (without the Runge-Kutta start).
Tensor plms(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
            const ProgressFn& progress) {
  const int64_t n = plan.size();
  std::deque<Tensor> eps;  // newest first
  const auto eps_at = [&](const Tensor& at_x, int64_t i) {
    return slope(at_x, denoise(at_x, plan.sigmas[i], plan.timesteps[i]), plan.sigmas[i]);
  };
  for (int64_t i = 0; i < n; ++i) {
    const double step = plan.sigmas[i + 1] - plan.sigmas[i];
    eps.push_front(eps_at(x, i));
    if (eps.size() > 4) eps.pop_back();
    Tensor mean = adams_bashforth(eps);
    if (i == 0 && n > 1) mean = (mean + eps_at(x + mean * step, 1)) / 2;
    x = x + mean * step;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
