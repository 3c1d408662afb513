// From prompts to pictures: text encoding, sampling with guidance, decoding.
#pragma once

#include <string>
#include <vector>

#include "core/noise.h"
#include "core/progress.h"
#include "diffusion/sampler.h"
#include "generate/decode.h"
#include "generate/grid.h"
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
  int64_t width = 0, height = 0;          // pixels; 0: the model's own size
  PromptSyntax prompt_syntax = PromptSyntax::weighted;
  int64_t clip_skip = 0;                  // see TextOptions
  Tensor init_latents;                    // [B, z, h, w] float32, standard normal; undefined: drawn from the seed
};

/// The request with every default filled in from the model. Throws Error{config} for what does not fit.
Request resolve(const Request& request, const models::Model& model);

/// Pictures `first` to `first + count - 1` of a request, as a request: the same pictures.
Request part_of(const Request& request, size_t first, size_t count);

/// Draws. Returns latents [B, z, h, w] float32 in the scale of the U-Net. Checks for a wish to stop in every step.
Tensor sample_latents(const models::Model& model, const Request& request, Reporter& reporter);

}  // namespace emulsion::generate
