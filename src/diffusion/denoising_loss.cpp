#include "diffusion/denoising_loss.h"

#include <cmath>

#include "core/error.h"

namespace emulsion::diffusion {
namespace {

constexpr double kSmallestArea = 1e-5;  // of a mask: one that is black everywhere gives no loss, not 0 / 0
constexpr double kLargestSnr = 1000;  // of debiased, scale_v_loss and v_like_loss

/// Weight of the error of what the network predicts, from the weight of the epsilon error. Without
/// signal the error of x0 and v says nothing about epsilon.
Tensor from_epsilon(Prediction prediction, const Tensor& weight, const Tensor& snr) {
  if (prediction == Prediction::epsilon) return weight;
  const Tensor factor = prediction == Prediction::v_prediction ? snr / (snr + 1) : snr;
  return at::where(snr > 0, weight * factor, at::zeros_like(snr));
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

Tensor debiased_weight(const ObjectiveConfig& config, Prediction prediction, const Tensor& snr) {
  const Tensor capped = snr.clamp_max(kLargestSnr);
  if (prediction == Prediction::v_prediction && config.weight_for_v != WeightForV::converted) {
    const Tensor weight = 1 / (capped + 1);
    return config.weight_for_v == WeightForV::kohya ? weight : weight.sqrt();
  }
  return from_epsilon(prediction, capped.rsqrt(), capped);
}

Tensor p2_weight(const ObjectiveConfig& config, Prediction prediction, const Tensor& snr) {
  if (prediction == Prediction::v_prediction && config.weight_for_v == WeightForV::onetrainer) {
    return (snr + config.p2_k + 1).pow(-config.p2_gamma);
  }
  return from_epsilon(prediction, (snr + config.p2_k).pow(-config.p2_gamma), snr);
}

Tensor weighting_of(const ObjectiveConfig& config, Prediction prediction, const Tensor& snr) {
  const double gamma = config.min_snr_gamma;
  switch (config.weighting) {
    case LossWeighting::none:
      return at::ones_like(snr);
    case LossWeighting::min_snr:
      return min_snr_weight(prediction, snr, gamma);
    case LossWeighting::soft_min_snr:
      return from_epsilon(prediction, gamma / (snr + gamma), snr);
    case LossWeighting::debiased:
      return debiased_weight(config, prediction, snr);
    case LossWeighting::p2:
      return p2_weight(config, prediction, snr);
  }
  throw Error(ErrorCode::internal, "[objective] unknown weighting");
}

}  // namespace

Tensor loss_weight(const ObjectiveConfig& config, Prediction prediction, const Tensor& snr) {
  const Tensor ratio = snr.to(at::kFloat), capped = ratio.clamp_max(kLargestSnr);
  Tensor weight = weighting_of(config, prediction, ratio);
  if (config.scale_v_loss) weight = weight * (capped / (capped + 1));
  if (config.v_like_loss > 0) weight = weight * (1 + config.v_like_loss * (1 + 1 / capped));
  return weight;
}

NoiseLevels::NoiseLevels(const NoiseSchedule& schedule, const Tensor& timesteps)
    : snr(schedule.snr(timesteps)),
      place(timesteps.to(at::kDouble) / static_cast<double>(schedule.size())) {}

Tensor huber_threshold(const ObjectiveConfig& config, const NoiseLevels& levels) {
  const double c = config.huber_c;
  const auto scaled = [&](const Tensor& value) {
    return (config.huber_scale * value).to(at::kFloat);
  };
  switch (config.huber_schedule) {
    case HuberSchedule::constant:
      return scaled(at::full_like(levels.place, c));
    case HuberSchedule::exponential:
      return scaled(at::pow(c, levels.place));
    case HuberSchedule::snr:
      return scaled((1 - c) / (1 + levels.snr.to(at::kDouble).rsqrt()).square() + c);
  }
  throw Error(ErrorCode::internal, "[objective] unknown schedule of huber_c");
}

Tensor pointwise_loss(PointwiseLoss kind, const Tensor& out, const Tensor& target,
                      const Tensor& c) {
  EMULSION_CHECK(out.sizes() == target.sizes(), shape,
                 "[objective] expected an output of the target's shape [{}], got [{}]",
                 fmt::join(target.sizes(), ","), fmt::join(out.sizes(), ","));
  const Tensor difference = out.to(at::kFloat) - target.to(at::kFloat);
  if (kind == PointwiseLoss::l2) return difference.square();
  if (kind == PointwiseLoss::l1) return difference.abs();
  std::vector<int64_t> rows(static_cast<size_t>(out.dim()), 1);
  rows[0] = out.size(0);
  const Tensor turn = c.view(rows);
  const Tensor excess = 2 * ((difference.square() + turn.square()).sqrt() - turn);
  return kind == PointwiseLoss::huber ? turn * excess : excess;
}

Tensor sample_losses(const ObjectiveConfig& config, Prediction prediction, const Tensor& out,
                     const Tensor& target, const NoiseLevels& levels, const Tensor& mask) {
  // A sum to a single number is cut by the number of threads; one per channel is not.
  const auto mean = [](const Tensor& values) { return values.mean({2, 3}).mean(1); };
  const Tensor errors = pointwise_loss(config.loss, out, target, huber_threshold(config, levels));
  const Tensor weight = loss_weight(config, prediction, levels.snr);
  if (!mask.defined()) return mean(errors) * weight;
  const Tensor counts = mask.to(errors.options()).clamp_min(config.unmasked_weight);
  const Tensor masked = mean(errors * counts) * weight;
  return config.normalize_masked_area ? masked / mean(counts).clamp_min(kSmallestArea) : masked;
}

}  // namespace emulsion::diffusion
