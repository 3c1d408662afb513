// From prompts to pictures: text encoding, sampling with guidance, decoding.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/progress.h"
#include "diffusion/sampler.h"
#include "generate/text_states.h"
#include "models/model.h"

namespace emulsion::generate {

/// What to draw. One picture per prompt; the i-th uses seed + i.
struct Request {
  std::vector<std::string> prompts;
  std::string negative;
  int64_t seed = 0;
  int64_t steps = 20;
  double cfg = 7;                         // 1: no guidance
  std::string sampler;                    // id; empty: what the model's scheduler says
  std::string schedule;                   // id; empty: what the model's scheduler says
  int64_t width = 0, height = 0;          // pixels; 0: the model's own size
  PromptSyntax prompt_syntax = PromptSyntax::weighted;
  Tensor init_latents;                    // [B, C, h, w] float32, standard normal; undefined: drawn from the seed
};

/// The request with every default filled in from the model. Throws Error{config} for what does not fit.
Request resolve(const Request& request, const models::Model& model);

/// Draws. Returns latents [B, C, h, w] float32 in the scale of the U-Net. Checks for a wish to stop in every step.
Tensor sample_latents(const models::Model& model, const Request& request, Reporter& reporter);

/// Pixels [B, 3, H, W] in [-1, 1], clamped -> uint8 [B, H, W, 3].
Tensor to_bytes(const Tensor& pixels);

/// Latents in the scale of the U-Net -> pixels uint8 [B, H, W, 3].
Tensor decode_latents(const models::Model& model, const Tensor& latents);

/// The A1111-style text that goes into the PNG: prompt, negative, then "Steps: 20, Sampler: ...".
std::string parameters_text(const Request& request, size_t index, const std::string& model_name,
                            const std::vector<std::pair<std::string, double>>& loras);

/// Pictures side by side: uint8 [B, H, W, 3] -> [rows (H+gap) , columns (W+gap), 3] on white.
Tensor make_grid(const Tensor& pictures, int64_t columns, int64_t gap = 2);

}  // namespace emulsion::generate
