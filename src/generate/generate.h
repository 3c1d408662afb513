// From prompts to pictures: text encoding, sampling with guidance, decoding.
#pragma once

#include <string>
#include <vector>

#include "core/noise.h"
#include "core/progress.h"
#include "diffusion/sampler.h"
#include "generate/encode.h"
#include "generate/grid.h"
#include "generate/source.h"
#include "generate/text_states.h"
#include "models/model.h"

namespace emulsion::generate {

/// What to draw. One picture per prompt; the i-th uses seed + i.
struct Request {
  std::vector<std::string> prompts;
  std::string negative;
  int64_t seed = 0;
  NoiseSource rng = NoiseSource::emulsion;
  int64_t steps = 20;
  double cfg = 7;                         // 1: no guidance
  double cfg_rescale = 0;                 // 0 to 1, see diffusion::cfg
  std::string sampler;                    // id; empty: what the model's scheduler says
  std::string schedule;                   // id; empty: what the model's scheduler says
  int64_t width = 0, height = 0;          // pixels; 0: the source's size, or the model's own
  Source source;                          // a picture to start from
  PromptSyntax prompt_syntax = PromptSyntax::weighted;
  int64_t clip_skip = 0;                  // see TextOptions
  std::vector<std::vector<models::NamedTokens>> names;  // see TextOptions
  Tensor init_latents;                    // [B, z, h, w] float32, standard normal; undefined: drawn from the seed
  Tiling vae_tiling = Tiling::automatic;
};

/// The request with every default filled in from the model. Throws Error{config} for what does not fit.
Request resolve(const Request& request, const models::Model& model);

/// How many pictures of a side to draw at once where nobody says: as many as one of 512 pixels has numbers.
int64_t pictures_together(int64_t side);

/// Pictures `first` to `first + count - 1` of a request, as a request: the same pictures.
Request part_of(const Request& request, size_t first, size_t count);

/// Draws. Returns latents [B, z, h, w] float32 in the scale of the U-Net. Checks for a wish to stop in every step.
///
/// From a picture, sampling starts where its noise has the strength asked for. With a mask, an inpainting model reads mask and
/// masked picture (inpainting_channels); for another model the estimate of x0 is the picture's own wherever it is kept, in
/// every step, so that the kept part is the picture with the noise of its step. (diffusers and A1111's web UI blend after each
/// step instead, which is the same for solvers that draw no noise.)
/// With NoiseSource::cpu the first numbers choose the picture's latent, as diffusers does; otherwise it is the mean.
Tensor sample_latents(const models::Model& model, const Request& request, Reporter& reporter);

/// Latents of a resolved request -> its pictures, uint8 [B, H, W, 3]; with a mask, kept pixels are the source's bits.
Tensor finish(const models::Model& model, const Request& request, const Tensor& latents, Reporter& reporter);

}  // namespace emulsion::generate
