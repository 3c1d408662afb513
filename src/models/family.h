// The Stable Diffusion families as data: one row says all that their checkpoints have in common.
//
// Family ids are tested in two places only: this table and the detection of checkpoints.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "models/model.h"

namespace emulsion::models {

struct Family {
  std::string id;        // "sd1", "sd1_inpaint", "sd2", "sd2_v", "sd2_inpaint", "sdxl"
  std::string name;      // as people call it
  std::string pipeline;  // class of model_index.json
  UNetConfig unet;
  VaeConfig vae;
  ClipTextConfig text_encoder;
  std::optional<ClipTextConfig> text_encoder_2;
  diffusion::Prediction prediction = diffusion::Prediction::epsilon;
  int64_t size = 512;                   // pixels per side that the model was made for
  bool zeros_for_empty_prompt = false;  // Model::zeros_for_empty_prompt

  bool operator==(const Family&) const = default;
};

/// Those that are built. Sources: the config.json files of the published models.
const std::vector<Family>& families();

/// Throws: Error{not_found} with the ids; Error{unsupported} for a family that is known and not built.
const Family& find_family(std::string_view id);

/// The same wiring (block types, options, number of text encoders) at a few thousand weights: 64 pixels, latents of 32, text
/// vocabulary of 612.
Family tiny(const Family& family);

/// Families that are recognised, to be refused by name.
struct UnbuiltFamily {
  std::string id;
  std::string name;
};
const std::vector<UnbuiltFamily>& unbuilt_families();
/// Error{unsupported}: "[where] this is Stable Diffusion 3, which is not built; ...".
[[noreturn]] void refuse_family(std::string_view id, const std::string& where);

/// A model of that family without weights: parts declared, tokenizers and scheduler set.
Model declare(const Family& family);

/// The same with random weights, a pure function of (family, rng's seed).
Model new_model(const Family& family, const Rng& rng);

}  // namespace emulsion::models
