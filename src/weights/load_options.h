// How a model is read, and what was decided and found while reading it.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "diffusion/prediction.h"
#include "models/vae.h"

namespace emulsion::weights {

/// Filled by the loaders where LoadOptions::report points to one.
struct LoadReport {
  struct Decision {
    std::string what;  // "Stable Diffusion XL base"
    std::string from;  // "conditioner.embedders.1.model.token_embedding.weight [49408, 1280]"
  };
  std::vector<Decision> decisions;
  std::vector<std::string> ignored;  // tensors that no model needs: buffers of training, position_ids
  std::vector<std::string> unknown;  // tensors that belong to no part
  std::vector<std::string> lacking;  // parts that a model of this family has and this one lacks

  void decide(std::string what, std::string from) { decisions.push_back({std::move(what), std::move(from)}); }
};

struct LoadOptions {
  /// Of the tensors in memory. Undefined: as they are stored.
  at::ScalarType dtype = at::kFloat;
  /// Which parts to load; empty: all that are there ("vae", "unet", "text_encoder", "text_encoder_2"; tokenizers and
  /// scheduler are always read).
  std::set<std::string> parts = {};

  // Folders.
  /// "fp16" reads the *.fp16.* files. Empty: the plain ones; where there are none, the only variant there is.
  std::string variant = "";

  // Single files: what shapes cannot tell, or told wrongly.
  std::string family = "";                                          // "sd2_v": a row of models::families()
  std::optional<diffusion::Prediction> prediction = std::nullopt;
  std::filesystem::path config = "";                                // a folder with the config.json files of the parts
  bool ema = false;                                                 // averages ("model_ema.*") instead of trained weights
  /// SDXL's text_projection as kohya's sd-scripts read and write it: not transposed, so with another pooled vector.
  bool kohya_text_projection = false;

  /// The autoencoder that a lone one will replace: scaling factors, which a file of only tensors does not have.
  const models::VaeConfig* vae_like = nullptr;

  LoadReport* report = nullptr;

  bool wants(const std::string& part) const { return parts.empty() || parts.contains(part); }
};

}  // namespace emulsion::weights
