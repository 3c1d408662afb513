#include "train/objective.h"

namespace emulsion::train {
namespace {

/// Mean absolute error per sample of the differences between neighbours, in both directions.
Tensor edge_error(const Tensor& difference) {
  const Tensor dx = (difference.narrow(3, 1, difference.size(3) - 1) - difference.narrow(3, 0, difference.size(3) - 1)).abs();
  const Tensor dy = (difference.narrow(2, 1, difference.size(2) - 1) - difference.narrow(2, 0, difference.size(2) - 1)).abs();
  return dx.mean({1, 2, 3}) + dy.mean({1, 2, 3});
}

}  // namespace

Tensor Denoising::predict(const models::UNet& unet, const DenoisingInputs& in) const {
  const Tensor seen = in.perturbation.defined() ? in.noise + in.perturbation : in.noise;
  const Tensor x_t = diffusion::add_noise(in.latents, seen, schedule.at(in.timesteps));
  return unet.forward(x_t.to(in.conditioning.context.scalar_type()), in.timesteps, in.conditioning).to(at::kFloat);
}

Loss Denoising::operator()(const models::UNet& unet, const DenoisingInputs& in) const {
  const Tensor out = predict(unet, in);
  Tensor target = diffusion::target(prediction, in.latents, in.noise, schedule.at(in.timesteps));
  if (in.taught.defined()) target = target.index_copy(0, in.taught, in.teacher);
  const Tensor losses = diffusion::sample_losses(options, prediction, out, target, {schedule, in.timesteps}, in.mask);
  return {(in.weights.defined() ? losses * in.weights.to(losses.device()) : losses).mean(), losses.detach(), out};
}

Loss autoencoder_loss(const models::Vae& vae, const AutoencoderMethod& weights, const Tensor& pixels, const Tensor& eps) {
  const models::Posterior posterior(vae.encode(pixels).to(at::kFloat));
  const Tensor decoded = vae.decode(posterior.sample(eps).to(pixels.scalar_type())).to(at::kFloat);
  // Each difference is taken once; its edges are those of the two pictures' difference.
  const Tensor difference = decoded - pixels;
  Tensor losses = weights.l1 * difference.abs().mean({1, 2, 3}) + weights.l2 * difference.square().mean({1, 2, 3});
  if (weights.gradient > 0) {
    losses = losses + weights.gradient * (edge_error(difference) + 0.5 * edge_error(at::avg_pool2d(difference, 2)));
  }
  const Tensor value = losses.mean() + weights.kl * posterior.kl();
  return {value, losses.detach(), decoded};
}

}  // namespace emulsion::train
