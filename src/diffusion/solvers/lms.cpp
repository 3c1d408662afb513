#include <cmath>
#include <deque>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {
namespace {

/// The integral over step i of the polynomial in sigma that is 1 at sigmas[i - j] and 0 at the
/// other `count` - 1 newest. Gauss' rule with two points is exact up to degree 3.
double coefficient(const std::vector<double>& sigmas, int64_t i, int64_t count, int64_t j) {
  const double middle = (sigmas[i] + sigmas[i + 1]) / 2, half = (sigmas[i + 1] - sigmas[i]) / 2;
  double sum = 0;
  for (const double point : {-1 / std::sqrt(3.0), 1 / std::sqrt(3.0)}) {
    double product = half;
    for (int64_t k = 0; k < count; ++k) {
      if (k == j) continue;
      product *= (middle + half * point - sigmas[i - k]) / (sigmas[i - j] - sigmas[i - k]);
    }
    sum += product;
  }
  return sum;
}

}  // namespace

/// Linear multistep of up to four slopes: Adams and Bashforth for unequal steps in sigma.
/// Source: k-diffusion, sample_lms.
Tensor lms(const SamplingPlan& plan, Tensor x, const DenoiseFn& denoise, const NoiseFn&,
           const ProgressFn& progress) {
  constexpr size_t kMost = 4;
  const int64_t n = plan.size();
  std::deque<Tensor> slopes;  // newest first
  for (int64_t i = 0; i < n; ++i) {
    slopes.push_front(slope(x, denoise(x, plan.sigmas[i], plan.timesteps[i]), plan.sigmas[i]));
    if (slopes.size() > kMost) slopes.pop_back();
    const auto count = static_cast<int64_t>(slopes.size());
    for (int64_t j = 0; j < count; ++j) {
      x = x + slopes[j] * coefficient(plan.sigmas, i, count, j);
    }
    if (progress) progress(i + 1, n);
  }
  return x;
}

}  // namespace emulsion::diffusion::solvers
