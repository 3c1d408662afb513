#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {
namespace {

/// The integral from `from` to `to` of the line in log(sigma) that is 1 at `one` and 0 at `zero`.
double coefficient(double from, double to, double one, double zero) {
  const auto integral = [&](double sigma) {
    return sigma * (std::log(sigma) - std::log(zero) - 1) / (std::log(one) - std::log(zero));
  };
  return integral(to) - integral(from);
}

}  // namespace

/// DEIS of order 2: eps as a line in log(sigma) through the last two estimates, integrated over
/// sigma. First order at the beginning, at sigma 0, and in the last of fewer than 15 steps as
/// diffusers' lower_order_final has it.
/// Source: Zhang & Chen 2023, arXiv:2204.13902, eq. 14 and 15, with rho = sigma and its logarithm.
Tensor deis(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
            const ProgressFn& progress) {
  const int64_t n = plan.size();
  Tensor older;  // the last eps
  for (int64_t i = 0; i < n; ++i) {
    const double sigma = plan.sigmas[i], next = plan.sigmas[i + 1];
    const Tensor eps = slope(x, denoise(x, sigma, plan.timesteps[i]), sigma);
    const bool short_end = i + 1 == n && n < 15;
    if (i == 0 || next == 0 || short_end) {
      x = x + eps * (next - sigma);
    } else {
      const double before = plan.sigmas[i - 1];
      x = x + eps * coefficient(sigma, next, sigma, before) +
          older * coefficient(sigma, next, before, sigma);
    }
    older = eps;
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
