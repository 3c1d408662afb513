// The discrete noise schedule of a variance-preserving model: x_t = alpha x0 + sigma eps.
//
// Two parametrisations are in use. Training takes (alpha, sigma) with alpha^2 + sigma^2 = 1 at an
// integer timestep 0..T-1. Solvers take one number, sigma / alpha, called `sigma` as in
// k-diffusion, where x = x0 + sigma eps; the network sees x / sqrt(1 + sigma^2).
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace emulsion::diffusion {

enum class BetaSchedule { linear, scaled_linear, squaredcos_cap_v2 };

constexpr auto enum_names(BetaSchedule) {
  return std::to_array<std::pair<BetaSchedule, const char*>>(
      {{BetaSchedule::linear, "linear"},
       {BetaSchedule::scaled_linear, "scaled_linear"},
       {BetaSchedule::squaredcos_cap_v2, "squaredcos_cap_v2"}});
}

/// The defaults are those of Stable Diffusion 1, 2 and XL.
struct NoiseScheduleConfig {
  BetaSchedule beta_schedule = BetaSchedule::scaled_linear;
  double beta_start = 0.00085;
  double beta_end = 0.012;
  int64_t timesteps = 1000;
  bool zero_terminal_snr = false;

  template <class V>
  void fields(V& v) {
    v("beta_schedule", beta_schedule,
      "How the noise added per timestep grows; squaredcos_cap_v2 ignores beta_start and beta_end.");
    v("beta_start", beta_start, "Noise variance added at the first timestep.").above(0).below(1);
    v("beta_end", beta_end, "Noise variance added at the last timestep.").above(0).below(1);
    v("timesteps", timesteps, "Number of noise levels.").min(2);
    v("zero_terminal_snr", zero_terminal_snr,
      "Rescale so that the last noise level is pure noise. Wants v prediction.");
  }
};

/// Factors of a noise level: x_t = alpha x0 + sigma eps.
struct Coefficients {
  Tensor alpha;  // [B,1,1,1], float32
  Tensor sigma;  // [B,1,1,1], float32
};

class NoiseSchedule {
 public:
  /// Throws: Error{config} for fewer than two timesteps or betas outside (0, 1).
  explicit NoiseSchedule(const NoiseScheduleConfig& config);

  const NoiseScheduleConfig& config() const { return config_; }
  int64_t size() const { return config_.timesteps; }

  /// Product of (1 - beta) up to each timestep: [T], float32, computed in float32 as diffusers
  /// does. With zero terminal SNR the last is exactly 0 (Lin et al. 2023, arXiv:2305.08891, alg.
  /// 1).
  const Tensor& alphas_cumprod() const { return alphas_cumprod_; }
  double alpha_bar(int64_t timestep) const;

  /// `timesteps` [B], int64, on the CPU, each in 0..T-1. Throws: Error{shape} otherwise.
  Coefficients at(const Tensor& timesteps) const;

  /// alpha^2 / sigma^2: [B], float32.
  Tensor snr(const Tensor& timesteps) const;

  /// Solver sigma of every timestep, ascending. A last alpha_bar of 0 counts as 2^-24, so that all
  /// are finite (4096 at most).
  const std::vector<double>& sigmas() const { return sigmas_; }

  /// Solver sigma at a fractional timestep: log(sigma) is linear in between; clamped to 0..T-1.
  double sigma(double timestep) const;

  /// The inverse of `sigma`, clamped to 0..T-1.
  double timestep(double sigma) const;

 private:
  Tensor gather(const Tensor& timesteps) const;

  NoiseScheduleConfig config_;
  Tensor alphas_cumprod_;
  std::vector<double> sigmas_, log_sigmas_;
};

}  // namespace emulsion::diffusion
