#include "diffusion/noise_schedule.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace emulsion::diffusion {
namespace {

/// Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17, as betas capped at 0.999.
Tensor cosine_betas(int64_t timesteps) {
  const auto alpha_bar = [](double t) {
    return std::pow(std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2), 2);
  };
  std::vector<double> betas;
  for (int64_t i = 0; i < timesteps; ++i) {
    const double from = static_cast<double>(i) / timesteps;
    const double to = static_cast<double>(i + 1) / timesteps;
    betas.push_back(std::min(1 - alpha_bar(to) / alpha_bar(from), 0.999));
  }
  return at::tensor(betas, at::kDouble).to(at::kFloat);
}

Tensor betas_of(const NoiseScheduleConfig& config) {
  switch (config.beta_schedule) {
    case BetaSchedule::linear:
      return at::linspace(config.beta_start, config.beta_end, config.timesteps, at::kFloat);
    case BetaSchedule::scaled_linear:
      return at::linspace(std::sqrt(config.beta_start), std::sqrt(config.beta_end),
                          config.timesteps, at::kFloat)
          .pow(2);
    case BetaSchedule::squaredcos_cap_v2:
      return cosine_betas(config.timesteps);
  }
  throw Error(ErrorCode::internal, "[noise schedule] unknown beta schedule");
}

/// Lin et al. 2023, arXiv:2305.08891, alg. 1: sqrt(alpha_bar) is shifted so that its last value is
/// 0 and scaled so that its first stays.
Tensor with_zero_terminal_snr(const Tensor& betas) {
  Tensor root = (1 - betas).cumprod(0).sqrt();
  const Tensor first = root[0].clone(), last = root[-1].clone();
  root = (root - last) * (first / (first - last));
  const Tensor alpha_bar = root.pow(2);
  const Tensor alphas =
      at::cat({alpha_bar.slice(0, 0, 1), alpha_bar.slice(0, 1) / alpha_bar.slice(0, 0, -1)});
  return 1 - alphas;
}

}  // namespace

NoiseSchedule::NoiseSchedule(const NoiseScheduleConfig& config) : config_(config) {
  EMULSION_CHECK(config.timesteps >= 2, config,
                 "[noise schedule] expected at least 2 timesteps, got {}", config.timesteps);
  for (const double beta : {config.beta_start, config.beta_end}) {
    EMULSION_CHECK(beta > 0 && beta < 1, config,
                   "[noise schedule] expected betas between 0 and 1, got {}", beta);
  }
  Tensor betas = betas_of(config);
  if (config.zero_terminal_snr) betas = with_zero_terminal_snr(betas);
  alphas_cumprod_ = (1 - betas).cumprod(0);

  Tensor finite = alphas_cumprod_;
  if (config.zero_terminal_snr) {
    finite = finite.clone();
    finite[-1].fill_(0x1p-24);
  }
  const Tensor sigmas = ((1 - finite) / finite).sqrt();
  const float* values = sigmas.const_data_ptr<float>();
  sigmas_.assign(values, values + size());
  for (const double sigma : sigmas_) log_sigmas_.push_back(std::log(sigma));
}

double NoiseSchedule::alpha_bar(int64_t timestep) const {
  EMULSION_CHECK(timestep >= 0 && timestep < size(), shape,
                 "[noise schedule] expected a timestep in 0..{}, got {}", size() - 1, timestep);
  return alphas_cumprod_.const_data_ptr<float>()[timestep];
}

Tensor NoiseSchedule::gather(const Tensor& timesteps) const {
  EMULSION_CHECK(timesteps.dim() == 1 && timesteps.scalar_type() == at::kLong, shape,
                 "[noise schedule] expected timesteps [B] int64, got {} dimensions of {}",
                 timesteps.dim(), at::toString(timesteps.scalar_type()));
  const Tensor contiguous = timesteps.contiguous();
  const int64_t* values = contiguous.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < contiguous.numel(); ++i) alpha_bar(values[i]);  // range check
  return alphas_cumprod_.index_select(0, contiguous);
}

Coefficients NoiseSchedule::at(const Tensor& timesteps) const {
  const Tensor alpha_bar = gather(timesteps).view({-1, 1, 1, 1});
  return {alpha_bar.sqrt(), (1 - alpha_bar).sqrt()};
}

Tensor NoiseSchedule::snr(const Tensor& timesteps) const {
  const Tensor alpha_bar = gather(timesteps);
  return alpha_bar / (1 - alpha_bar);
}

double NoiseSchedule::sigma(double timestep) const {
  const double t = std::clamp(timestep, 0.0, static_cast<double>(size() - 1));
  const auto low = std::min(static_cast<int64_t>(t), size() - 2);
  const double w = t - static_cast<double>(low);
  if (w == 0) return sigmas_[low];
  return std::exp((1 - w) * log_sigmas_[low] + w * log_sigmas_[low + 1]);
}

double NoiseSchedule::timestep(double sigma) const {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  const auto above = std::upper_bound(log_sigmas_.begin(), log_sigmas_.end(), log_sigma);
  const int64_t low = std::clamp<int64_t>(above - log_sigmas_.begin() - 1, 0, size() - 2);
  const double w = (log_sigma - log_sigmas_[low]) / (log_sigmas_[low + 1] - log_sigmas_[low]);
  return static_cast<double>(low) + std::clamp(w, 0.0, 1.0);
}

}  // namespace emulsion::diffusion
