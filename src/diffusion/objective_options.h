// The choices of the denoising objective, the [objective] table of a run file: which timesteps and
// noise are drawn (training_draws.h), how an error becomes a loss, and how much each noise level
// counts (denoising_loss.h).
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "diffusion/noise_schedule.h"
#include "diffusion/prediction.h"

namespace emulsion::diffusion {

enum class TimestepSampling { uniform, stratified, sobol };
enum class TimestepDensity { flat, logit_normal };
enum class LossWeighting { none, min_snr, soft_min_snr, debiased, p2 };
enum class WeightForV { converted, kohya, onetrainer };
enum class PointwiseLoss { l2, l1, huber, smooth_l1 };
enum class HuberSchedule { constant, exponential, snr };

constexpr auto enum_names(TimestepSampling) {
  return std::to_array<std::pair<TimestepSampling, const char*>>(
      {{TimestepSampling::uniform, "uniform"},
       {TimestepSampling::stratified, "stratified"},
       {TimestepSampling::sobol, "sobol"}});
}
constexpr auto enum_names(TimestepDensity) {
  return std::to_array<std::pair<TimestepDensity, const char*>>(
      {{TimestepDensity::flat, "flat"}, {TimestepDensity::logit_normal, "logit_normal"}});
}
constexpr auto enum_names(LossWeighting) {
  return std::to_array<std::pair<LossWeighting, const char*>>(
      {{LossWeighting::none, "none"},
       {LossWeighting::min_snr, "min_snr"},
       {LossWeighting::soft_min_snr, "soft_min_snr"},
       {LossWeighting::debiased, "debiased"},
       {LossWeighting::p2, "p2"}});
}
constexpr auto enum_names(WeightForV) {
  return std::to_array<std::pair<WeightForV, const char*>>(
      {{WeightForV::converted, "converted"},
       {WeightForV::kohya, "kohya"},
       {WeightForV::onetrainer, "onetrainer"}});
}
constexpr auto enum_names(PointwiseLoss) {
  return std::to_array<std::pair<PointwiseLoss, const char*>>(
      {{PointwiseLoss::l2, "l2"},
       {PointwiseLoss::l1, "l1"},
       {PointwiseLoss::huber, "huber"},
       {PointwiseLoss::smooth_l1, "smooth_l1"}});
}
constexpr auto enum_names(HuberSchedule) {
  return std::to_array<std::pair<HuberSchedule, const char*>>(
      {{HuberSchedule::constant, "constant"},
       {HuberSchedule::exponential, "exponential"},
       {HuberSchedule::snr, "snr"}});
}

struct ObjectiveConfig {
  TimestepSampling timestep_sampling = TimestepSampling::uniform;
  TimestepDensity timestep_density = TimestepDensity::flat;
  double logit_mean = 0;
  double logit_std = 1;
  double timestep_bias = 0;
  int64_t min_timestep = 0;
  int64_t max_timestep = 0;
  double noise_offset = 0;
  bool noise_offset_random = false;
  double noise_offset_adaptive = 0;
  int64_t pyramid_iterations = 0;
  double pyramid_discount = 0.3;
  double input_perturbation = 0;
  bool input_perturbation_random = false;
  LossWeighting weighting = LossWeighting::none;
  double min_snr_gamma = 5;
  double p2_k = 1;
  double p2_gamma = 1;
  WeightForV weight_for_v = WeightForV::converted;
  bool scale_v_loss = false;
  double v_like_loss = 0;
  PointwiseLoss loss = PointwiseLoss::l2;
  double huber_c = 0.1;
  HuberSchedule huber_schedule = HuberSchedule::constant;
  double huber_scale = 1;
  double unmasked_weight = 0;
  bool normalize_masked_area = false;

  template <class V>
  void fields(V& v) {
    v("timestep_sampling", timestep_sampling,
      "How noise levels are drawn; stratified spreads those of one step evenly, sobol those of the "
      "whole run too, which lowers the variance of the loss.");
    v("timestep_density", timestep_density,
      "How often each noise level comes; logit_normal prefers the middle.");
    v("logit_mean", logit_mean, "Of logit_normal: above 0, more noise; below 0, less.");
    v("logit_std", logit_std, "Of logit_normal: the smaller, the more it prefers the middle.")
        .above(0);
    v("timestep_bias", timestep_bias,
      "Prefer much noise (above 0) or little (below 0): 1 makes the density rise in a straight "
      "line from 0, 2 as a parabola, -1 fall.");
    v("min_timestep", min_timestep, "Least noisy timestep that is trained.").min(0);
    v("max_timestep", max_timestep, 
      "First timestep too noisy to be trained; 0: train up to the last.")
        .min(0);
    v("noise_offset", noise_offset,
      "Deviation of a number per channel that is added to all its noise, so that very dark and "
      "very bright pictures are learnt; 0.05 to 0.1 is usual, 0: none.")
        .min(0);
    v("noise_offset_random", noise_offset_random,
      "Draw the strength of each sample's offset between 0 and noise_offset.");
    v("noise_offset_adaptive", noise_offset_adaptive,
      "Added to noise_offset per unit of the latent's mean in the channel; may be negative.");
    v("pyramid_iterations", pyramid_iterations,
      "Noise of so many ever coarser sizes is added to the noise; 6 to 10 is usual, 0: none.")
        .min(0)
        .max(32);
    v("pyramid_discount", pyramid_discount, "Strength of each size relative to the finer one.")
        .above(0)
        .max(1);
    v("input_perturbation", input_perturbation,
      "Strength of noise that the network sees but is not asked for; 0.1 is usual, 0: none.")
        .min(0);
    v("input_perturbation_random", input_perturbation_random,
      "Draw each sample's strength between 0 and input_perturbation.");
    v("weighting", weighting,
      "How much each noise level counts. min_snr damps the easy, low-noise ones, soft_min_snr "
      "does so without a corner, debiased by the root of the signal-to-noise ratio, p2 by a "
      "power.");
    v("min_snr_gamma", min_snr_gamma,
      "Signal-to-noise ratio above which min_snr and soft_min_snr damp.")
        .above(0);
    v("p2_k", p2_k, "Added to the signal-to-noise ratio by p2, which damps above it.").above(0);
    v("p2_gamma", p2_gamma, "Power with which p2 damps; 0: not at all.").min(0);
    v("weight_for_v", weight_for_v,
      "What debiased and p2 mean for v prediction. converted: what they mean for epsilon; kohya "
      "and onetrainer: what these programs do.");
    v("scale_v_loss", scale_v_loss,
      "Weigh the error of a v prediction like the error of the noise that follows from it.");
    v("v_like_loss", v_like_loss,
      "How much of the error of the v that follows from an epsilon prediction is added.")
        .min(0);
    v("loss", loss,
      "What is done with the difference between prediction and target. huber and smooth_l1 are "
      "square near 0 and linear far from it; huber has l2's curvature, smooth_l1 l1's slope.");
    v("huber_c", huber_c, "Difference at which huber and smooth_l1 turn from square to linear.")
        .above(0);
    v("huber_schedule", huber_schedule,
      "How that difference changes with the noise: constant, or falling from 1 to huber_c, "
      "exponentially in the timestep or with the signal-to-noise ratio.");
    v("huber_scale", huber_scale, "Factor of that difference, whatever the schedule.").above(0);
    v("unmasked_weight", unmasked_weight, "What counts at least where a picture's mask says 0 (data.sources.mask).")
        .min(0)
        .max(1);
    v("normalize_masked_area", normalize_masked_area,
      "Divide a sample's masked loss by its mask's mean, so that a small area counts as much as a whole picture.");
  }
};

/// Rules that span fields. Throws: Error{config} with all problems, a line each.
void validate(const ObjectiveConfig& config);

/// Rules between the options and the model that trains. Throws: as above.
void validate(const ObjectiveConfig& config, Prediction prediction, const NoiseSchedule& schedule);

}  // namespace emulsion::diffusion
