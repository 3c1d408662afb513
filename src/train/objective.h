// The losses: denoising and autoencoding, as functions of tensors.
#pragma once

#include "core/tensor.h"
#include "diffusion/denoising_loss.h"
#include "diffusion/noise_schedule.h"
#include "diffusion/objective_options.h"
#include "diffusion/prediction.h"
#include "models/unet.h"
#include "models/vae.h"
#include "train/config.h"

namespace emulsion::train {

/// A loss with what is needed to judge it.
struct Loss {
  Tensor value;       // scalar float32, differentiable
  Tensor per_sample;  // [B] float32: whose picture went wrong
  Tensor prediction;  // the network's output; undefined where there is none to look at
};

struct DenoisingInputs {
  Tensor latents;    // [B, C, h, w] float32, in the scale of the U-Net
  Tensor noise;      // [B, C, h, w] float32: what the target is made of
  Tensor timesteps;  // [B] int64
  models::Conditioning conditioning;
  Tensor weights = {};  // [B] float32, of the losses; undefined: 1 each
  Tensor perturbation = {};  // [B, C, h, w] float32: added to the noise that the network sees; undefined: nothing
  Tensor mask = {};  // [B, 1, h, w] float32, 0 to 1: what counts; undefined: everything
  /// What stands for the target of the samples `taught`: a teacher's prediction. Both undefined: nothing.
  Tensor teacher = {};  // [n, C, h, w] float32
  Tensor taught = {};   // [n] int64
};

/// What is fixed for all steps of a denoising run.
struct Denoising {
  diffusion::NoiseSchedule schedule;
  diffusion::Prediction prediction;
  diffusion::ObjectiveConfig options;

  /// The network's output for the noisy latents, [B, C, h, w] float32.
  Tensor predict(const models::UNet& unet, const DenoisingInputs& inputs) const;

  /// Adds noise, asks the network, compares. Source: Ho et al. 2020, arXiv:2006.11239, eq. 14.
  Loss operator()(const models::UNet& unet, const DenoisingInputs& inputs) const;
};

/// l1 |d| + l2 d^2 + gradient term + KL, with d = reconstruction - pixels.
/// Shapes: pixels [B, 3, H, W] in [-1, 1]; eps [B, z, h, w] standard normal.
Loss autoencoder_loss(const models::Vae& vae, const AutoencoderMethod& weights, const Tensor& pixels, const Tensor& eps);

}  // namespace emulsion::train
