// Quantiles of the beta distribution: the declaration is in spacings.h.
#include <cmath>

#include "diffusion/spacings.h"

namespace emulsion::diffusion {
namespace {

/// The continued fraction of I_x(a, b), by Lentz' method; converges fast for x < (a+1)/(a+b+2).
/// Source: Abramowitz & Stegun 1964, 26.5.8.
double continued_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m < 300; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double factor = 1;
    for (const double term : {even, odd}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      factor = c * d;
      value *= factor;
    }
    if (std::abs(factor - 1) < 1e-16) break;
  }
  return value;
}

double regularised_beta(double x, double a, double b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - regularised_beta(1 - x, b, a);
  const double log_front =
      std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x);
  return std::exp(log_front) * continued_fraction(x, a, b) / a;
}

}  // namespace

double beta_quantile(double p, double a, double b) {
  double low = 0, high = 1;
  if (p <= 0 || p >= 1) return p <= 0 ? low : high;
  while (high - low > 1e-16) {  // bisection: at most 54 rounds
    const double middle = (low + high) / 2;
    if (middle == low || middle == high) break;
    (regularised_beta(middle, a, b) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace emulsion::diffusion
