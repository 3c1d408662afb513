// How the difference between prediction and target becomes the loss of each sample.
#pragma once

#include "core/tensor.h"
#include "diffusion/objective_options.h"

namespace emulsion::diffusion {

/// Factor of each sample's loss: weighting, times scale_v_loss, times v_like_loss.
///
/// The x0 error times 1, the epsilon error times 1 / SNR and the v error times 1 / (SNR + 1) are
/// the same number. A weighting is stated for one of them and converted to what the network
/// predicts, so that it means the same for every prediction:
///   min_snr       min(SNR, gamma) of the x0 error; Hang et al. 2023, arXiv:2303.09556, eq. 9
///   soft_min_snr  SNR gamma / (SNR + gamma) of the x0 error; Crowson et al. 2024, arXiv:2401.11605
///   debiased      1 / sqrt(SNR) of the epsilon error; Yu et al. 2023, arXiv:2310.08442
///   p2            (k + SNR)^-gamma of the epsilon error; Choi et al. 2022, arXiv:2204.00227
/// With weight_for_v, debiased is 1 / (SNR + 1) (kohya) or 1 / sqrt(SNR + 1) (onetrainer) of the v
/// error, and p2 is (k + 1 + SNR)^-gamma of it (onetrainer).
///
/// scale_v_loss multiplies by SNR / (SNR + 1): the v error becomes the epsilon error (sd-scripts'
/// --scale_v_pred_loss_like_noise_pred). v_like_loss multiplies by 1 + w (SNR + 1) / SNR: adds w
/// times the v error (--v_pred_like_loss). Both multiply whatever the weighting is, as there.
///
/// debiased, scale_v_loss and v_like_loss take SNR as at most 1000, as sd-scripts does. SNR is that
/// of the schedule that trains; sd-scripts takes that of the schedule before zero_terminal_snr.
///
/// Shapes:  `snr` [B]. Returns [B], float32; not finite where SNR = 0 makes it so.
Tensor loss_weight(const ObjectiveConfig& config, Prediction prediction, const Tensor& snr);

/// The noise of each sample, in the two measures that the losses use.
struct NoiseLevels {
  Tensor snr;    // [B], float32: alpha^2 / sigma^2
  Tensor place;  // [B], float64: timestep / number of timesteps

  NoiseLevels(const NoiseSchedule& schedule, const Tensor& timesteps);
};

/// The difference c at which huber and smooth_l1 turn, with h = huber_c:
///   constant     h
///   exponential  h^(timestep / number of timesteps)
///   snr          (1 - h) / (1 + s)^2 + h, s = 1 / sqrt(SNR)
/// each times huber_scale. sd-scripts leaves huber_scale out of snr: 1 gives its numbers.
///
/// Returns: [B], float32. Source: Khrapov et al. 2024, arXiv:2403.16728; sd-scripts.
Tensor huber_threshold(const ObjectiveConfig& config, const NoiseLevels& levels);

/// Element by element, with d = out - target, in float32:
///   l2         d^2
///   l1         |d|
///   huber      2c (sqrt(d^2 + c^2) - c), which is d^2 near 0
///   smooth_l1  2 (sqrt(d^2 + c^2) - c), which is d^2 / c near 0
/// Shapes:  `out`, `target` [B,...]; `c` [B], undefined for l2 and l1. Returns as `out`.
/// Throws:  Error{shape} if the shapes differ.
/// Source:  pseudo-Huber of Charbonnier et al. 1997, scaled as in sd-scripts.
Tensor pointwise_loss(PointwiseLoss kind, const Tensor& out, const Tensor& target,
                      const Tensor& c = {});

/// The objective's value for each sample: mean of pointwise_loss over C, h, w times loss_weight.
///
/// With a mask, each place counts max(mask, unmasked_weight), and with normalize_masked_area the mean is divided by the mean
/// of that. sd-scripts' masked loss: no least weight, no division; ai-toolkit's: divided; OneTrainer's: 0.1, divided by choice.
///
/// Shapes:  `out`, `target` [B,C,h,w]; `mask` [B,1,h,w], 0 to 1, or undefined. Returns [B], float32. Differentiable in `out`.
Tensor sample_losses(const ObjectiveConfig& config, Prediction prediction, const Tensor& out,
                     const Tensor& target, const NoiseLevels& levels, const Tensor& mask = {});

}  // namespace emulsion::diffusion
