// What several solvers have in common.
#include <cmath>

#include "diffusion/solvers/solvers.h"

namespace emulsion::diffusion::solvers {

AncestralStep ancestral_step(double sigma, double next) {
  return {next * next / sigma, next * std::sqrt(sigma * sigma - next * next) / sigma};
}

Tensor slope(const Tensor& x, const Tensor& x0, double sigma) { return (x - x0) / sigma; }

Tensor towards(const Tensor& x, const Tensor& x0, double sigma, double next) {
  return x0 + (x - x0) * (next / sigma);
}

Tensor half_a_step_ahead(const Tensor& x0, const Tensor& previous, double last, double sigma, double next) {
  const double step = std::log(sigma / next), last_step = std::log(last / sigma);
  return x0 + (x0 - previous) * (step / (2 * last_step));
}

}  // namespace emulsion::diffusion::solvers
