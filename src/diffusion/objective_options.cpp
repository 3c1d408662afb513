#include "diffusion/objective_options.h"

#include <cmath>

#include "core/error.h"

namespace emulsion::diffusion {
namespace {

int64_t draw_uniform(Stream& stream, int64_t, int64_t, int64_t timesteps) {
  return stream.below(timesteps);
}

int64_t draw_stratified(Stream& stream, int64_t index, int64_t strata, int64_t timesteps) {
  const double part = static_cast<double>(index % strata) + stream.uniform();
  const double place = part / static_cast<double>(strata) * static_cast<double>(timesteps);
  return std::min(static_cast<int64_t>(place), timesteps - 1);
}

/// Weight of the predicted quantity's error, per unit of min(SNR, gamma); all are written without 0
/// / 0 at SNR = 0.
Tensor min_snr_weight(Prediction prediction, const Tensor& snr, double gamma) {
  switch (prediction) {
    case Prediction::epsilon:
      return (gamma / snr).clamp_max(1);
    case Prediction::v_prediction:
      return snr.clamp_max(gamma) / (snr + 1);
    case Prediction::sample:
      return snr.clamp_max(gamma);
  }
  throw Error(ErrorCode::internal, "[objective] unknown prediction");
}

}  // namespace

Tensor sample_timesteps(TimestepSampling kind, const Rng& rng, int64_t step, int64_t first_index,
                        int64_t batch, int64_t strata, int64_t timesteps) {
  EMULSION_CHECK(batch > 0 && strata > 0 && timesteps > 0, internal,
                 "[objective] expected positive batch, strata and timesteps, got {}, {} and {}",
                 batch, strata, timesteps);
  const auto draw = kind == TimestepSampling::uniform ? draw_uniform : draw_stratified;
  Tensor drawn = at::empty({batch}, at::kLong);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t index = first_index + b;
    Stream stream = rng.stream(Purpose::timestep, step, index);
    drawn.mutable_data_ptr<int64_t>()[b] = draw(stream, index, strata, timesteps);
  }
  return drawn;
}

Tensor loss_weight(const ObjectiveConfig& config, Prediction prediction, const Tensor& snr) {
  if (config.weighting == LossWeighting::none) return at::ones_like(snr, at::kFloat);
  return min_snr_weight(prediction, snr.to(at::kFloat), config.min_snr_gamma);
}

Tensor pointwise_loss(PointwiseLoss kind, const Tensor& out, const Tensor& target, double huber_c) {
  EMULSION_CHECK(out.sizes() == target.sizes(), shape,
                 "[objective] expected an output of the target's shape [{}], got [{}]",
                 fmt::join(target.sizes(), ","), fmt::join(out.sizes(), ","));
  const Tensor difference = out.to(at::kFloat) - target.to(at::kFloat);
  switch (kind) {
    case PointwiseLoss::l2:
      return difference.square();
    case PointwiseLoss::l1:
      return difference.abs();
    case PointwiseLoss::huber:
      return 2 * huber_c * ((difference.square() + huber_c * huber_c).sqrt() - huber_c);
  }
  throw Error(ErrorCode::internal, "[objective] unknown pointwise loss");
}

Tensor sample_losses(const ObjectiveConfig& config, Prediction prediction, const Tensor& out,
                     const Tensor& target, const Tensor& snr) {
  const Tensor errors = pointwise_loss(config.loss, out, target, config.huber_c);
  return errors.flatten(1).mean(1) * loss_weight(config, prediction, snr);
}

}  // namespace emulsion::diffusion
