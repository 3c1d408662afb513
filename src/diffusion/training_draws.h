// What chance decides in denoising training: the timestep and the noise of every sample.
#pragma once

#include "core/random.h"
#include "core/tensor.h"
#include "diffusion/objective_options.h"

namespace emulsion::diffusion {

/// Timesteps of the samples first_index .. first_index + batch - 1 of optimizer step `step`.
///
/// Sample i depends only on (seed, step, i) and, unless uniform, on `strata`. Pass the number of
/// samples of the whole optimizer step, so that gradient accumulation and several processes change
/// nothing. A number u in [0, 1) is
///   uniform     independent of all others
///   stratified  from the (i mod strata)-th of `strata` equal parts
///   sobol       the binary digits of step * strata + i behind the point, last digit first, each
///               flipped or not for the whole run: any 2^k in a row that begin at a multiple of 2^k
///               have one in each of 2^k equal parts. Sobol 1967; one dimension, digital shift.
/// and becomes the place x in [0, 1) at which x's density has that share below it:
///   flat          x = u
///   logit_normal  log(x / (1 - x)) normal with logit_mean, logit_std; Esser et al. 2024,
///                 arXiv:2403.03206, sec. 3.1, with its t = 1, pure noise, at the last timestep
///   timestep_bias b > 0: density (1 + b) x^b; b < 0: density (1 - b) (1 - x)^-b
/// The timestep is min + floor(x (max - min)), min and max being min_timestep and max_timestep.
///
/// Returns: [batch], int64, in min_timestep..max_timestep-1; 0 for max_timestep means `timesteps`.
Tensor sample_timesteps(const ObjectiveConfig& config, const Rng& rng, int64_t step,
                        int64_t first_index, int64_t batch, int64_t strata, int64_t timesteps);

/// The noise of one draw, and so the target of the network.
///
/// e = standard normal; with noise_offset k, e + k o, o one normal number per channel. The strength
/// is u k with noise_offset_random, u uniform; noise_offset_adaptive a makes it
/// max(0, k + a |mean of the latent's channel|).
/// With pyramid_iterations, e + sum over i of discount^i up(n_i), divided by its standard
/// deviation: n_i is normal noise of 1 / r^i of the size, r uniform in 2..4 for every i, the first
/// being of full size; up is bilinear. It ends when a side is 1.
///
/// The offset comes first, so that the deviation of pyramid noise counts it in.
/// sd-scripts takes u, r and the deviation once for a whole batch; here each belongs to the draw.
///
/// Shapes:  `latent` [C,h,w], float32, as the U-Net sees it. Returns: [C,h,w], float32.
/// Source:  Guttenberg 2023, crosslabs.org/blog/diffusion-with-offset-noise; Whitaker 2023,
///          "Multi-Resolution Noise for Diffusion Model Training"; sd-scripts.
Tensor training_noise(const ObjectiveConfig& config, const Rng& rng, int64_t draw,
                      const Tensor& latent);

/// What the network's input gets beside the noise of one draw: input_perturbation times normal
/// noise, times a uniform number with input_perturbation_random. The target does not change
/// (as in diffusers and sd-scripts; OneTrainer adds it to the target too).
///
/// Returns: [C,h,w], float32; undefined without input_perturbation.
/// Source:  Ning et al. 2023, arXiv:2301.11706, alg. 1.
Tensor input_perturbation(const ObjectiveConfig& config, const Rng& rng, int64_t draw,
                          at::IntArrayRef shape);

}  // namespace emulsion::diffusion
