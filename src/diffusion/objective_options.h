// The choices of the denoising objective: which timesteps are drawn, how an error becomes a loss,
// and how much each noise level counts.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "core/random.h"
#include "core/tensor.h"
#include "diffusion/prediction.h"

namespace emulsion::diffusion {

enum class TimestepSampling { uniform, stratified };
enum class LossWeighting { none, min_snr };
enum class PointwiseLoss { l2, l1, huber };

constexpr auto enum_names(TimestepSampling) {
  return std::to_array<std::pair<TimestepSampling, const char*>>(
      {{TimestepSampling::uniform, "uniform"}, {TimestepSampling::stratified, "stratified"}});
}
constexpr auto enum_names(LossWeighting) {
  return std::to_array<std::pair<LossWeighting, const char*>>(
      {{LossWeighting::none, "none"}, {LossWeighting::min_snr, "min_snr"}});
}
constexpr auto enum_names(PointwiseLoss) {
  return std::to_array<std::pair<PointwiseLoss, const char*>>(
      {{PointwiseLoss::l2, "l2"}, {PointwiseLoss::l1, "l1"}, {PointwiseLoss::huber, "huber"}});
}

struct ObjectiveConfig {
  TimestepSampling timestep_sampling = TimestepSampling::uniform;
  LossWeighting weighting = LossWeighting::none;
  double min_snr_gamma = 5;
  PointwiseLoss loss = PointwiseLoss::l2;
  double huber_c = 0.1;

  template <class V>
  void fields(V& v) {
    v("timestep_sampling", timestep_sampling,
      "How noise levels are drawn; stratified spreads those of one step evenly, which lowers the "
      "variance of the loss.");
    v("weighting", weighting,
      "How much each noise level counts; min_snr damps the easy, low-noise ones.");
    v("min_snr_gamma", min_snr_gamma, "Signal-to-noise ratio above which min_snr damps.").above(0);
    v("loss", loss, "What is done with the difference between prediction and target.");
    v("huber_c", huber_c, "Difference at which huber turns from square to linear.").above(0);
  }
};

/// Timesteps of the samples first_index .. first_index + batch - 1 of optimizer step `step`.
///
/// Sample i depends only on (seed, step, i) and, if stratified, on `strata`: it is drawn from the
/// (i mod strata)-th of `strata` equal parts of 0..T-1. Pass the number of samples of the whole
/// optimizer step, so that gradient accumulation and several processes change nothing.
///
/// Returns: [batch], int64, in 0..timesteps-1.
Tensor sample_timesteps(TimestepSampling kind, const Rng& rng, int64_t step, int64_t first_index,
                        int64_t batch, int64_t strata, int64_t timesteps);

/// Factor of each sample's loss.
///
/// With min_snr, min(SNR, gamma) is the weight of the x0 error; the error of what the network
/// predicts is worth 1 / SNR (epsilon) or 1 / (SNR + 1) (v) of that.
///
/// Shapes:  `snr` [B]. Returns [B], float32.
/// Source:  Hang et al. 2023, arXiv:2303.09556, eq. 9.
Tensor loss_weight(const ObjectiveConfig& config, Prediction prediction, const Tensor& snr);

/// l2: d^2; l1: |d|; huber: 2c (sqrt(d^2 + c^2) - c) with d = out - target, element by element,
/// float32. Source:  pseudo-Huber of Charbonnier et al. 1997, scaled to d^2 near 0.
Tensor pointwise_loss(PointwiseLoss kind, const Tensor& out, const Tensor& target, double huber_c);

/// The objective's value for each sample: mean of pointwise_loss over C, h, w times loss_weight.
///
/// Shapes:  `out`, `target` [B,C,h,w]; `snr` [B]. Returns [B], float32. Differentiable in `out`.
Tensor sample_losses(const ObjectiveConfig& config, Prediction prediction, const Tensor& out,
                     const Tensor& target, const Tensor& snr);

}  // namespace emulsion::diffusion
